"""Claim and release: which node holds which delivery."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
from tocsin.storage.base import Claims
from tocsin.storage.postgres.lanes import KEEP_PLANS, READ, Lane
from tocsin.storage.postgres.narrow import take_in_order, take_probe
from tocsin.storage.postgres.taking import FOUND, Taking
from tocsin.storage.postgres.writer import Transaction

LANES_PER_CLAIM_MAX = 200
BACKLOG_CHUNK = 5
BACKLOG_PAUSE_MS = 100
SKIPPED_PAUSE_MS = 20
"""A lane that another node was at when we looked is looked at again after so long."""
_EVER_MS = 2**62

# An exclusive lane is its owner's for as long as that node has not ended its lease.
_MINE = """
    (NOT exclusive OR owner = ANY ($1::int[])
        OR NOT EXISTS (SELECT 1 FROM nodes WHERE number = lanes.owner AND lease_until_ms > 0))
"""
# Lanes are never waited for: whoever has one locked serves it, or will be gone in a moment.
_DUE_LANES = f"""
    SELECT {READ}, {KEEP_PLANS} FROM lanes
    WHERE next_due_ms <= $2 AND channel_id <> ALL ($3::text[])
        AND organization_id <> ALL ($4::text[]) AND {_MINE}
    ORDER BY next_due_ms LIMIT $5 FOR NO KEY UPDATE SKIP LOCKED
"""
_DUE = f"""
    SELECT r.place, {FOUND}
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::int[])
        WITH ORDINALITY AS r (channel_id, from_ms, to_ms, above, room, place)
    CROSS JOIN LATERAL (
        SELECT * FROM deliveries
        WHERE status = 'waiting' AND channel_id = r.channel_id AND node = 0
            AND due_ms >= r.from_ms AND due_ms < r.to_ms AND id > r.above
        ORDER BY due_ms, id LIMIT r.room FOR NO KEY UPDATE SKIP LOCKED) AS d
    JOIN events AS e ON e.id = d.event_id
    LIMIT $6
"""
# Of the lanes that a claim has left aside.
_NEXT_LANE = f"""
    (SELECT next_due_ms FROM lanes
    WHERE next_due_ms IS NOT NULL AND channel_id <> ALL ($2::text[])
        AND organization_id <> ALL ($3::text[]) AND {_MINE}
    ORDER BY next_due_ms LIMIT 1)
"""
_NEXT = f"SELECT {_NEXT_LANE}"
_NEXT_DUE = f"""
    SELECT {_NEXT_LANE}, (
        SELECT due_ms FROM deliveries
        WHERE status = 'waiting' AND channel_id = r.channel_id AND node = 0
            AND due_ms >= r.from_ms AND due_ms < r.to_ms AND id > r.above
        ORDER BY due_ms LIMIT 1)
    FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::text[])
        WITH ORDINALITY AS r (channel_id, from_ms, to_ms, above, place)
    ORDER BY r.place
"""
_RELEASE = """
    UPDATE deliveries SET node = 0
    FROM unnest($1::text[], $2::int[]) AS v (id, claim)
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.node = ANY ($3::int[])
        AND deliveries.status = 'waiting'
        AND deliveries.id = ANY ($1::text[]) AND deliveries.id BETWEEN $4 AND $5
    RETURNING deliveries.id, deliveries.channel_id, deliveries.due_ms, deliveries.seq IS NULL
"""
_CANCEL = """
    UPDATE deliveries SET status = 'cancelled', node = 0, finished_at = $1
    WHERE id = ANY ($2::text[]) AND id BETWEEN $3 AND $4 AND status = 'waiting'
"""


class Wanted(Struct):
    """What a claim asks for; see `DataPlane.claim`."""

    now_ms: int
    room: int
    bytes_max: int
    lane_room: int
    full: Sequence[ChannelId]
    over: Sequence[OrganizationId]
    rooms: Mapping[ChannelId, int]

    def room_of(self, lane: Lane) -> int:
        return min(self.rooms.get(lane.channel_id, self.lane_room), self.room)


class _Range(Struct):
    """Rows of one lane due from one moment to before another, up to a room."""

    lane: Lane
    from_ms: int
    to_ms: int
    room: int


async def claim(at: Transaction, wanted: Wanted) -> Claims:
    """Take due lanes first, then rows of each lane up to its room; see `DataPlane.claim`."""
    await at.write()
    numbers, now_ms = list(at.numbers), wanted.now_ms
    rows = await at.connection.fetch(
        _DUE_LANES, numbers, now_ms, list(wanted.full), list(wanted.over), LANES_PER_CLAIM_MAX
    )
    taking = Taking(at, wanted.room, wanted.bytes_max)
    lanes = at.lanes.keep(row[:-1] for row in rows)
    wide: list[Lane] = []
    for lane in lanes:
        if lane.exclusive:
            lane.owner = at.node
        if lane.breaker_state is None and not lane.ordered:
            wide.append(lane)
        elif not taking.over:
            if lane.breaker_state is not None:
                await take_probe(taking, lane, now_ms)
            else:
                await take_in_order(taking, lane, now_ms, wanted.room_of(lane))
    if wide:
        await _take(taking, wide, wanted)
    aside = [*wanted.full, *(lane.channel_id for lane in lanes)]
    next_due_ms = await _next(at, wide, (numbers, aside, list(wanted.over)))
    moments = [next_due_ms, *(lane.next_due_ms for lane in lanes)]
    next_due_ms = min((ms for ms in moments if ms is not None), default=None)
    if next_due_ms is not None and not taking.held:
        # What is due was skipped: not again in the same moment.
        next_due_ms = max(next_due_ms, now_ms + SKIPPED_PAUSE_MS)
    return Claims(held=taking.held, next_due_ms=next_due_ms)


async def _take(taking: Taking, lanes: list[Lane], wanted: Wanted) -> None:
    """Hold what is due in these lanes, the earliest lane first, while there is room."""
    ranges = _ranges(lanes, wanted)
    found = await taking.at.connection.fetch(
        _DUE,
        [r.lane.channel_id for r in ranges],
        [r.from_ms for r in ranges],
        [r.to_ms for r in ranges],
        [r.lane.cancelled_through or "" for r in ranges],
        [r.room for r in ranges],
        taking.room,
    )
    rows: list[Any] = sorted(map(tuple, found), key=lambda row: (row[0], row[3], row[1]))
    await taking.hold([(ranges[row[0] - 1].lane.channel_id, row[1:]) for row in rows])


def _ranges(lanes: list[Lane], wanted: Wanted) -> list[_Range]:
    now_ms = wanted.now_ms
    ranges: list[_Range] = []
    for lane in lanes:
        room, before_ms = wanted.room_of(lane), lane.backlog_before_ms
        if before_ms is None:
            ranges.append(_Range(lane, 0, now_ms + 1, room))
            continue
        if lane.backlog_due_ms <= now_ms:
            last_ms = min(now_ms + 1, before_ms)
            ranges.append(_Range(lane, 0, last_ms, min(room, BACKLOG_CHUNK)))
            lane.backlog_due_ms = now_ms + BACKLOG_PAUSE_MS
        ranges.append(_Range(lane, before_ms, now_ms + 1, room))
    return ranges


async def _next(at: Transaction, lanes: list[Lane], others: tuple[Any, ...]) -> int | None:
    """Give lanes their exact new next due moments; returns that of the others."""
    asked: list[tuple[Lane, int, int]] = []
    for lane in lanes:
        if lane.backlog_before_ms is None:
            asked.append((lane, 0, _EVER_MS))
        else:
            asked.append((lane, 0, lane.backlog_before_ms))
            asked.append((lane, lane.backlog_before_ms, _EVER_MS))
    if not asked:
        next_due_ms: int | None = await at.connection.fetchval(_NEXT, *others)
        return next_due_ms
    rows = await at.connection.fetch(
        _NEXT_DUE,
        *others,
        [lane.channel_id for lane, _, _ in asked],
        [from_ms for _, from_ms, _ in asked],
        [to_ms for _, _, to_ms in asked],
        [lane.cancelled_through or "" for lane, _, _ in asked],
    )
    found = iter([row[1] for row in rows])
    for lane in lanes:
        _next_of(lane, found)
    next_due_ms = rows[0][0]
    return next_due_ms


def _next_of(lane: Lane, found: Iterator[int | None]) -> None:
    old_ms = next(found) if lane.backlog_before_ms is not None else None
    new_ms = next(found)
    if old_ms is None:
        lane.backlog_before_ms, lane.backlog_through, lane.backlog_due_ms = None, None, 0
        due_ms = new_ms
    else:
        due_ms = max(old_ms, lane.backlog_due_ms)
        if new_ms is not None:
            due_ms = min(due_ms, new_ms)
    lane.next_due_ms = None if due_ms is None else max(lane.blocked_until_ms, due_ms)


async def release(at: Transaction, held: Sequence[tuple[DeliveryId, int, ChannelId]]) -> None:
    """Give deliveries back where the claim still stands; they are due as they were."""
    ordered = sorted(held)
    rows = await at.connection.fetch(
        _RELEASE,
        [one[0] for one in ordered],
        [one[1] for one in ordered],
        list(at.numbers),
        ordered[0][0],
        ordered[-1][0],
    )
    for _, channel_id, due_ms, unnumbered in rows:
        give_back(at, channel_id, due_ms, unnumbered)
    await cancel_where_dropped(at, [(row[0], row[1]) for row in rows])


def give_back(at: Transaction, channel_id: ChannelId, due_ms: int, unnumbered: bool) -> None:
    """A delivery of a lane (locked) that was held is free again."""
    lane = at.lanes.get(channel_id)
    if lane is not None:
        lane.give_back(due_ms, unnumbered=unnumbered)
        at.freed = True


async def cancel_where_dropped(
    at: Transaction, waiting: Sequence[tuple[DeliveryId, ChannelId]]
) -> None:
    """End what has come free on a deleted lane, or in a backlog that was cancelled."""
    ids = sorted(
        delivery_id
        for delivery_id, channel_id in waiting
        if (lane := at.lanes.get(channel_id)) is not None
        and (lane.parked == "deleted" or delivery_id <= (lane.cancelled_through or ""))
    )
    if ids:
        await at.connection.execute(_CANCEL, at.wall_ms, ids, ids[0], ids[-1])

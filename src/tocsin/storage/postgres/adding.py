"""Publish: events, their deliveries and their idempotency keys in one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tocsin.domain.model import ChannelId, DeliveryId, EventId, Unmatched
from tocsin.storage.base import Added, Duplicate, NewEvent, Stale, Stored
from tocsin.storage.notes import PROJECT_MINUTE, project_rows
from tocsin.storage.postgres.again import TryAgain
from tocsin.storage.postgres.lanes import Lane
from tocsin.storage.postgres.noting import PROJECT_MINUTES
from tocsin.storage.postgres.writer import Transaction

# Read after the lanes are locked: whoever deletes or parks one of them either waits for this
# transaction, or has raised the version before.
_VERSIONS = """
    SELECT id, version FROM organizations WHERE id = ANY ($1::text[]) AND deleted_at IS NULL
"""
_TAKE_KEYS = """
    INSERT INTO idempotency AS i (organization_id, project_id, source, key, event_id, digest,
        type, deliveries, unmatched, created_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[],
        $7::text[], $8::int[], $9::text[], $10::bigint[])
    ON CONFLICT (organization_id, project_id, source, key) DO UPDATE SET
        event_id = excluded.event_id, digest = excluded.digest, type = excluded.type,
        deliveries = excluded.deliveries, unmatched = excluded.unmatched,
        created_at = excluded.created_at
    WHERE i.created_at < $11
    RETURNING event_id
"""
_KEYS = """
    SELECT i.organization_id, i.project_id, i.source, i.key, i.event_id, i.digest, i.type,
        i.deliveries, i.unmatched, i.created_at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS k (o, p, s, key)
    JOIN idempotency AS i ON i.organization_id = k.o AND i.project_id = k.p AND i.source = k.s
        AND i.key = k.key
    WHERE i.organization_id = ANY ($1::text[]) AND i.key = ANY ($4::text[])
"""
_NEWER_DUE = """
    SELECT 1 FROM deliveries
    WHERE status = 'waiting' AND channel_id = $1 AND node = 0 AND due_ms BETWEEN $2 AND $3 LIMIT 1
"""
_EVENTS = """
    INSERT INTO events (id, organization_id, project_id, type, data, people,
        idempotency_key, occurred_at, created_at, deliveries, unmatched)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[],
        $6::bytea[], $7::text[], $8::bigint[], $9::bigint[], $10::int[], $11::text[])
"""
_DELIVERIES = """
    INSERT INTO deliveries (id, event_id, organization_id, channel_id, project_id, event_type,
        origin, status, due_ms, node, claim, step, attempt_count, lost, created_at, seq)
    SELECT d.id, d.event_id, d.organization_id, d.channel_id, d.project_id, d.event_type,
        d.origin, 'waiting', d.due_ms, d.node, d.claim, 0, 0, 0, d.created_at, d.seq
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::bigint[], $9::int[], $10::int[], $11::bigint[], $12::bigint[])
        AS d (id, event_id, organization_id, channel_id, project_id, event_type, origin,
            due_ms, node, claim, created_at, seq)
"""
Row = tuple[Any, ...]
_Place = tuple[str, str, str, str]


async def add(at: Transaction, items: Sequence[NewEvent]) -> list[Added]:
    """Store events with their deliveries; the answers stand in the order of the items."""
    organizations = list({item.event.organization_id for item in items})
    rows = await at.connection.fetch(_VERSIONS, organizations)
    versions: dict[str, int] = {row[0]: row[1] for row in rows}
    current = [versions.get(item.event.organization_id) == item.version for item in items]
    keyed = [
        item
        for item, fits in zip(items, current, strict=True)
        if fits and item.idempotency_key is not None
    ]
    taken = await _take_keys(at, keyed) if keyed else {}
    answers: list[Added] = []
    kept: list[NewEvent] = []
    for item, fits in zip(items, current, strict=True):
        if not fits:
            answers.append(Stale())
        elif (first := taken.get(item.event.id)) is not None:
            answers.append(first)
        else:
            answers.append(Stored([]))
            kept.append(item)
    if not kept:
        return answers
    claimed = await _insert(at, kept)
    for answer in answers:
        if type(answer) is Stored:
            answer.claimed = next(claimed)
    return answers


async def _take_keys(at: Transaction, items: list[NewEvent]) -> dict[EventId, Duplicate]:
    """Take the keys of these events; returns those that came too late, with who came first."""
    firsts: dict[_Place, NewEvent] = {}
    for item in items:
        firsts.setdefault(_place(item), item)
    rows = [_key_row(place, item) for place, item in sorted(firsts.items())]
    # All of a batch are of about the same moment: the earliest is right for each of them.
    expired_before = min(item.key_expired_before for item in items)
    stored = await at.connection.fetch(_TAKE_KEYS, *_columns(rows, 10), expired_before)
    mine = {row[0] for row in stored}
    others = [place for place, item in firsts.items() if item.event.id not in mine]
    found: dict[_Place, Row] = {}
    if others:
        found = {
            tuple(row[:4]): tuple(row[4:])
            for row in await at.connection.fetch(_KEYS, *_columns(others, 4))
        }
        if len(found) < len(others):
            raise TryAgain  # it was forgotten in the meantime: the key is free
    late: dict[EventId, Duplicate] = {}
    for item in items:
        place = _place(item)
        first = firsts[place]
        row = found.get(place)
        if row is None and first is item:
            continue
        late[item.event.id] = _duplicate(row or _key_row(place, first)[4:], item.digest)
    return late


def _place(item: NewEvent) -> _Place:
    event = item.event
    assert item.idempotency_key is not None
    return event.organization_id, event.project_id or "", item.source, item.idempotency_key


def _key_row(place: _Place, item: NewEvent) -> Row:
    event = item.event
    return (
        *place,
        event.id,
        item.digest,
        event.type,
        len(item.deliveries),
        item.unmatched,
        event.created_at,
    )


def _duplicate(row: Row, digest: bytes) -> Duplicate:
    event_id, first_digest, type, deliveries, unmatched, created_at = row
    return Duplicate(
        event_id=event_id,
        type=type,
        created_at=created_at,
        deliveries=deliveries,
        unmatched=None if unmatched is None else Unmatched(unmatched),
        mismatch=first_digest != digest,
    )


async def _insert(at: Transaction, items: list[NewEvent]) -> Iterator[list[DeliveryId]]:
    openings = _Openings(at)
    events: list[Row] = []
    rows: list[Row] = []
    freed: dict[ChannelId, int] = {}
    claimed: list[list[DeliveryId]] = []
    for item in items:
        event = item.event
        events.append(
            (
                event.id,
                event.organization_id,
                event.project_id,
                event.type,
                event.data,
                item.people,
                item.idempotency_key,
                event.occurred_at,
                event.created_at,
                len(item.deliveries),
                item.unmatched,
            )
        )
        mine: list[DeliveryId] = []
        for delivery in item.deliveries:
            channel_id, due_ms = delivery.channel_id, item.due_ms
            lane = at.lanes.get(channel_id)
            seq = None
            if delivery.ordered and lane is not None:
                seq = lane.last_seq = lane.last_seq + 1
            if delivery.claim and lane is not None and await openings.open(lane, due_ms):
                mine.append(delivery.id)
                held = (at.node, 1)
            else:
                freed[channel_id] = min(due_ms, freed.get(channel_id, due_ms))
                held = (0, 0)
            rows.append(
                (
                    delivery.id,
                    event.id,
                    event.organization_id,
                    channel_id,
                    event.project_id,
                    event.type,
                    item.origin,
                    due_ms,
                    *held,
                    event.created_at,
                    seq,
                )
            )
        claimed.append(mine)
    await at.later.put("events", _EVENTS, _columns(events, 11))
    if rows:
        await at.later.put("deliveries", _DELIVERIES, _columns(rows, 12))
    accepted = project_rows(items, at.node)
    if accepted:
        minutes = _columns(accepted, len(PROJECT_MINUTE))
        await at.later.put("project_minutes", PROJECT_MINUTES, minutes)
    free(at, freed)
    return iter(claimed)


class _Openings:
    """Which lanes of a batch may be claimed from at birth: open, and nothing older is due."""

    def __init__(self, at: Transaction) -> None:
        self._at = at
        self._answers: dict[ChannelId, bool] = {}

    async def open(self, lane: Lane, due_ms: int) -> bool:
        answer = self._answers.get(lane.channel_id)
        if answer is None:
            answer = self._answers[lane.channel_id] = await self._look(lane, due_ms)
            if answer and lane.exclusive:
                lane.owner = self._at.node
        return answer

    async def _look(self, lane: Lane, now_ms: int) -> bool:
        if lane.parked is not None or lane.ordered or lane.breaker_state is not None:
            return False
        if lane.exclusive and lane.owner and lane.owner not in self._at.numbers:
            return False
        if lane.blocked_until_ms > now_ms:
            return False
        if lane.next_due_ms is None or lane.next_due_ms > now_ms:
            return True
        if lane.backlog_before_ms is None:
            return False
        # A backlog drains slowly; new deliveries go beside it.
        await self._at.write()
        newer = await self._at.connection.fetchrow(
            _NEWER_DUE, lane.channel_id, lane.backlog_before_ms, now_ms
        )
        return newer is None


def free(at: Transaction, freed: Mapping[ChannelId, int]) -> None:
    """Lanes (locked) that got free deliveries, each with the earliest due moment of these."""
    for channel_id, due_ms in freed.items():
        lane = at.lanes.get(channel_id)
        if lane is not None:
            lane.free(due_ms)
            at.freed = True


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows as the arrays that `unnest` takes, one for each column."""
    if not rows:
        return [[] for _ in range(width)]
    return [list(column) for column in zip(*rows, strict=True)]

"""Claim, release and recover: which node holds which delivery."""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
from tocsin.domain.outcome import Reason
from tocsin.storage.base import ROWS_PER_STEP_MAX
from tocsin.storage.notes import GivenUp
from tocsin.storage.sqlite.adding import one_value
from tocsin.storage.sqlite.narrow import HEAD_DUE, take_in_order, take_probe
from tocsin.storage.sqlite.noting import give_up
from tocsin.storage.sqlite.taking import ROWS_PER_LOOK, Due, Taking, due_rows, rows_to_look

LANES_PER_CLAIM_MAX = 200
BACKLOG_CHUNK = 5
BACKLOG_PAUSE_MS = 100
LOST_MAX = 5

# Rows come as one JSON value: fetched one by one, each would hand the interpreter lock to the
# event loop and wait to get it back.
_DUE_LANES = """
    SELECT json_group_array(json_array(channel_id, backlog_before_ms, backlog_due_ms,
        cancelled_through, breaker_state IS NOT NULL, ordered, unnumbered)) FROM (
        SELECT channel_id, backlog_before_ms, backlog_due_ms, cancelled_through, breaker_state,
            ordered, unnumbered FROM lanes
        WHERE next_due_ms <= ? AND channel_id NOT IN (SELECT value FROM json_each(?))
            AND organization_id NOT IN (SELECT value FROM json_each(?))
        ORDER BY next_due_ms LIMIT ?)
"""
_DUE = due_rows(
    "d.status = 'waiting' AND d.channel_id = ? AND d.node = 0 AND d.due_ms >= ? AND d.due_ms < ?"
    " AND d.id > ? ORDER BY d.due_ms, d.id",
    "deliveries_open",
)
# Ordered, not min(), and by this index: anything else walks all that waits in the lane.
_NEXT_DUE = """
    SELECT due_ms FROM deliveries INDEXED BY deliveries_open
    WHERE status = 'waiting' AND channel_id = ? AND node = 0
        AND due_ms >= ? AND due_ms < ? AND id > ?
    ORDER BY due_ms LIMIT 1
"""
_LANE_NEXT = """
    UPDATE lanes SET next_due_ms = max(blocked_until_ms, ?1), backlog_before_ms = ?2,
        backlog_through = CASE WHEN ?2 IS NULL THEN NULL ELSE backlog_through END,
        backlog_due_ms = ?3 WHERE channel_id = ?4 AND parked IS NULL
"""
_NEXT_LANE = """
    SELECT min(next_due_ms) FROM lanes
    WHERE next_due_ms IS NOT NULL AND channel_id NOT IN (SELECT value FROM json_each(?))
        AND organization_id NOT IN (SELECT value FROM json_each(?))
"""
_RELEASE = """
    UPDATE deliveries SET node = 0 WHERE id = ? AND claim = ? AND node = ? AND status = 'waiting'
    RETURNING due_ms, seq IS NULL
"""
_CANCEL_DROPPED = """
    UPDATE deliveries SET status = 'cancelled', node = 0, finished_at = ?
    WHERE id IN (SELECT value FROM json_each(?)) AND status = 'waiting' AND EXISTS (
        SELECT 1 FROM lanes WHERE lanes.channel_id = deliveries.channel_id AND (
            lanes.parked = 'deleted' OR deliveries.id <= lanes.cancelled_through))
"""
# Lane by lane: what waits in nobody's hands may be a million.
_LOST = """
    SELECT d.id, d.claim, d.channel_id, d.due_ms, d.lost, d.seq IS NULL, d.organization_id,
        d.origin, d.attempt_count
    FROM lanes AS l CROSS JOIN deliveries AS d INDEXED BY deliveries_open
    WHERE d.status = 'waiting' AND d.channel_id = l.channel_id AND d.node > 0 LIMIT ?
"""
# What was held was due, whatever the time is now: a clock that was put back may say otherwise.
_FREE_LOST = "UPDATE deliveries SET node = 0, lost = ?, due_ms = min(due_ms, ?) WHERE id = ?"
_END_LOST = """
    UPDATE deliveries SET node = 0, lost = ?, status = 'exhausted', finished_at = ?,
        last_error = ? WHERE id = ?
"""
_NOT_DROPPED = "coalesce(l.cancelled_through, '')"
# An ordered lane may have got its head back, and has waited for what stood behind it; what has no
# number goes before all that has one.
_GIVEN_BACK = """
    UPDATE lanes SET next_due_ms = max(blocked_until_ms, min(coalesce(next_due_ms, ?1), ?1)),
        unnumbered = unnumbered OR (ordered AND ?2)
    WHERE channel_id = ?3 AND parked IS NULL
"""
_LANES_AND_DUE = f"""
    SELECT json_group_array(json_array(channel_id, next_due_ms, max(blocked_until_ms,
        backlog_due_ms), due_ms)) FROM (
        SELECT l.channel_id, l.next_due_ms, l.blocked_until_ms, CASE
            WHEN l.unnumbered THEN NULL
            WHEN l.ordered THEN ({HEAD_DUE.format(channel="l.channel_id", above=_NOT_DROPPED)})
            ELSE (
            SELECT d.due_ms FROM deliveries AS d INDEXED BY deliveries_open
            WHERE d.status = 'waiting' AND d.channel_id = l.channel_id AND d.node = 0
                AND d.id > coalesce(l.cancelled_through, '')
            ORDER BY d.due_ms LIMIT 1) END AS due_ms, l.backlog_due_ms
        FROM lanes AS l WHERE l.parked IS NULL AND l.channel_id > ?
        ORDER BY l.channel_id LIMIT ?)
"""
_REPAIR = """
    UPDATE lanes SET next_due_ms = CASE WHEN ?2 IS NULL THEN NULL
        ELSE max(blocked_until_ms, ?2) END WHERE channel_id = ?1
"""

_EVER_MS = 2**62

_DueLane = tuple[str, int | None, int, str | None, int, int, int]
_decode_due_lanes = msgspec.json.Decoder(list[_DueLane]).decode


_LaneDue = tuple[str, int | None, int, int | None]
_decode_lanes_and_due = msgspec.json.Decoder(list[_LaneDue]).decode


Claimed = tuple[list[Due], int | None]
"""What was claimed, and when the next lane falls due."""


def claim(
    connection: sqlite3.Connection,
    node: int,
    now_ms: int,
    room: int,
    bytes_max: int,
    lane_room: int,
    full: Sequence[ChannelId],
    over: Sequence[OrganizationId],
    rooms: Mapping[ChannelId, int],
) -> Claimed:
    """Take due lanes first, then rows of each lane up to its room; see `DataPlane.claim`."""
    skip = msgspec.json.encode(full).decode(), msgspec.json.encode(over).decode()
    lanes = _decode_due_lanes(
        one_value(connection, _DUE_LANES, (now_ms, *skip, LANES_PER_CLAIM_MAX))
    )
    taking = Taking(connection, node, room, bytes_max)
    for channel_id, backlog_before_ms, backlog_due_ms, cancelled, broken, ordered, mixed in lanes:
        if taking.over:
            break
        lowest = cancelled or ""
        limit = rooms.get(ChannelId(channel_id), lane_room) if rooms else lane_room
        if broken:
            take_probe(taking, channel_id, now_ms, lowest)
            continue
        if ordered:
            take_in_order(taking, channel_id, now_ms, lowest, limit, unnumbered=bool(mixed))
            continue
        if backlog_before_ms is None:
            _take(taking, channel_id, 0, now_ms, lowest, limit)
        else:
            if backlog_due_ms <= now_ms:
                last_ms = min(now_ms, backlog_before_ms - 1)
                _take(taking, channel_id, 0, last_ms, lowest, min(limit, BACKLOG_CHUNK))
                backlog_due_ms = now_ms + BACKLOG_PAUSE_MS
            _take(taking, channel_id, backlog_before_ms, now_ms, lowest, limit)
        _write_next(connection, channel_id, lowest, backlog_before_ms, backlog_due_ms)
    next_due_ms = connection.execute(_NEXT_LANE, skip).fetchone()[0]
    return taking.held, next_due_ms


def _take(
    taking: Taking, channel_id: str, from_ms: int, to_ms: int, above: str, limit: int
) -> None:
    """Hold what is due in a lane from one moment to another.

    Few rows at first: each may be 256 KiB, and what does not fit is read in vain.
    """
    limit = min(limit, taking.room)
    rows = ROWS_PER_LOOK
    while limit > 0 and not taking.over:
        size = min(limit, rows)
        found = taking.look(_DUE, (channel_id, from_ms, to_ms + 1, above, size))
        limit -= size
        if taking.hold(found) < size:
            return
        rows = rows_to_look(found)


def _write_next(
    connection: sqlite3.Connection,
    channel_id: str,
    lowest: str,
    backlog_before_ms: int | None,
    backlog_due_ms: int,
) -> None:
    """Write the lane's exact new next due moment."""
    if backlog_before_ms is None:
        due_ms = _next_due(connection, channel_id, 0, _EVER_MS, lowest)
        connection.execute(_LANE_NEXT, (due_ms, None, 0, channel_id))
        return
    old = _next_due(connection, channel_id, 0, backlog_before_ms, lowest)
    new = _next_due(connection, channel_id, backlog_before_ms, _EVER_MS, lowest)
    if old is None:
        connection.execute(_LANE_NEXT, (new, None, 0, channel_id))
        return
    due_ms = max(old, backlog_due_ms) if new is None else min(max(old, backlog_due_ms), new)
    connection.execute(_LANE_NEXT, (due_ms, backlog_before_ms, backlog_due_ms, channel_id))


def _next_due(
    connection: sqlite3.Connection, channel_id: str, from_ms: int, before_ms: int, above: str
) -> int | None:
    row = connection.execute(_NEXT_DUE, (channel_id, from_ms, before_ms, above)).fetchone()
    return None if row is None else row[0]


def release(
    connection: sqlite3.Connection,
    node: int,
    held: Sequence[tuple[DeliveryId, int, ChannelId]],
    wall_ms: int,
) -> None:
    """Give deliveries back where the claim still stands; they are due as they were."""
    freed: dict[ChannelId, tuple[int, int]] = {}
    ids: list[DeliveryId] = []
    for delivery_id, claim_number, channel_id in held:
        released = connection.execute(_RELEASE, (delivery_id, claim_number, node)).fetchall()
        for due_ms, unnumbered in released:
            _note(freed, channel_id, due_ms, unnumbered)
            ids.append(delivery_id)
    if freed:
        _tell_lanes(connection, freed)
        cancel_where_dropped(connection, ids, wall_ms)


def _note(
    freed: dict[ChannelId, tuple[int, int]], channel_id: ChannelId, due_ms: int, unnumbered: int
) -> None:
    """Note for a lane its earliest moment, and whether any of what came free has no number."""
    before_ms, any_unnumbered = freed.get(channel_id, (due_ms, 0))
    freed[channel_id] = (min(due_ms, before_ms), any_unnumbered | unnumbered)


def _tell_lanes(connection: sqlite3.Connection, freed: dict[ChannelId, tuple[int, int]]) -> None:
    """Lanes have free deliveries again: due too early is put right by the next claim."""
    for channel_id, (due_ms, unnumbered) in sorted(freed.items()):
        connection.execute(_GIVEN_BACK, (due_ms, unnumbered, channel_id))


def cancel_where_dropped(
    connection: sqlite3.Connection, ids: Sequence[DeliveryId], wall_ms: int
) -> None:
    """End what has come free on a deleted lane, or in a backlog that was cancelled."""
    connection.execute(_CANCEL_DROPPED, (wall_ms, msgspec.json.encode(ids).decode()))


def recover(
    connection: sqlite3.Connection, node: int, began: dict[str, int], now_ms: int, wall_ms: int
) -> int:
    """Free one step of what an earlier process held; returns how many it freed (0: done).

    `began` has the claims whose send began: only these count as lost with their node. What ends by
    that counts as `node`'s.
    """
    rows = connection.execute(_LOST, (ROWS_PER_STEP_MAX,)).fetchall()
    freed: dict[ChannelId, tuple[int, int]] = {}
    ended: list[GivenUp] = []
    for row in rows:
        delivery_id, claim_number, channel_id, due_ms, lost, unnumbered = row[:6]
        lost += began.get(delivery_id) == claim_number
        if lost >= LOST_MAX:
            text = f"{Reason.LOST_WITH_ITS_NODE}: {lost} nodes ended while sending it"
            connection.execute(_END_LOST, (lost, wall_ms, text, delivery_id))
            ended.append(GivenUp(delivery_id, channel_id, row[6], row[7], row[8], text))
            continue
        connection.execute(_FREE_LOST, (lost, now_ms, delivery_id))
        _note(freed, channel_id, min(due_ms, now_ms), unnumbered)
    if freed:
        _tell_lanes(connection, freed)
    if ended:
        give_up(connection, node, ended, wall_ms)
    return len(rows)


def check_lanes(connection: sqlite3.Connection, above: str, limit: int) -> tuple[str | None, int]:
    """Repair a step of lanes; returns where to go on (None: done) and how many were wrong."""
    rows = _decode_lanes_and_due(one_value(connection, _LANES_AND_DUE, (above, limit)))
    wrong = 0
    for channel_id, next_due_ms, blocked_until_ms, due_ms in rows:
        right = None if due_ms is None else max(due_ms, blocked_until_ms)
        # One that is due too early is put right by the next claim.
        if right is not None and (next_due_ms is None or next_due_ms > right):
            connection.execute(_REPAIR, (channel_id, due_ms))
            wrong += 1
    return (rows[-1][0] if len(rows) == limit else None), wrong

"""Claim, release and recover: which node holds which delivery."""

import sqlite3
from collections.abc import Sequence

import msgspec

from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    People,
    ProjectId,
)
from tocsin.domain.outcome import Reason
from tocsin.storage.base import ROWS_PER_STEP_MAX, Claims, Held
from tocsin.storage.sqlite.adding import FREED, one_value

LANES_PER_CLAIM_MAX = 200
BACKLOG_CHUNK = 5
BACKLOG_PAUSE_MS = 100
LOST_MAX = 5

# Rows come as one JSON value: fetched one by one, each would hand the interpreter lock to the
# event loop and wait to get it back.
_DUE_LANES = """
    SELECT json_group_array(json_array(channel_id, backlog_through, backlog_due_ms,
        cancelled_through)) FROM (
        SELECT channel_id, backlog_through, backlog_due_ms, cancelled_through FROM lanes
        WHERE next_due_ms <= ? AND channel_id NOT IN (SELECT value FROM json_each(?))
        ORDER BY next_due_ms LIMIT ?)
"""
_DUE = """
    SELECT json_group_array(json_array(id, claim, due_ms, attempt_count, step, lost, origin,
        event_id, organization_id, project_id, type, CAST(data AS TEXT), occurred_at,
        created_at, CAST(people AS TEXT))) FROM (
        SELECT d.id, d.claim, d.due_ms, d.attempt_count, d.step, d.lost, d.origin,
            e.id AS event_id, e.organization_id, e.project_id, e.type, e.data, e.occurred_at,
            e.created_at, e.people
        FROM deliveries AS d INDEXED BY deliveries_open JOIN events AS e ON e.id = d.event_id
        WHERE d.status = 'waiting' AND d.channel_id = ? AND d.node = 0 AND d.due_ms <= ?
            AND d.id > ? AND d.id <= ?
        ORDER BY d.due_ms, d.id LIMIT ?)
"""
# Ordered, not min(), and by this index: anything else walks all that waits in the lane.
_NEXT_DUE = """
    SELECT due_ms FROM deliveries INDEXED BY deliveries_open
    WHERE status = 'waiting' AND channel_id = ? AND node = 0 AND id > ? AND id <= ?
    ORDER BY due_ms LIMIT 1
"""
_LANE_NEXT = """
    UPDATE lanes SET next_due_ms = max(blocked_until_ms, ?), backlog_through = ?,
        backlog_due_ms = ? WHERE channel_id = ? AND parked IS NULL
"""
_NEXT_LANE = """
    SELECT min(next_due_ms) FROM lanes
    WHERE next_due_ms IS NOT NULL AND channel_id NOT IN (SELECT value FROM json_each(?))
"""
_RELEASE = """
    UPDATE deliveries SET node = 0 WHERE id = ? AND claim = ? AND node = ? AND status = 'waiting'
"""
_CANCEL_DROPPED = """
    UPDATE deliveries SET status = 'cancelled', node = 0, finished_at = ?
    WHERE id IN (SELECT value FROM json_each(?)) AND status = 'waiting' AND EXISTS (
        SELECT 1 FROM lanes WHERE lanes.channel_id = deliveries.channel_id AND (
            lanes.parked = 'deleted' OR deliveries.id <= lanes.cancelled_through))
"""
_LOST = """
    SELECT id, claim, channel_id, due_ms, lost FROM deliveries
    WHERE status = 'waiting' AND node <> 0 LIMIT ?
"""
_FREE_LOST = "UPDATE deliveries SET node = 0, lost = ? WHERE id = ?"
_END_LOST = """
    UPDATE deliveries SET node = 0, lost = ?, status = 'exhausted', finished_at = ?,
        last_error = ? WHERE id = ?
"""
_LANES_AND_DUE = """
    SELECT json_group_array(json_array(channel_id, next_due_ms, blocked_until_ms, due_ms)) FROM (
        SELECT l.channel_id, l.next_due_ms, l.blocked_until_ms, (
            SELECT d.due_ms FROM deliveries AS d INDEXED BY deliveries_open
            WHERE d.status = 'waiting' AND d.channel_id = l.channel_id AND d.node = 0
                AND d.id > coalesce(l.cancelled_through, '')
            ORDER BY d.due_ms LIMIT 1
        ) AS due_ms
        FROM lanes AS l WHERE l.parked IS NULL AND l.channel_id > ?
        ORDER BY l.channel_id LIMIT ?)
"""
_REPAIR = """
    UPDATE lanes SET next_due_ms = CASE WHEN ?2 IS NULL THEN NULL
        ELSE max(blocked_until_ms, ?2) END WHERE channel_id = ?1
"""

_HIGHEST = "g"  # above every id
_decode_people = msgspec.json.Decoder(People).decode

_DueLane = tuple[str, str | None, int, str | None]
_decode_due_lanes = msgspec.json.Decoder(list[_DueLane]).decode


class _Due(msgspec.Struct, array_like=True):
    """One due delivery with its event, as `_DUE` gives it."""

    id: DeliveryId
    claim: int
    due_ms: int
    attempt_count: int
    step: int
    lost: int
    origin: Origin
    event_id: EventId
    organization_id: OrganizationId
    project_id: ProjectId | None
    type: str
    data: str
    occurred_at: int
    created_at: int
    people: str | None


_decode_due = msgspec.json.Decoder(list[_Due]).decode
_LaneDue = tuple[str, int | None, int, int | None]
_decode_lanes_and_due = msgspec.json.Decoder(list[_LaneDue]).decode


def claim(
    connection: sqlite3.Connection,
    node: int,
    now_ms: int,
    room: int,
    bytes_max: int,
    lane_room: int,
    full: Sequence[ChannelId],
) -> Claims:
    """Take due lanes first, then rows of each lane up to its room; see `DataPlane.claim`."""
    skip = msgspec.json.encode(full).decode()
    lanes = _decode_due_lanes(
        one_value(connection, _DUE_LANES, (now_ms, skip, LANES_PER_CLAIM_MAX))
    )
    held: list[Held] = []
    for channel_id, backlog_through, backlog_due_ms, cancelled in lanes:
        if room <= 0 or bytes_max <= 0:
            break
        lowest = cancelled or ""
        limit = min(room, lane_room)
        mine: list[Held] = []
        if backlog_through is None:
            mine = _take(connection, channel_id, now_ms, lowest, _HIGHEST, limit)
        else:
            mine = _take(connection, channel_id, now_ms, backlog_through, _HIGHEST, limit)
            if backlog_due_ms <= now_ms:
                chunk = min(limit, BACKLOG_CHUNK)
                old = _take(connection, channel_id, now_ms, lowest, backlog_through, chunk)
                backlog_due_ms = now_ms + BACKLOG_PAUSE_MS
                mine = old + mine[: limit - len(old)]
        kept = _within(mine, bytes_max)
        if kept:
            for at in range(0, len(kept), 128):
                _hold(connection, node, kept[at : at + 128])
        held += kept
        room -= len(kept)
        bytes_max -= sum(len(item.event.data) for item in kept)
        _write_next(connection, channel_id, lowest, backlog_through, backlog_due_ms)
    next_due_ms = connection.execute(_NEXT_LANE, (skip,)).fetchone()[0]
    return Claims(held=held, next_due_ms=next_due_ms)


def _take(
    connection: sqlite3.Connection,
    channel_id: str,
    now_ms: int,
    above: str,
    through: str,
    limit: int,
) -> list[Held]:
    text = one_value(connection, _DUE, (channel_id, now_ms, above, through, limit))
    return [_held(row, ChannelId(channel_id)) for row in _decode_due(text)]


def _held(row: _Due, channel_id: ChannelId) -> Held:
    return Held(
        id=row.id,
        claim=row.claim + 1,
        channel_id=channel_id,
        event=Event(
            id=row.event_id,
            organization_id=row.organization_id,
            project_id=row.project_id,
            type=row.type,
            data=row.data.encode(),
            occurred_at=row.occurred_at,
            created_at=row.created_at,
            people=None if row.people is None else _decode_people(row.people),
        ),
        origin=row.origin,
        number=row.attempt_count + 1,
        step=row.step,
        lost=row.lost,
        due_ms=row.due_ms,
    )


def _within(items: list[Held], bytes_max: int) -> list[Held]:
    """As many as fit; the first always does, or a large event would wait for ever."""
    kept: list[Held] = []
    for item in items:
        if kept and bytes_max <= 0:
            break
        bytes_max -= len(item.event.data)
        kept.append(item)
    return kept


def _hold(connection: sqlite3.Connection, node: int, items: list[Held]) -> None:
    marks = ", ".join(["?"] * len(items))
    connection.execute(
        f"UPDATE deliveries SET claim = claim + 1, node = ? WHERE id IN ({marks})",
        (node, *(item.id for item in items)),
    )


def _write_next(
    connection: sqlite3.Connection,
    channel_id: str,
    lowest: str,
    backlog_through: str | None,
    backlog_due_ms: int,
) -> None:
    """Write the lane's exact new next due moment."""
    if backlog_through is None:
        due_ms = _next_due(connection, channel_id, lowest, _HIGHEST)
        connection.execute(_LANE_NEXT, (due_ms, None, 0, channel_id))
        return
    old = _next_due(connection, channel_id, lowest, backlog_through)
    new = _next_due(connection, channel_id, backlog_through, _HIGHEST)
    if old is None:
        connection.execute(_LANE_NEXT, (new, None, 0, channel_id))
        return
    due_ms = max(old, backlog_due_ms) if new is None else min(max(old, backlog_due_ms), new)
    connection.execute(_LANE_NEXT, (due_ms, backlog_through, backlog_due_ms, channel_id))


def _next_due(
    connection: sqlite3.Connection, channel_id: str, above: str, through: str
) -> int | None:
    row = connection.execute(_NEXT_DUE, (channel_id, above, through)).fetchone()
    return None if row is None else row[0]


def release(
    connection: sqlite3.Connection,
    node: int,
    held: Sequence[tuple[DeliveryId, int, ChannelId]],
    now_ms: int,
    wall_ms: int,
) -> None:
    """Give deliveries back where the claim still stands; their lanes are due at once."""
    freed: dict[ChannelId, int] = {}
    ids: list[DeliveryId] = []
    for delivery_id, claim_number, channel_id in held:
        if connection.execute(_RELEASE, (delivery_id, claim_number, node)).rowcount:
            freed[channel_id] = now_ms
            ids.append(delivery_id)
    if freed:
        FREED.run(connection, sorted(freed.items()))
        cancel_where_dropped(connection, ids, wall_ms)


def cancel_where_dropped(
    connection: sqlite3.Connection, ids: Sequence[DeliveryId], wall_ms: int
) -> None:
    """End what has come free on a deleted lane, or in a backlog that was cancelled."""
    connection.execute(_CANCEL_DROPPED, (wall_ms, msgspec.json.encode(ids).decode()))


def recover(
    connection: sqlite3.Connection, began: dict[str, int], now_ms: int, wall_ms: int
) -> int:
    """Free one step of what an earlier process held; returns how many it freed (0: done).

    `began` has the claims whose send began: only these count as lost with their node.
    """
    rows = connection.execute(_LOST, (ROWS_PER_STEP_MAX,)).fetchall()
    freed: dict[ChannelId, int] = {}
    for delivery_id, claim_number, channel_id, due_ms, lost in rows:
        lost += began.get(delivery_id) == claim_number
        if lost >= LOST_MAX:
            text = f"{Reason.LOST_WITH_ITS_NODE}: {lost} nodes ended while sending it"
            connection.execute(_END_LOST, (lost, wall_ms, text, delivery_id))
            continue
        connection.execute(_FREE_LOST, (lost, delivery_id))
        freed[channel_id] = min(due_ms, freed.get(channel_id, now_ms))
    if freed:
        FREED.run(connection, sorted(freed.items()))
    return len(rows)


def check_lanes(connection: sqlite3.Connection, above: str, limit: int) -> tuple[str | None, int]:
    """Repair a step of lanes; returns where to go on (None: done) and how many were wrong."""
    rows = _decode_lanes_and_due(one_value(connection, _LANES_AND_DUE, (above, limit)))
    wrong = 0
    for channel_id, next_due_ms, blocked_until_ms, due_ms in rows:
        right = None if due_ms is None else max(due_ms, blocked_until_ms)
        late = right is not None and (next_due_ms is None or next_due_ms > right)
        if late or (right is None and next_due_ms is not None):
            connection.execute(_REPAIR, (channel_id, due_ms))
            wrong += 1
    return (rows[-1][0] if len(rows) == limit else None), wrong

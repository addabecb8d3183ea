"""Publish: events, their deliveries and their idempotency keys in one transaction."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from tocsin.domain.model import ChannelId, Unmatched
from tocsin.storage.base import Added, Duplicate, NewEvent, Stale, Stored
from tocsin.storage.sqlite.batches import WAITING, AddBatch, waiting_row
from tocsin.storage.sqlite.known import Known
from tocsin.storage.sqlite.noting import count_accepted
from tocsin.storage.sqlite.rows import Row, Rows, Values, texts

# One row, so that the interpreter lock changes hands once and not once per row.
_VERSIONS = """
    SELECT json_group_array(json_array(id, version)) FROM organizations
    WHERE id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL
"""
_LANES = """
    SELECT json_group_array(json_array(
        channel_id, parked IS NOT NULL OR ordered OR breaker_state IS NOT NULL, blocked_until_ms,
        next_due_ms, backlog_before_ms))
    FROM lanes WHERE channel_id IN (SELECT value FROM json_each(?))
"""
_TAKE_KEY = """
    INSERT INTO idempotency (organization_id, project_id, source, key, event_id, digest, type,
        deliveries, unmatched, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (organization_id, project_id, source, key) DO UPDATE SET
        event_id = excluded.event_id, digest = excluded.digest, type = excluded.type,
        deliveries = excluded.deliveries, unmatched = excluded.unmatched,
        created_at = excluded.created_at
    WHERE idempotency.created_at < ?
"""
_KEY = """
    SELECT event_id, digest, type, deliveries, unmatched, created_at FROM idempotency
    WHERE organization_id = ? AND project_id = ? AND source = ? AND key = ?
"""
_NEWER_DUE = """
    SELECT 1 FROM deliveries
    WHERE status = 'waiting' AND channel_id = ? AND node = 0 AND due_ms BETWEEN ? AND ? LIMIT 1
"""
_EVENTS = Values(
    "INSERT INTO events (id, organization_id, project_id, type, data, people, idempotency_key,"
    " occurred_at, created_at, deliveries, unmatched) VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
# The event is there already, and has the rest.
_MINE = f"{WAITING.number(3)} AND {WAITING.text(2)} IN (SELECT value FROM json_each(?2))"
_DELIVERIES = Rows(
    "INSERT INTO deliveries (id, event_id, organization_id, channel_id, project_id, event_type,"
    " origin, status, due_ms, node, claim, step, attempt_count, lost, created_at, seq)"
    f" SELECT {WAITING.text(0)}, e.id, e.organization_id, {WAITING.text(2)}, e.project_id, e.type,"
    f" {WAITING.rest}, 'waiting', {WAITING.number(4)}, CASE WHEN {_MINE} THEN ?3 ELSE 0 END,"
    f" {_MINE}, 0, 0, 0, e.created_at, nullif({WAITING.number(5)}, 0)"
    f" FROM json_each(?1) CROSS JOIN events AS e ON e.id = {WAITING.text(1)}"
)
_NUMBERS = "UPDATE lanes SET last_seq = last_seq + ? WHERE channel_id = ? RETURNING last_seq"
# Lanes that got free deliveries, each with the earliest due moment of these. An ordered lane waits
# for its head, whatever comes behind that.
_FREED = Values(
    "UPDATE lanes SET next_due_ms = max(blocked_until_ms, min(coalesce(next_due_ms, v.column2),"
    " CASE WHEN ordered THEN coalesce(next_due_ms, v.column2) ELSE v.column2 END)) FROM (VALUES",
    "(?, ?)",
    ") AS v WHERE lanes.channel_id = v.column1 AND lanes.parked IS NULL",
)

LaneRow = tuple[ChannelId, int, int, int | None, int | None]

_decode_versions = msgspec.json.Decoder(list[tuple[str, int]]).decode
_decode_lanes = msgspec.json.Decoder(list[LaneRow]).decode
_encode = msgspec.json.encode


def one_value(connection: sqlite3.Connection, statement: str, parameters: Row) -> Any:
    """The single value of a statement that always gives one row."""
    return connection.execute(statement, parameters).fetchone()[0]


def add(
    connection: sqlite3.Connection,
    node: int,
    known: Known,
    items: Sequence[NewEvent],
    batch: AddBatch | None,
) -> list[Added]:
    """Store events with their deliveries; the answers stand in the order of the items.

    `batch` is what was made of all of them, if that could be.
    """
    versions = _versions(connection, known, items)
    answers: list[Added] = []
    kept: list[NewEvent] = []
    for item in items:
        if versions.get(item.event.organization_id) != item.version:
            answers.append(Stale())
        elif item.idempotency_key is not None and (first := _take_key(connection, item)):
            answers.append(first)
        else:
            answers.append(Stored([]))
            kept.append(item)
    if not kept:
        return answers
    if batch is None or len(kept) < len(items):
        batch = AddBatch(kept, node)
    opened = _insert(connection, node, known, batch)
    if opened:
        stored = iter(kept)
        for answer in answers:
            if type(answer) is Stored:
                deliveries = next(stored).deliveries
                answer.claimed = [d.id for d in deliveries if d.claim and d.channel_id in opened]
    return answers


def _versions(
    connection: sqlite3.Connection, known: Known, items: Sequence[NewEvent]
) -> dict[str, int]:
    versions = known.versions
    unknown = {item.event.organization_id for item in items}.difference(versions)
    if unknown:
        rows = one_value(connection, _VERSIONS, (_encode(list(unknown)).decode(),))
        versions.update(_decode_versions(rows))
    return versions


def _insert(
    connection: sqlite3.Connection, node: int, known: Known, batch: AddBatch
) -> set[ChannelId]:
    """Insert all rows; returns the channels that could be claimed from at birth."""
    opened = _opened(connection, known, batch)
    _EVENTS.run(connection, batch.events)
    rows = batch.plain
    if batch.numbered:
        numbered: list[str] = []
        for channel_id, in_order in sorted(batch.numbered.items()):
            numbered += _numbered(connection, channel_id, in_order)
        rows = rows + texts(numbered)
    tail = (_encode(list(opened)).decode(), node)
    if _DELIVERIES.run(connection, rows, tail) != batch.deliveries:
        raise RuntimeError("not every delivery was stored")
    freed = {
        channel_id: due_ms for channel_id, due_ms in batch.free.items() if channel_id not in opened
    }
    freed |= {c: due_ms for c, due_ms in batch.unwanted.items() if c in opened}
    if freed:
        known.open_lanes.difference_update(freed)
        _FREED.run(connection, sorted(freed.items()))
    count_accepted(connection, batch.counts)
    return opened


def _numbered(
    connection: sqlite3.Connection, channel_id: ChannelId, parts: list[tuple[Row, str]]
) -> list[str]:
    """The rows of an ordered lane's deliveries, with its next numbers."""
    found = connection.execute(_NUMBERS, (len(parts), channel_id)).fetchall()
    last = found[0][0] if found else len(parts)
    first = last - len(parts) + 1
    return [waiting_row(fields, seq, origin) for seq, (fields, origin) in enumerate(parts, first)]


def _opened(connection: sqlite3.Connection, known: Known, batch: AddBatch) -> set[ChannelId]:
    """Which lanes of a batch may be claimed from at birth: open, and nothing older is due."""
    wanted = batch.wanted
    unknown = wanted.keys() - known.open_lanes
    opened = wanted.keys() & known.open_lanes
    if not unknown:
        return opened
    for row in _decode_lanes(one_value(connection, _LANES, (_encode(list(unknown)).decode(),))):
        channel_id, closed, blocked_until_ms, next_due_ms, backlog_before_ms = row
        now_ms = wanted[channel_id]
        # A hold that has passed stays in the row; only a new one closes the lane again.
        if closed or blocked_until_ms > now_ms:
            continue
        if next_due_ms is None and backlog_before_ms is None:
            known.open_lanes.add(channel_id)
        if next_due_ms is None or next_due_ms > now_ms:
            opened.add(channel_id)
        elif backlog_before_ms is not None:
            # A backlog drains slowly; new deliveries go beside it.
            newer = connection.execute(_NEWER_DUE, (channel_id, backlog_before_ms, now_ms))
            if newer.fetchone() is None:
                opened.add(channel_id)
    return opened


def _take_key(connection: sqlite3.Connection, item: NewEvent) -> Duplicate | None:
    event = item.event
    place = (event.organization_id, event.project_id or "", item.source, item.idempotency_key)
    taken = connection.execute(
        _TAKE_KEY,
        (
            *place,
            event.id,
            item.digest,
            event.type,
            len(item.deliveries),
            item.unmatched,
            event.created_at,
            item.key_expired_before,
        ),
    ).rowcount
    if taken:
        return None
    first = connection.execute(_KEY, place).fetchone()
    return Duplicate(
        event_id=first[0],
        type=first[2],
        created_at=first[5],
        deliveries=first[3],
        unmatched=None if first[4] is None else Unmatched(first[4]),
        mismatch=first[1] != item.digest,
    )

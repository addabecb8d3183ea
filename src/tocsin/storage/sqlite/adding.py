"""Publish: events, their deliveries and their idempotency keys in one transaction."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tocsin.domain.model import ChannelId, DeliveryId, Unmatched
from tocsin.storage.base import Added, Duplicate, NewEvent, Stale, Stored
from tocsin.storage.sqlite.known import Known
from tocsin.storage.sqlite.noting import count_accepted
from tocsin.storage.sqlite.rows import Row, Rows, Values, column

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
_EVENT = (
    "INSERT INTO events (data, id, organization_id, project_id, type, people, idempotency_key,"
    " occurred_at, created_at, deliveries, unmatched)"
)
_EVENTS = Values(f"{_EVENT} VALUES", "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
_SMALL_EVENTS = Rows(
    f"{_EVENT} SELECT CAST({column(0)} AS BLOB), {', '.join(map(column, range(1, 5)))},"
    f" CAST({column(5)} AS BLOB), {', '.join(map(column, range(6, 11)))} FROM json_each(?)"
)
# The event is there already, and has the rest.
_DELIVERIES = Rows(
    "INSERT INTO deliveries (id, event_id, organization_id, channel_id, project_id, event_type,"
    " origin, status, due_ms, node, claim, step, attempt_count, lost, created_at, seq)"
    f" SELECT {column(0)}, e.id, e.organization_id, {column(2)}, e.project_id, e.type, {column(3)},"
    f" 'waiting', {column(4)}, {column(5)}, {column(6)}, 0, 0, 0, e.created_at,"
    f" {column(7)}"
    f" FROM json_each(?) CROSS JOIN events AS e ON e.id = {column(1)}"
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

LaneRow = tuple[str, int, int, int | None, int | None]

SMALL_BYTES = 4_096
"""Payloads up to here go to the database many at a time."""

_decode_versions = msgspec.json.Decoder(list[tuple[str, int]]).decode
_decode_lanes = msgspec.json.Decoder(list[LaneRow]).decode
_encode = msgspec.json.encode


def one_value(connection: sqlite3.Connection, statement: str, parameters: Row) -> Any:
    """The single value of a statement that always gives one row."""
    return connection.execute(statement, parameters).fetchone()[0]


def add(
    connection: sqlite3.Connection, node: int, known: Known, items: Sequence[NewEvent]
) -> list[Added]:
    """Store events with their deliveries; the answers stand in the order of the items."""
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
    claimed = _insert(connection, node, known, kept)
    for answer in answers:
        if type(answer) is Stored:
            answer.claimed = next(claimed)
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
    connection: sqlite3.Connection, node: int, known: Known, items: list[NewEvent]
) -> Iterator[list[DeliveryId]]:
    openings = _Openings(connection, known, items)
    rows: list[Row] = []
    numbered: dict[ChannelId, list[Row]] = {}
    freed: dict[ChannelId, int] = {}
    claimed: list[list[DeliveryId]] = []
    for item in items:
        event_id, due_ms, origin = item.event.id, item.due_ms, item.origin
        mine: list[DeliveryId] = []
        for delivery in item.deliveries:
            channel_id = delivery.channel_id
            if delivery.claim and openings.open(channel_id, due_ms):
                mine.append(delivery.id)
                row = (delivery.id, event_id, channel_id, origin, due_ms, node, 1)
            else:
                freed[channel_id] = min(due_ms, freed.get(channel_id, due_ms))
                row = (delivery.id, event_id, channel_id, origin, due_ms, 0, 0)
            if delivery.ordered:
                numbered.setdefault(channel_id, []).append(row)
            else:
                rows.append(row)
        claimed.append(mine)
    _insert_events(connection, items)
    for channel_id, in_order in sorted(numbered.items()):
        rows += _numbered(connection, channel_id, in_order)
    if _DELIVERIES.run(connection, rows) != len(rows):
        raise RuntimeError("not every delivery was stored")
    if freed:
        known.open_lanes.difference_update(freed)
        _FREED.run(connection, sorted(freed.items()))
    count_accepted(connection, node, items)
    return iter(claimed)


def _insert_events(connection: sqlite3.Connection, items: list[NewEvent]) -> None:
    small: list[Row] = []
    others: list[Row] = []
    for item in items:
        event = item.event
        rest = (
            event.id,
            event.organization_id,
            event.project_id,
            event.type,
            item.people,
            item.idempotency_key,
            event.occurred_at,
            event.created_at,
            len(item.deliveries),
            item.unmatched,
        )
        texts = _texts(event.data, item.people)
        if texts is None:
            others.append((event.data, *rest))
        else:
            small.append((texts[0], *rest[:4], texts[1], *rest[5:]))
    _SMALL_EVENTS.run(connection, small)
    _EVENTS.run(connection, others)


def _texts(data: bytes, people: bytes | None) -> tuple[str, str | None] | None:
    """A small payload and what is for people as texts that come back as the very same bytes; None
    where that is not certain."""
    if len(data) > SMALL_BYTES or b"\0" in data or (people is not None and b"\0" in people):
        return None
    try:
        return data.decode(), None if people is None else people.decode()
    except UnicodeDecodeError:
        return None


def _numbered(connection: sqlite3.Connection, channel_id: ChannelId, rows: list[Row]) -> list[Row]:
    """An ordered lane's deliveries with its next numbers."""
    found = connection.execute(_NUMBERS, (len(rows), channel_id)).fetchall()
    last = found[0][0] if found else len(rows)
    first = last - len(rows) + 1
    return [(*row, seq) for seq, row in enumerate(rows, first)]


class _Openings:
    """Which lanes of a batch may be claimed from at birth: open, and nothing older is due."""

    def __init__(self, connection: sqlite3.Connection, known: Known, items: list[NewEvent]) -> None:
        self._connection = connection
        self._open = known.open_lanes
        channels = {d.channel_id for item in items for d in item.deliveries if d.claim}
        unknown = channels.difference(known.open_lanes)
        rows: list[LaneRow] = []
        if unknown:
            rows = _decode_lanes(one_value(connection, _LANES, (_encode(list(unknown)).decode(),)))
        self._lanes = {row[0]: row for row in rows}
        self._answers: dict[str, bool] = {}
        for channel_id, closed, blocked_until_ms, next_due_ms, backlog_before_ms in rows:
            # A hold that has passed stays in the row; only a new one closes the lane again.
            held = blocked_until_ms > items[0].due_ms
            if not held and not closed and next_due_ms is None and backlog_before_ms is None:
                known.open_lanes.add(ChannelId(channel_id))

    def open(self, channel_id: ChannelId, due_ms: int) -> bool:
        if channel_id in self._open:
            return True
        answer = self._answers.get(channel_id)
        if answer is None:
            answer = self._answers[channel_id] = self._look(channel_id, due_ms)
        return answer

    def _look(self, channel_id: ChannelId, now_ms: int) -> bool:
        row = self._lanes.get(channel_id)
        if row is None:
            return False
        _, closed, blocked_until_ms, next_due_ms, backlog_before_ms = row
        if closed or blocked_until_ms > now_ms:
            return False
        if next_due_ms is None or next_due_ms > now_ms:
            return True
        if backlog_before_ms is None:
            return False
        # A backlog drains slowly; new deliveries go beside it.
        newer = self._connection.execute(_NEWER_DUE, (channel_id, backlog_before_ms, now_ms))
        return newer.fetchone() is None


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

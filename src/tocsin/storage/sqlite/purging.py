"""Purge: a step of what is finished and past its retention, with its count, in one transaction.

Deliveries go first, oldest first, each with its attempts; an event goes when none of its deliveries
is left. What still waits, or is being sent, stays, and with it its event.
"""

import sqlite3
import time

import msgspec

from tocsin.storage.base import ROWS_PER_STEP_MAX, Purged
from tocsin.storage.sqlite.adding import one_value

STEP_SECONDS = 0.003
"""A step is made smaller when it has taken longer: whoever publishes waits for it."""
ROWS_MIN, ROWS_FIRST = 20, 200
EVENT_BYTES_MAX = 512 * 1024
"""Of payloads in one step: what is removed is overwritten, so it is written once more."""

# Rows come as one value: the interpreter lock changes hands once and not once per row. What is
# looked at is bounded, whatever of it may go.
_DELIVERIES = """
    SELECT json_group_array(json_array(id, CASE WHEN status = 'waiting' THEN NULL
        ELSE (SELECT count(*) FROM attempts AS a WHERE a.delivery_id = d.id) END)) FROM (
        SELECT id, status FROM deliveries WHERE id > ? AND id < ? ORDER BY id LIMIT ?) AS d
"""
_DELETE_ATTEMPTS = "DELETE FROM attempts WHERE delivery_id IN (SELECT value FROM json_each(?))"
_DELETE_DELIVERIES = "DELETE FROM deliveries WHERE id IN (SELECT value FROM json_each(?))"
_DELETE_SOME_ATTEMPTS = """
    DELETE FROM attempts WHERE delivery_id = ?1 AND claim IN (
        SELECT claim FROM attempts WHERE delivery_id = ?1 ORDER BY claim LIMIT ?2)
"""
# Some may have been recorded after their delivery was gone.
_ATTEMPTS = """
    SELECT json_group_array(json_array(delivery_id, CASE
        WHEN EXISTS (SELECT 1 FROM deliveries AS d WHERE d.id = a.delivery_id) THEN NULL
        ELSE (SELECT count(*) FROM attempts AS o WHERE o.delivery_id = a.delivery_id) END)) FROM (
        SELECT DISTINCT delivery_id FROM attempts WHERE delivery_id > ? AND delivery_id < ?
        ORDER BY delivery_id LIMIT ?) AS a
"""
_EVENTS = """
    SELECT json_group_array(json_array(id, CASE
        WHEN EXISTS (SELECT 1 FROM deliveries AS d WHERE d.event_id = e.id) THEN NULL
        ELSE bytes END)) FROM (
        SELECT id, length(data) + coalesce(length(people), 0) AS bytes FROM events
        WHERE id > ? AND id < ? ORDER BY id LIMIT ?) AS e
"""
_DELETE_EVENTS = "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))"
_COUNT = """
    INSERT INTO meta (key, value) VALUES ('purged_' || ?1, CAST(?2 AS TEXT))
    ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(value AS INTEGER) + ?2 AS TEXT)
"""

_Looked = list[tuple[str, int | None]]
_decode = msgspec.json.Decoder(_Looked).decode
_encode = msgspec.json.encode


class Purging:
    """Removes step by step, in the writer's thread; the size of a step follows from its time.

    Where it is stands in memory only: after a restart, or when a step has failed, another one
    begins anew.
    """

    def __init__(self) -> None:
        self._rows = ROWS_FIRST
        self._begin()

    def _begin(self) -> None:
        self._phases = [_deliveries, _attempts, _events]
        self._above = ""

    def step(self, connection: sqlite3.Connection, before: str) -> Purged:
        """Remove a step of what has an id below `before`."""
        began = time.monotonic()
        done, further = self._phases[0](connection, self._above, before, self._rows)
        for name in ("events", "deliveries", "attempts"):
            if rows := getattr(done, name):
                connection.execute(_COUNT, (name, rows))
        self._above = further or ""
        if further is None:
            del self._phases[0]
        done.more = bool(self._phases)
        if not done.more:
            self._begin()
        done.seconds = time.monotonic() - began
        self._adapt(done.seconds)
        return done

    def _adapt(self, seconds: float) -> None:
        if seconds > STEP_SECONDS:
            self._rows = max(self._rows // 2, ROWS_MIN)
        elif seconds < STEP_SECONDS / 2:
            self._rows = min(self._rows * 5 // 4, ROWS_PER_STEP_MAX)


_Step = tuple[Purged, str | None]
"""What was removed, and the id above which to go on (None: the phase is over)."""


def _deliveries(connection: sqlite3.Connection, above: str, before: str, rows_max: int) -> _Step:
    limit = max(rows_max // 2, 1)
    found = _look(connection, _DELIVERIES, (above, before, limit))
    ids, further = _fitting(found, limit, weight_max=rows_max, each=1)
    if len(ids) == 1:
        # It may have been tried thousands of times.
        some = connection.execute(_DELETE_SOME_ATTEMPTS, (ids[0], rows_max)).rowcount
        if some == rows_max:
            return Purged(attempts=some), above
        connection.execute(_DELETE_DELIVERIES, (_encode(ids).decode(),))
        return Purged(deliveries=1, attempts=some), further
    text = _encode(ids).decode()
    attempts = connection.execute(_DELETE_ATTEMPTS, (text,)).rowcount
    deliveries = connection.execute(_DELETE_DELIVERIES, (text,)).rowcount
    return Purged(deliveries=deliveries, attempts=attempts), further


def _attempts(connection: sqlite3.Connection, above: str, before: str, rows_max: int) -> _Step:
    found = _look(connection, _ATTEMPTS, (above, before, rows_max))
    ids, further = _fitting(found, rows_max, weight_max=rows_max, each=0)
    if not ids:
        return Purged(), further
    text = _encode(ids).decode()
    return Purged(attempts=connection.execute(_DELETE_ATTEMPTS, (text,)).rowcount), further


def _events(connection: sqlite3.Connection, above: str, before: str, rows_max: int) -> _Step:
    found = _look(connection, _EVENTS, (above, before, rows_max))
    ids, further = _fitting(found, rows_max, weight_max=EVENT_BYTES_MAX, each=0)
    if not ids:
        return Purged(), further
    text = _encode(ids).decode()
    return Purged(events=connection.execute(_DELETE_EVENTS, (text,)).rowcount), further


def _look(
    connection: sqlite3.Connection, statement: str, parameters: tuple[str, str, int]
) -> _Looked:
    return _decode(one_value(connection, statement, parameters))


def _fitting(
    found: _Looked, limit: int, *, weight_max: int, each: int
) -> tuple[list[str], str | None]:
    """The first ids that may go (those with a weight) and are within a bound together, one at
    least; and where to go on."""
    ids: list[str] = []
    left, last = weight_max, ""
    for one, weight in found:
        if weight is not None:
            left -= weight + each
            if ids and left < 0:
                return ids, last
            ids.append(one)
        last = one
    return ids, last if len(found) == limit else None

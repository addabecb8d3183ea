"""Purge: whole days past their retention are dropped, one partition in a transaction, with its
count.

A day goes when all of it is too old and nothing of it waits or is being sent. To take a partition
off its table a transaction needs that table for itself for a moment; it gives up soon, so that
nobody who publishes waits long behind it, and tries again.
"""

import asyncio
import re
import time
from datetime import UTC, datetime

import asyncpg

from tocsin.domain.ids import floor
from tocsin.storage.base import Purged
from tocsin.storage.postgres.partitions import DAY_MS, bound_of, name_of
from tocsin.storage.postgres.session import Connection, Sessions

LOCK_MS_MAX = 100
TRIES_MAX = 5
TRY_SECONDS = 0.5
COUNT_MS_MAX = 3_600_000
COUNTED_AGAIN_MAX = 20_000
"""Nothing is stored for a day so long ago. Where that costs nothing it is looked at once more."""
EVENT_BEFORE_DELIVERY_MS = 3_600_000
"""A delivery of an event of this day may have been made just after midnight."""

# Attempts are found by their delivery, and a delivery is sent with its event: so in this order.
ORDER = ("deliveries", "attempts", "events")

_PARTITIONS = """
    SELECT p.relname AS table_name, c.relname AS name
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        JOIN pg_class AS p ON p.oid = i.inhparent
    WHERE i.inhparent = ANY (ARRAY['events'::regclass, 'deliveries'::regclass,
        'attempts'::regclass])
"""
_LIVE = """
    SELECT EXISTS (SELECT 1 FROM deliveries WHERE status = 'waiting' AND id >= $1 AND id < $2)
"""
_COUNT = """
    INSERT INTO meta AS m (key, value) VALUES ('purged_' || $1::text, $2::bigint::text)
    ON CONFLICT (key) DO UPDATE SET value = (m.value::bigint + $2::bigint)::text
"""
_DATED = re.compile(r"_p_([0-9]{8})$")


class Purging:
    """Drops partition after partition; `live` are the days found to be in use in this pass."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._live: set[int] = set()

    async def step(self, before_ms: int) -> Purged:
        """Drop one partition of the oldest day that is wholly past; raises what the driver does."""
        connection = await self._sessions.open(control=True)
        try:
            found = await _oldest(connection, before_ms, self._live)
            if found is None:
                self._live.clear()
                return Purged()
            day, table = found
            if await _in_use(connection, day):
                self._live.add(day)
                return Purged(more=True)
            rows, seconds = await _drop(connection, table, day)
        finally:
            await connection.close()
        if rows is None:
            self._live.add(day)
            return Purged(more=True, seconds=seconds)
        done = Purged(more=True, seconds=seconds)
        setattr(done, table, rows)
        return done


async def _oldest(connection: Connection, before_ms: int, live: set[int]) -> tuple[int, str] | None:
    """The next partition to drop; days of which all are younger than `before_ms` are left."""
    there: set[tuple[int, int]] = set()
    for row in await connection.fetch(_PARTITIONS):
        dated = _DATED.search(row["name"])
        if dated is None:
            continue
        date = datetime.strptime(dated[1], "%Y%m%d").replace(tzinfo=UTC)
        day = int(date.timestamp() * 1000) // DAY_MS
        if (day + 1) * DAY_MS <= before_ms and day not in live:
            there.add((day, ORDER.index(row["table_name"])))
    if not there:
        return None
    day, at = min(there)
    return day, ORDER[at]


async def _in_use(connection: Connection, day: int) -> bool:
    through = floor((day + 1) * DAY_MS + EVENT_BEFORE_DELIVERY_MS)
    return bool(await connection.fetchval(_LIVE, bound_of(day), through))


async def _drop(connection: Connection, table: str, day: int) -> tuple[int | None, float]:
    """Drop a partition and count it; None where something in it has come to life meanwhile."""
    name = name_of(table, day)
    rows = await _rows(connection, name)
    for left in reversed(range(TRIES_MAX)):
        began = time.monotonic()
        try:
            dropped = await _take_off(connection, table, name, rows)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if not left:
                raise
            await asyncio.sleep(TRY_SECONDS)
        else:
            return dropped, time.monotonic() - began
    raise AssertionError("the last try returns or raises")


async def _rows(connection: Connection, name: str) -> int:
    """How many rows a partition has; that may take minutes, and nobody waits for it."""
    await connection.execute("BEGIN READ ONLY")
    try:
        await connection.execute(f"SET LOCAL statement_timeout = {COUNT_MS_MAX}")
        rows = await connection.fetchval(
            f"SELECT count(*) FROM {name}", timeout=COUNT_MS_MAX / 1000
        )
    finally:
        await connection.execute("ROLLBACK")
    return int(rows)


async def _take_off(connection: Connection, table: str, name: str, rows: int) -> int | None:
    await connection.execute("BEGIN")
    try:
        await connection.execute(f"SET LOCAL lock_timeout = {LOCK_MS_MAX}")
        await connection.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
        if table == "deliveries" and await connection.fetchval(
            f"SELECT EXISTS (SELECT 1 FROM {name} WHERE status = 'waiting')"
        ):
            await connection.execute("ROLLBACK")
            return None
        if rows <= COUNTED_AGAIN_MAX:
            rows = int(await connection.fetchval(f"SELECT count(*) FROM {name}"))
        await connection.execute(f"DROP TABLE {name}")
        await connection.execute(_COUNT, table, rows)
        await connection.execute("COMMIT")
    except asyncpg.PostgresError:
        await connection.execute("ROLLBACK")
        raise
    return rows

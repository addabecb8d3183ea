"""A PostgreSQL database that takes over what another one has, page by page.

How far it is stands in `meta`, written in the transaction of each page: whatever ends the work, it
goes on from there, and no server starts on a database that is not whole.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import asyncpg
import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tocsin.domain.ids import id_time_ms
from tocsin.storage.control import schema
from tocsin.storage.migrations import migrate
from tocsin.storage.postgres.core import Core, cause_of
from tocsin.storage.postgres.lean import LeanConnection
from tocsin.storage.postgres.partitions import DAY_MS, make
from tocsin.storage.postgres.session import Connection, Sessions, StoreRefused, opening_fault
from tocsin.storage.sheets import MoveRefused, Row, Sheet
from tocsin.storage.tables import SCHEMA_VERSION, meta, metadata, nodes

MOVED = "moved"
READ_ROWS = 500
PAGE_SECONDS_MAX = 120.0
ANALYZE_SECONDS_MAX = 3_600.0

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_NOTE = "UPDATE meta SET value = $1 WHERE key = $2 AND value = $3"
_LONG = "SELECT set_config('statement_timeout', '0', true)"
_READ = """
    SELECT set_config('statement_timeout', '0', true), set_config('enable_seqscan', 'on', true)
"""
_NUMBERS = "SELECT setval('node_numbers', greatest($1::bigint, last_value)) FROM node_numbers"


class Progress(Struct, frozen=True):
    """How far a move is: `position` is the key of the last row of `table` that is there.

    `ahead_ms` is how far the old storage clock was ahead of this database's when it began.
    """

    source: str
    ahead_ms: int
    table: str = ""
    position: list[Any] = []


class Done(Struct, frozen=True):
    """A move that has ended: of each table the rows and their checksum."""

    source: str
    ahead_ms: int
    tables: dict[str, tuple[int, str]]


class Target:
    """The new database. `async with` connects; `meant` tells what its errors mean."""

    def __init__(
        self,
        dsn: str,
        *,
        place: str,
        prepared: bool = True,
        connection_class: type[asyncpg.Connection] = LeanConnection,
    ) -> None:
        self._sessions = Sessions(dsn, prepared=prepared, connection_class=connection_class)
        self._place = place
        self._days: set[int] = set()
        self._note = ""

    async def __aenter__(self) -> "Target":
        self._connection: Connection = await self._sessions.open()
        self._core = Core(self._sessions)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.terminate()
        await self._core.close()

    def meant(self, error: Exception) -> Exception:
        """What a failure of the database means to people; any other error as it is."""
        cause = cause_of(error) if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, StoreRefused) or cause is None:
            return error
        if isinstance(cause, asyncpg.PostgresError) or opening_fault(cause):
            reason = str(cause) or "no answer in time"
            return StoreRefused(f"can't use the database {self._place}: {reason}")
        return error

    async def now_ms(self) -> int:
        """What the database's clock shows."""
        return int(await self._connection.fetchval(f"SELECT {_NOW}"))

    async def begin(self, source: str, ahead_ms: int) -> Progress | Done:
        """Make the tables and mark them as not whole; or find out how far an earlier run came.

        Raises MoveRefused when there is something else in the database.
        """
        found = await self._core.write(lambda c: self._begin(c, source, ahead_ms))
        self._note = msgspec.json.encode(found).decode() if isinstance(found, Progress) else ""
        return found

    def _begin(self, connection: sa.Connection, source: str, ahead_ms: int) -> Progress | Done:
        version = schema.refuse_newer(connection)
        if version is not None:
            done = _noted(connection, MOVED)
            if done is not None and (was := msgspec.json.decode(done, type=Done)).source == source:
                return was
            note = _noted(connection, schema.MOVING)
            if note is not None:
                progress = msgspec.json.decode(note, type=Progress)
                if progress.source != source:
                    raise MoveRefused(
                        f"An earlier run has begun to fill {self._place} from another file, or "
                        "from this one before a server was started on it again: drop that "
                        "database, make a new one, and begin anew."
                    )
                return progress
            self._refuse_used(connection)
        if version != SCHEMA_VERSION:
            migrate(connection)
        progress = Progress(source=source, ahead_ms=ahead_ms)
        value = msgspec.json.encode(progress).decode()
        connection.execute(sa.insert(meta).values(key=schema.MOVING, value=value))
        return progress

    def _refuse_used(self, connection: sa.Connection) -> None:
        now: sa.ColumnClause[int] = sa.literal_column(_NOW)
        if connection.scalar(sa.select(nodes.c.number).where(nodes.c.lease_until_ms > now)):
            raise MoveRefused(f"A server runs on {self._place}: stop it first.")
        there = set(sa.inspect(connection).get_table_names())
        for table in metadata.sorted_tables:
            if table.name in (meta.name, nodes.name) or table.name not in there:
                continue
            if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first():
                raise MoveRefused(
                    f"{self._place} is in use: there are rows in {table.name}. Make a new "
                    "database for what is moved; two stores can't be put together."
                )

    async def page(self, sheet: Sheet, rows: Sequence[Row], progress: Progress) -> None:
        """Store a page and, in the same transaction, how far that is."""
        await self._make_days(sheet, rows)
        after = msgspec.json.encode(progress).decode()

        async def work() -> None:
            await self._connection.copy_records_to_table(
                sheet.name, records=rows, columns=sheet.columns, timeout=PAGE_SECONDS_MAX
            )
            await self._noted(schema.MOVING, after)

        await self._transaction(_LONG, work)
        self._note = after

    async def _make_days(self, sheet: Sheet, rows: Sequence[Row]) -> None:
        if sheet.dated is None:
            return
        days = {id_time_ms(row[sheet.dated]) // DAY_MS for row in rows} - self._days
        for day in sorted(days):
            await self._core.write(lambda c, day=day: make(c, [day]))  # type: ignore[misc]
        self._days |= days

    async def _noted(self, key: str, value: str) -> None:
        if await self._connection.execute(_NOTE, value, key, self._note) != "UPDATE 1":
            raise MoveRefused(f"Another run is filling {self._place}: let that one end.")

    async def _transaction(self, settings: str, work: Callable[[], Any]) -> None:
        await self._sessions.begin(self._connection)
        await self._connection.fetchrow(settings)
        await work()
        await self._connection.execute("COMMIT")

    async def chunks(self, sheet: Sheet) -> AsyncIterator[list[Row]]:
        """The whole table, in whatever order."""
        names = ", ".join(f'"{name}"' for name in sheet.columns)
        await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        await self._connection.fetchrow(_READ)
        cursor = await self._connection.cursor(f"SELECT {names} FROM {sheet.name}")
        while rows := await cursor.fetch(READ_ROWS, timeout=PAGE_SECONDS_MAX):
            yield [tuple(row) for row in rows]
        await self._connection.execute("COMMIT")

    async def finish(self, notes: Sequence[tuple[str, str]], highest_node: int, done: Done) -> None:
        """Take over what the old database noted, and let servers start here."""

        async def work() -> None:
            own = [schema.KEY, schema.MOVING]
            await self._noted(schema.MOVING, self._note)
            await self._connection.execute("DELETE FROM meta WHERE key <> ALL ($1::text[])", own)
            await self._connection.executemany(
                "INSERT INTO meta (key, value) VALUES ($1, $2)",
                [*notes, (MOVED, msgspec.json.encode(done).decode())],
            )
            await self._connection.fetchrow(_NUMBERS, highest_node)
            await self._connection.execute("DELETE FROM meta WHERE key = $1", schema.MOVING)

        await self._transaction(_LONG, work)
        await self._transaction(_LONG, self._analyze)

    async def _analyze(self) -> None:
        """Until it is known how much there is, the planner of reads would guess."""
        await self._connection.execute("ANALYZE", timeout=ANALYZE_SECONDS_MAX)


def _noted(connection: sa.Connection, key: str) -> str | None:
    value = connection.scalar(sa.select(meta.c.value).where(meta.c.key == key))
    return None if value is None else str(value)

"""A SQLite file that is moved to another database: read page by page, never written to."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from tocsin.domain.ids import id_time_ms
from tocsin.storage.control import schema
from tocsin.storage.sheets import Row, Sheet
from tocsin.storage.sqlite.writer import core_engine
from tocsin.storage.tables import SCHEMA_VERSION

CHUNK_ROWS = 2_000
_STAMPED = ("organizations", "projects", "keys", "channels", "jobs", "audit", "events")
_HELD = "SELECT 1 FROM deliveries WHERE status = 'waiting' AND node <> 0 LIMIT 1"


class Source:
    """The file, open for reading; the caller holds its lock. Not for use by two threads at once.

    Raises SchemaNewer, and the driver's errors where the file can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=5,
        )
        try:
            self._connection.execute("PRAGMA query_only = ON")
            with core_engine(lambda: self._connection).connect() as core:
                self.schema = schema.refuse_newer(core)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def needs_start(self) -> bool:
        """Whether a start has something to do first: migrate, or free what a dead server held."""
        if self.schema != SCHEMA_VERSION:
            return True
        return self._connection.execute(_HELD).fetchone() is not None

    @property
    def state(self) -> str:
        """Another one after every start of a server: whoever writes has taken a node number."""
        query = "SELECT number, started_at, lease_until_ms FROM nodes ORDER BY number"
        return sha256(repr(self._connection.execute(query).fetchall()).encode()).hexdigest()[:32]

    @property
    def highest_node(self) -> int:
        """The highest node number that was ever used."""
        query = "SELECT coalesce(max(number), 0) FROM nodes"
        return int(self._connection.execute(query).fetchone()[0])

    @property
    def latest_ms(self) -> int:
        """The latest stored stamp: the storage clock of a server here never goes below it."""
        latest = "SELECT coalesce(max(max(started_at), max(lease_until_ms)), 0) FROM nodes"
        found = int(self._connection.execute(latest).fetchone()[0] or 0)
        for table in (*_STAMPED, "deliveries"):
            last = self._connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
            found = max(found, id_time_ms(last) + 1 if last else 0)
        return found

    def notes(self) -> list[tuple[str, str]]:
        """What stands in `meta`, but for the schema's number."""
        query = "SELECT key, value FROM meta WHERE key <> ?"
        return self._connection.execute(query, (schema.KEY,)).fetchall()

    def count(self, sheet: Sheet, through: Sequence[Any] = ()) -> int:
        """How many rows a table has; or only those up to a key."""
        where = f"WHERE ({_key(sheet)}) <= ({_marks(through)})" if through else ""
        query = f"SELECT count(*) FROM {sheet.name} {where}"
        return int(self._connection.execute(query, tuple(through)).fetchone()[0])

    def page(self, sheet: Sheet, above: Sequence[Any], rows_max: int, bytes_max: int) -> list[Row]:
        """The next rows by key, as the new database has them; [] at the end."""
        key = _key(sheet)
        where = f"WHERE ({key}) > ({_marks(above)})" if above else ""
        query = f"SELECT {_names(sheet)} FROM {sheet.name} {where} ORDER BY {key} LIMIT ?"
        found, size = [], 0
        for row in self._connection.execute(query, (*above, rows_max)):
            found.append(row)
            size += sum(len(value) for value in row if isinstance(value, bytes | str))
            if size >= bytes_max:
                break
        return sheet.changed(found)

    def chunks(self, sheet: Sheet) -> Iterator[list[Row]]:
        """The whole table, in whatever order, as the new database has it."""
        cursor = self._connection.execute(f"SELECT {_names(sheet)} FROM {sheet.name}")
        while rows := cursor.fetchmany(CHUNK_ROWS):
            yield sheet.changed(rows)


@contextmanager
def reading(path: Path) -> Iterator[Source]:
    """The file, open; what SQLite says against it is raised as an OSError."""
    try:
        source = Source(path)
        try:
            yield source
        finally:
            source.close()
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise OSError(f"{path} can't be read: {cause}") from error


def _key(sheet: Sheet) -> str:
    return ", ".join(f'"{sheet.columns[at]}"' for at in sheet.key)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _names(sheet: Sheet) -> str:
    return ", ".join(f'"{name}"' for name in sheet.columns)

"""What is stored, table by table, as something that can be compared: on either database."""

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg

from tocsin.storage.tables import metadata

T = TypeVar("T")

# What changes by itself, and no row that anybody makes.
PASSING = {"nodes", "meta", "duties", "served_minutes"}
LATER = {"audit": "action <> 'user.sign_in_failed'"}
"""Failed sign-ins are noted some seconds after their answer."""
COUNTED = {"keys": {"last_used_at", "request_count"}}

ANSWER_SECONDS_MAX = 60.0


class Stored(Protocol):
    """Looks at all tables, beside the service."""

    def look(self) -> dict[str, Any]:
        """Every row of every table, but for what changes by itself."""
        ...

    def close(self) -> None: ...


class InSqlite:
    """Reads the file."""

    def __init__(self, path: Path) -> None:
        self._reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        self._version = -1
        self._stored: dict[str, Any] = {}

    def close(self) -> None:
        self._reader.close()

    def look(self) -> dict[str, Any]:
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self._stored = {name: self._rows(name) for name in self._tables()}
        return self._stored

    def _tables(self) -> list[str]:
        found = self._reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [name for (name,) in found if name not in PASSING and not name.startswith("sqlite")]

    def _rows(self, table: str) -> Any:
        columns = [row[1] for row in self._reader.execute(f"PRAGMA table_info({table})")]
        shown = [name for name in columns if name not in COUNTED.get(table, ())]
        query = f"SELECT {', '.join(shown)} FROM {table} WHERE {LATER.get(table, 'true')}"
        rows = self._reader.execute(query).fetchall()
        return len(rows), hash(frozenset(rows))


class InPostgres:
    """Asks the server, on an event loop of its own: whoever looks waits for the answer.

    Triggers count the statements that change a table, so that only such ones are read again.
    """

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stored")
        self._thread.start()
        self._tables = [one for one in metadata.sorted_tables if one.name not in PASSING]
        self._versions: dict[str, int] = {}
        self._stored: dict[str, Any] = {}
        self._connection = self._run(asyncpg.connect(dsn))
        self._run(self._connection.execute("".join(_counting(t.name) for t in self._tables)))

    def close(self) -> None:
        self._run(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def look(self) -> dict[str, Any]:
        asked = " UNION ALL ".join(
            f"SELECT '{one.name}', last_value + is_called::int FROM changes_{one.name}"
            for one in self._tables
        )
        versions = dict(self._fetch(asked))
        moved = [t for t in self._tables if versions[t.name] != self._versions.get(t.name)]
        self._versions = versions
        self._stored = self._stored | {table.name: self._rows(table) for table in moved}
        return self._stored

    def _rows(self, table: Any) -> Any:
        hidden = COUNTED.get(table.name, ())
        shown = ", ".join(f'"{one.name}"' for one in table.columns if one.name not in hidden)
        query = f"SELECT count(*), sum(hashtextextended(ROW({shown})::text, 0)) FROM {table.name}"
        return tuple(self._fetch(f"{query} WHERE {LATER.get(table.name, 'true')}")[0])

    def _fetch(self, query: str) -> list[Any]:
        return self._run(self._connection.fetch(query))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWER_SECONDS_MAX)


def _counting(table: str) -> str:
    return f"""
        CREATE SEQUENCE changes_{table};
        CREATE FUNCTION count_{table}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM nextval('changes_{table}'); RETURN NULL; END $$;
        CREATE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION count_{table}();
    """

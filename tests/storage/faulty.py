"""A SQLite connection that fails where a test says."""

import sqlite3
from pathlib import Path
from typing import Any

from tocsin.storage.sqlite.writer import connect


def store_error(code: int) -> sqlite3.Error:
    """An error of the store, as the driver raises it."""
    error = sqlite3.OperationalError("injected")
    error.sqlite_errorcode = code
    return error


def item_error() -> sqlite3.Error:
    """An error of one item, as the driver raises it."""
    error = sqlite3.IntegrityError("injected")
    error.sqlite_errorcode = sqlite3.SQLITE_CONSTRAINT
    return error


class Plan:
    """Which statement fails, once: the `at`-th from `arm` on, BEGIN and COMMIT counted.

    `after` has it done before the error is raised, as a COMMIT may be. `fired` is the statement.
    """

    def __init__(self) -> None:
        self._left = 0
        self._error: sqlite3.Error | None = None
        self._after = False
        self.fired: str | None = None

    def arm(self, at: int, error: sqlite3.Error, *, after: bool = False) -> None:
        self._left, self._error, self._after, self.fired = at, error, after, None

    def disarm(self) -> None:
        self._error = None

    def meets(self, statement: str) -> tuple[sqlite3.Error | None, bool]:
        if self._error is None:
            return None, False
        self._left -= 1
        if self._left:
            return None, False
        error, self._error = self._error, None
        self.fired = " ".join(statement.split())
        return error, self._after

    def connect(self, path: Path) -> sqlite3.Connection:
        """Open a connection that fails by this plan."""
        plan = self

        class Faulty(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                error, after = plan.meets(sql)
                if error is not None and not after:
                    raise error
                cursor = super().execute(sql, *parameters)
                if error is not None:
                    raise error
                return cursor

        return connect(path, Faulty)

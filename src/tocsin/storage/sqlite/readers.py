"""Threads that read: connections that can't write, each read at most 5 s."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from tocsin.domain.errors import Unavailable
from tocsin.storage.sqlite.writer import core_engine, store_fault

T = TypeVar("T")

READERS = 2
READ_SECONDS_MAX = 5.0
CROWDED_SECONDS_MAX = 0.5
_STEPS_BETWEEN_LOOKS = 20_000


class Readers:
    """A small pool of reading threads, each with a connection of its own.

    While it is `crowded` the writer waits for readers, and so do all who publish: they are short.
    """

    def __init__(self, path: Path, crowded: Callable[[], bool]) -> None:
        self._path = path
        self._crowded = crowded
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="tocsin-reader")
        self._local = threading.local()
        self._opened: list[_Reader] = []

    async def run(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a snapshot; raises Unavailable when the file can't be read in time."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._work, work)

    def _work(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            reader: _Reader | None = getattr(self._local, "reader", None)
            if reader is None:
                reader = self._local.reader = _Reader(self._path, self._crowded)
                self._opened.append(reader)
            return reader.run(work)
        except (sqlite3.Error, sa.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if cause is None or not store_fault(cause):
                raise
            self._forget()
            raise Unavailable("The database can't be read now.") from error

    def _forget(self) -> None:
        """Close this thread's connection: the next read opens another."""
        reader: _Reader | None = getattr(self._local, "reader", None)
        self._local.reader = None
        if reader is not None:
            self._opened.remove(reader)
            with suppress(sqlite3.Error, sa.exc.SQLAlchemyError):
                reader.close()

    async def close(self) -> None:
        """Wait for reads under way and close the connections."""
        await asyncio.to_thread(self._pool.shutdown)
        for reader in self._opened:
            reader.close()


class _Reader:
    def __init__(self, path: Path, crowded: Callable[[], bool]) -> None:
        self._crowded = crowded
        self._connection = sqlite3.connect(
            f"file:{path}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA query_only = ON")
        self._connection.execute("PRAGMA cache_size = -4000")
        self._connection.set_progress_handler(self._over_time, _STEPS_BETWEEN_LOOKS)
        self._engine = core_engine(lambda: self._connection)
        self._core = self._engine.connect()
        self._deadline = 0.0

    def _over_time(self) -> bool:
        left = self._deadline - time.monotonic()
        return left < 0 or (left < READ_SECONDS_MAX - CROWDED_SECONDS_MAX and self._crowded())

    def run(self, work: Callable[[sa.Connection], T]) -> T:
        self._deadline = time.monotonic() + READ_SECONDS_MAX
        self._connection.execute("BEGIN")
        try:
            return work(self._core)
        finally:
            self._connection.rollback()

    def close(self) -> None:
        self._core.close()
        self._connection.close()
        self._engine.dispose()

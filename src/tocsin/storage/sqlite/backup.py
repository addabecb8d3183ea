"""A copy of the whole database: beside the writer in small steps, or of a file nobody serves from.

Beside the writer, SQLite's online backup reads through the writer's own connection. What is
committed through it meanwhile is carried into the copy as it happens: the copy never has to begin
again, holds no snapshot that would keep the log from being emptied, and ends as the database is at
its last step. Each step is a turn between two transactions. The thread in which the backup runs
and the writer thread never run at the same time.
"""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from tocsin.storage.control import schema
from tocsin.storage.sqlite.operations import Direct
from tocsin.storage.sqlite.writer import Writer, connect, core_engine

PAGES_PER_STEP = 64
PAGES_PER_STEP_ALONE = 2_000
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.001, 0.02
TURNS_OF_WAITING = 4
"""After a turn of the backup the writer is left alone for so many times as long."""
GROWTH_COPIED = 2
"""A turn copies so many times what the database has grown by since the last one: it must end."""
REFUSED_TURNS_MAX = 1_000
SYNC_BYTES = 8 << 20
"""So much is synced at a time: commits would wait for the disk if it were all at the end."""

Told = Callable[[int, int], None]
"""Hears how far it is: bytes done, and bytes in all, which grow with the database."""


class _Stopped(Exception):
    """The backup is not wanted any more."""


class _Aside(Direct):
    """Work for the writer thread between two transactions: the empty one it comes in is ended."""

    control = True
    grows = False

    def run(self, writer: Writer) -> Any:
        connection = writer.connection
        connection.execute("COMMIT")
        try:
            return super().run(writer)
        finally:
            connection.execute("BEGIN")


class _Copying:
    """One backup under way, in a thread of its own that goes a step further with every `turn`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Thread(target=self._run, name="tocsin-backup", daemon=True)
        self._lock = threading.Lock()  # held during a turn: it is not stopped half-way
        self._go = threading.Event()
        self._paused = threading.Event()
        self._stopping = False
        self._over = False
        self._failure: BaseException | None = None
        self._source: sqlite3.Connection | None = None
        self._page_bytes = 0
        self._pages = 0  # in all, at the end of the last turn
        self._steps_left = 0  # in this turn, beside the one it begins with
        self._refused = 0
        self.done_bytes = 0
        self.total_bytes = 0
        self.took_seconds = 0.0

    def turn(self, writer: Writer) -> bool | BaseException:
        """In the writer thread: go a step further. True at the end; a failure is given back and
        not raised, since it is none of the writer's."""
        began = time.monotonic()
        with self._lock:
            if self._stopping:
                return _Stopped()
            if self._source is None:
                self._source = writer.connection
                (self._page_bytes,) = self._source.execute("PRAGMA page_size").fetchone()
                self._thread.start()
            elif self._source is not writer.connection:
                return OSError("The database was opened anew after a fault.")
            else:
                self._go.set()
            self._paused.wait()
            self._paused.clear()
            self.took_seconds = time.monotonic() - began
            return self._failure or self._over

    def stop(self) -> None:
        """End it where it is, and the thread with it."""
        with self._lock:
            self._stopping = True
            self._go.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        source = self._source
        assert source is not None, "the first turn has set it"
        try:
            target = _target(self._path)
            try:
                source.backup(target, pages=PAGES_PER_STEP, progress=self._between, sleep=0)
            finally:
                target.close()
        except sqlite3.Error as error:
            self._failure = OSError(f"SQLite can't go on: {error}")
        except BaseException as error:
            self._failure = error
        finally:
            self._over = True
            self._paused.set()

    def _between(self, status: int, remaining: int, total: int) -> None:
        self.total_bytes = total * self._page_bytes
        self.done_bytes = (total - remaining) * self._page_bytes
        if status == sqlite3.SQLITE_DONE:
            return
        self._refused = 0 if status == sqlite3.SQLITE_OK else self._refused + 1
        if self._refused > REFUSED_TURNS_MAX:
            raise OSError("The database is locked.")
        if self._pages and total > self._pages:
            self._steps_left += -(-(total - self._pages) * GROWTH_COPIED // PAGES_PER_STEP)
        self._pages = total
        if self._steps_left > 0:
            self._steps_left -= 1
            return
        self._paused.set()
        self._go.wait()
        self._go.clear()
        if self._stopping:
            raise _Stopped


async def copy(writer: Writer, path: Path, told: Told) -> None:
    """Copy the database of a running writer into an empty file, and sync it.

    Raises Unavailable or OSError when it can't be done; `told` may raise to stop it.
    """
    copying = _Copying(path)
    try:
        over, synced = False, 0
        while not over:
            over = await writer.submit(_Aside(copying.turn))
            told(copying.done_bytes, copying.total_bytes)
            if copying.done_bytes - synced >= SYNC_BYTES:
                synced = copying.done_bytes
                await asyncio.to_thread(sync, path)
            rest = TURNS_OF_WAITING * copying.took_seconds
            await asyncio.sleep(min(max(PAUSE_SECONDS_MIN, rest), PAUSE_SECONDS_MAX))
    finally:
        await asyncio.shield(asyncio.to_thread(copying.stop))
    await asyncio.to_thread(sync, path)


def copy_alone(source: Path, path: Path, told: Told) -> int:
    """Copy a database whose lock the caller holds into an empty file, and sync it.

    Returns its schema's number, 0 for none; raises SchemaNewer, and OSError when it can't be done.
    """
    try:
        version = _copy_alone(source, path, told)
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise OSError(f"SQLite can't go on: {cause}") from error
    sync(path)
    return version


def _copy_alone(source: Path, path: Path, told: Told) -> int:
    connection = connect(source)
    try:
        with core_engine(lambda: connection).connect() as core:
            version = schema.refuse_newer(core)
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()

        def progress(status: int, remaining: int, total: int) -> None:
            told((total - remaining) * page_bytes, total * page_bytes)

        target = _target(path)
        try:
            connection.backup(target, pages=PAGES_PER_STEP_ALONE, progress=progress)
        finally:
            target.close()
    finally:
        connection.close()
    return version or 0


def _target(path: Path) -> sqlite3.Connection:
    """The file is worth nothing until it is whole: no journal, and synced once at its end."""
    target = sqlite3.connect(path, isolation_level=None)
    target.execute("PRAGMA journal_mode = OFF").fetchall()
    target.execute("PRAGMA synchronous = OFF")
    return target


def sync(path: Path) -> None:
    """Have the file and its name outlive a power cut."""
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def damage(path: Path, *, quick: bool) -> list[str]:
    """What SQLite finds wrong with a file that nobody writes to; `quick` leaves the indexes out."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?immutable=1", uri=True)
        try:
            check = "quick_check" if quick else "integrity_check"
            found = [str(row[0]) for row in connection.execute(f"PRAGMA {check}")]
        finally:
            connection.close()
    except sqlite3.Error as error:
        return [str(error)]
    return [] if found == ["ok"] else found

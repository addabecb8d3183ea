"""Backups made by the process that serves: one at a time, into a folder of its own."""

import asyncio
import logging
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tocsin.crypto.keyring import PRIVATE_FILE, private_folder
from tocsin.domain.errors import Conflict, Forbidden, Unavailable
from tocsin.domain.people import NOWHERE
from tocsin.domain.permissions import Caller
from tocsin.service.changes import Changes, Target, permit
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection
from tocsin.storage.opening import Copy

FOLDER = "backups"
PART = ".part"
MEGABYTE = 1_000_000

ELSEWHERE = "This server keeps its data in PostgreSQL: back it up there, with pg_dump."

_log = logging.getLogger(__name__)


class Backup(Struct, frozen=True, kw_only=True):
    """One backup, running or over. `name` is its file's, in the folder of backups."""

    name: str
    status: Literal["running", "done", "failed"]
    bytes_done: int
    bytes_total: int
    started_at: int
    finished_at: int | None = None
    error: str | None = None


class Backups:
    """Makes backups of the database file `database`; `copy` None: there is no such file.

    Finished ones stay in the folder until somebody takes them away. A backup leaves
    `reserve_mb` free on the disk, or it fails.
    """

    def __init__(
        self, *, changes: Changes, copy: Copy | None, database: Path, reserve_mb: int
    ) -> None:
        self._changes = changes
        self._copy = copy
        self._database = database
        self._folder = database.with_name(FOLDER)
        self._reserve_bytes = reserve_mb * MEGABYTE
        self._task: asyncio.Task[None] | None = None
        self._backup: Backup | None = None

    async def start(self, caller: Caller) -> Backup:
        """Begin one; raises Conflict when one is running, or there is no room for it."""
        self._permit(caller, "backup.create")
        if self._copy is None:
            raise Conflict(ELSEWHERE)
        if self._backup is not None and self._backup.status == "running":
            raise Conflict("A backup is running already.")
        size = self._database.stat().st_size
        if self._free_bytes() < size + self._reserve_bytes:
            raise Conflict(
                f"There is no room for a backup: the database has {size / MEGABYTE:,.0f} MB, and "
                f"{self._reserve_bytes // MEGABYTE} MB (TOCSIN_DISK_RESERVE_MB) must stay free."
            )
        now_ms = self._changes.clock.wall_ms()
        made = self._backup = Backup(
            name=f"tocsin-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%S.%fZ}.db",
            status="running",
            bytes_done=0,
            bytes_total=size,
            started_at=now_ms,
        )
        self._task = asyncio.get_running_loop().create_task(self._run(self._copy, made.name))
        await self._changes.alone(lambda c: self._note(c, caller, made.name), lambda: None)
        return made

    def _note(self, connection: Connection, caller: Caller, name: str) -> None:
        target = Target("backup", name)
        self._changes.note(connection, caller, Sight(NOWHERE), "backup.create", target, {})

    def latest(self, caller: Caller) -> Backup | None:
        """The one that was begun last since this process started."""
        self._permit(caller, "backup.get")
        return self._backup

    async def close(self) -> None:
        """Stop one that is running; what it has written is removed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _permit(self, caller: Caller, operation: str) -> None:
        if caller.kind != "operator":
            raise Forbidden("Only the operator may do this.")
        permit(caller, operation)

    async def _run(self, copy: Copy, name: str) -> None:
        whole = self._folder / name
        part = whole.with_name(name + PART)
        error = "It was stopped."
        try:
            private_folder(self._folder)
            for left in self._folder.glob(f"*{PART}*"):
                left.unlink()
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE))
            await copy(part, self._told)
            os.replace(part, whole)
            error = ""
        except (Unavailable, OSError) as failure:
            error = str(failure)
            _log.error("the backup has failed: %s", error)
        except Exception:
            error = "It failed; the log says why."
            _log.exception("the backup has failed")
        finally:
            part.unlink(missing_ok=True)
            self._change(
                status="failed" if error else "done",
                finished_at=self._changes.clock.wall_ms(),
                error=error or None,
            )

    def _told(self, done: int, total: int) -> None:
        self._change(bytes_done=done, bytes_total=total)
        if self._free_bytes() < self._reserve_bytes:
            raise OSError("The disk is nearly full: what is free is kept for the database.")

    def _change(self, **changes: Any) -> None:
        if self._backup is not None:
            self._backup = replace(self._backup, **changes)

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._database.parent).free

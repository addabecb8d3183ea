"""Sealing everything anew under the first master key, by the process that serves.

Interrupted at any point it is simply begun again: what is under the first key is passed over, and
the old keys are forgotten only after a walk that found nothing else.
"""

import asyncio
import logging
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tocsin.crypto.sealing import Sealer, UnsealFailed
from tocsin.domain.errors import Conflict, Forbidden, Unavailable
from tocsin.domain.people import NOWHERE
from tocsin.domain.permissions import Caller
from tocsin.service.changes import Changes, Target, permit
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, master_keys
from tocsin.storage.control.master_keys import Sealed

ROWS_AT_ONCE = 200
PAUSE_SECONDS = 0.01
WALKS_MAX = 20

_log = logging.getLogger(__name__)


class Rotation(Struct, frozen=True, kw_only=True):
    """One rotation, running or over. `done` of `total` blobs were looked at in the present walk,
    `resealed` were sealed anew in all; `unreadable` ones open under no key that is given."""

    fingerprint: str
    status: Literal["running", "done", "failed"]
    done: int = 0
    total: int = 0
    resealed: int = 0
    unreadable: int = 0
    started_at: int
    finished_at: int | None = None
    error: str | None = None


class MasterKey:
    """Rotates the master key: one rotation at a time."""

    def __init__(self, *, changes: Changes, sealer: Sealer, rows_at_once: int = ROWS_AT_ONCE):
        self._changes = changes
        self._store = changes.store
        self._sealer = sealer
        self._fingerprint = sealer.fingerprints[0]
        self._rows_at_once = rows_at_once
        self._task: asyncio.Task[None] | None = None
        self._rotation: Rotation | None = None

    async def start(self, caller: Caller) -> Rotation:
        """Begin one; raises Conflict when one is running here."""
        self._permit(caller, "master_key.rotate")
        if self._rotation is not None and self._rotation.status == "running":
            raise Conflict("The master key is being rotated already.")
        begun = self._rotation = Rotation(
            fingerprint=self._fingerprint,
            status="running",
            started_at=self._changes.clock.wall_ms(),
        )
        self._task = asyncio.get_running_loop().create_task(self._run(caller))
        return begun

    def latest(self, caller: Caller) -> Rotation | None:
        """The one that was begun last since this process started."""
        self._permit(caller, "master_key.get")
        return self._rotation

    async def close(self) -> None:
        """Stop one that is running, between two steps."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _permit(self, caller: Caller, operation: str) -> None:
        if caller.kind != "operator":
            raise Forbidden("Only the operator may do this.")
        permit(caller, operation)

    async def _run(self, caller: Caller) -> None:
        error = "It was stopped; begin it again."
        try:
            error = await self._rotate(caller)
        except Unavailable as failure:
            error = str(failure)
            _log.error("the rotation of the master key has failed: %s", error)
        except Exception:
            error = "It failed; the log says why."
            _log.exception("the rotation of the master key has failed")
        finally:
            self._change(
                status="failed" if error else "done",
                finished_at=self._changes.clock.wall_ms(),
                error=error or None,
            )

    async def _rotate(self, caller: Caller) -> str:
        """Walk until a whole walk finds nothing to do, then forget the old keys; what went wrong,
        or nothing."""

        def begin(connection: Connection) -> None:
            master_keys.begin(connection, self._fingerprint)
            self._note(connection, caller, {"rotation": "begun"})

        def finish(connection: Connection) -> bool:
            finished = master_keys.finish(connection, self._fingerprint)
            if finished:
                self._note(connection, caller, {"rotation": "finished"})
            return finished

        await self._changes.alone(begin, _nothing)
        for _ in range(WALKS_MAX):
            if not await self._walk():
                if await self._changes.alone(finish, _nothing):
                    return ""
                return "Another rotation was begun meanwhile; begin this one again."
        return "Channels are being changed too fast; begin it again."

    async def _walk(self) -> bool:
        """One walk over everything; whether anything had to be sealed anew."""
        total = await self._store.read(master_keys.count)
        self._change(done=0, total=total, unreadable=0)
        above, found_any = "", False
        while True:
            found = await self._store.read(
                lambda c, at=above: master_keys.walk(c, above=at, limit=self._rows_at_once)  # type: ignore[misc]
            )
            if not found:
                return found_any
            above = found[-1].channel_id
            changed, unreadable = await asyncio.to_thread(self._resealed, found)
            stored = 0
            if changed:
                found_any = True
                stored = await self._store.write(
                    lambda c, new=changed: master_keys.replace(c, new)  # type: ignore[misc]
                )
            self._count(len(found), stored, unreadable)
            await asyncio.sleep(PAUSE_SECONDS)

    def _resealed(self, found: list[Sealed]) -> tuple[list[tuple[Sealed, bytes]], int]:
        """What is under another key, with its new blob; and how many open under none."""
        changed, unreadable = [], 0
        for one in found:
            if self._sealer.sealed_now(one.blob):
                continue
            try:
                changed.append((one, self._sealer.reseal(one.blob)))
            except UnsealFailed:
                unreadable += 1
        return changed, unreadable

    def _note(self, connection: Connection, caller: Caller, said: dict[str, Any]) -> None:
        target = Target("master_key", self._fingerprint)
        self._changes.note(connection, caller, Sight(NOWHERE), "master_key.rotate", target, said)

    def _count(self, done: int, resealed: int, unreadable: int) -> None:
        if (now := self._rotation) is not None:
            self._change(
                done=now.done + done,
                resealed=now.resealed + resealed,
                unreadable=now.unreadable + unreadable,
            )

    def _change(self, **changes: Any) -> None:
        if self._rotation is not None:
            self._rotation = replace(self._rotation, **changes)


def _nothing() -> None:
    pass

"""The store on one SQLite file: opening, starting, and the calls of both planes."""

import math
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from sqlalchemy import Connection

from tocsin.domain.ids import floor, id_time_ms
from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
from tocsin.storage.additions import Taken
from tocsin.storage.base import (
    NO_ROOMS,
    Added,
    Claims,
    NewEvent,
    Purged,
    Settled,
    Settlement,
)
from tocsin.storage.control import schema
from tocsin.storage.folder import lock
from tocsin.storage.sqlite import backup, claiming
from tocsin.storage.sqlite.batches import AddBatch, SettleBatch, made
from tocsin.storage.sqlite.operations import PURGE, Add, Claim, Control, Direct, Release, Settle
from tocsin.storage.sqlite.purging import Purging
from tocsin.storage.sqlite.readers import Readers
from tocsin.storage.sqlite.taking import held
from tocsin.storage.sqlite.writer import Writer, connect
from tocsin.storage.tables import SCHEMA_VERSION
from tocsin.telemetry import families as of
from tocsin.telemetry.instruments import Sample

T = TypeVar("T")

LANES_PER_CHECK = 500
_ID_TABLES = ("organizations", "projects", "keys", "channels", "jobs", "audit", "events")


class SqliteStore:
    """Both planes on one file. `async with` opens it and frees what an earlier process held.

    `began` has the claims (delivery id → claim) whose send an earlier process had begun; `died`
    is called when the writer thread ends by itself. `floor_ms` is the latest stored time. Nothing
    is added below `reserve_bytes` of free disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        wall_ms: Callable[[], int],
        storage_ms: Callable[[], int],
        began: Mapping[str, int] | None = None,
        started: Callable[[int], None] = lambda floor_ms: None,
        died: Callable[[BaseException], None] = lambda error: None,
        connect: Callable[[Path], sqlite3.Connection] = connect,
        reserve_bytes: int = 0,
    ) -> None:
        self.path = path
        self._wall_ms = wall_ms
        self._storage_ms = storage_ms
        self._began = dict(began or {})
        self._started = started
        self._died = died
        self._connect = connect
        self._reserve_bytes = reserve_bytes
        self._lock: int | None = None
        self._purging = Purging()
        self._node = 0
        self.floor_ms = 0

    lease_until = math.inf
    """There is no other node."""
    epoch = 1

    @property
    def node(self) -> int:
        """This process's node number, never used before."""
        return self._node

    async def __aenter__(self) -> "SqliteStore":
        self._lock = lock(self.path)
        try:
            self._make_file()
            self._writer = Writer(
                self.path, self._died, self._free, self._connect, self._reserve_bytes
            )
            self._readers = Readers(self.path, crowded=lambda: self._writer.crowded)
            self._writer.start()
            try:
                await self._start()
            except BaseException:
                await self._close()
                raise
        except BaseException:
            self._unlock()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()
        self._unlock()

    def _make_file(self) -> None:
        """Made by us with 0600; SQLite gives -wal and -shm the same mode."""
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(self.path, 0o600)

    async def _start(self) -> None:
        if await self.write(schema.refuse_newer) != SCHEMA_VERSION:
            # Imported only when there is something to migrate: Alembic is slow and large.
            from tocsin.storage.migrations import migrate

            await self.write(migrate)
        self._node, self.floor_ms = await self._writer.submit(Direct(self._take_node))
        self._writer.node = self._node
        self._started(self.floor_ms)
        while await self._writer.submit(Direct(self._recover)):
            pass

    def _take_node(self, writer: Writer) -> tuple[int, int]:
        connection = writer.connection
        highest = connection.execute("SELECT coalesce(max(number), 0) FROM nodes").fetchone()[0]
        floor_ms = 0
        for table in (*_ID_TABLES, "deliveries"):
            last = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
            floor_ms = max(floor_ms, id_time_ms(last) + 1 if last else 0)
        latest = "SELECT max(max(started_at), max(lease_until_ms)) FROM nodes"
        floor_ms = max(floor_ms, connection.execute(latest).fetchone()[0] or 0)
        connection.execute(
            "INSERT INTO nodes (number, started_at, lease_until_ms) VALUES (?, ?, 0)",
            (highest + 1, self._wall_ms()),
        )
        return highest + 1, floor_ms

    def _free(self, writer: Writer, taken: Sequence[Taken]) -> None:
        claiming.release(writer.connection, writer.node, taken, self._wall_ms())

    def _recover(self, writer: Writer) -> int:
        return claiming.recover(
            writer.connection, writer.node, self._began, self._storage_ms(), self._wall_ms()
        )

    async def _close(self) -> None:
        await self._readers.close()
        await self._writer.close()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Data plane

    async def turn(self) -> None:
        """See `DataPlane.turn`: its thread takes whatever is there as soon as it can."""

    async def add(self, events: Sequence[NewEvent]) -> list[Added | Exception]:
        """See `DataPlane.add`."""
        batch = made(AddBatch, events, self._writer.node)
        answers: list[Added | Exception] = await self._writer.submit(Add(events, batch))
        return answers

    async def claim(
        self,
        *,
        now_ms: int,
        room: int,
        bytes_max: int,
        lane_room: int,
        full: Sequence[ChannelId],
        over: Sequence[OrganizationId] = (),
        rooms: Mapping[ChannelId, int] = NO_ROOMS,
    ) -> Claims:
        """See `DataPlane.claim`."""
        operation = Claim(
            now_ms=now_ms,
            room=room,
            bytes_max=bytes_max,
            lane_room=lane_room,
            full=full,
            over=over,
            rooms=rooms,
        )
        claimed: claiming.Claimed = await self._writer.submit(operation)
        return Claims(held=[held(row) for row in claimed[0]], next_due_ms=claimed[1])

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """See `DataPlane.settle`."""
        batch = made(SettleBatch, settlements, self._writer.node)
        operation = Settle(settlements, self._storage_ms(), self._wall_ms(), batch)
        settled: Settled = await self._writer.submit(operation)
        return settled

    async def release(self, held: Sequence[tuple[DeliveryId, int, ChannelId]]) -> None:
        """See `DataPlane.release`."""
        await self._writer.submit(Release(held, self._wall_ms()))

    async def purge(self, before_ms: int) -> Purged:
        """See `DataPlane.purge`."""
        before, purging = floor(before_ms), self._purging
        try:
            done: Purged = await self._writer.submit(
                Direct(lambda writer: purging.step(writer.connection, before), PURGE)
            )
        except Exception:
            self._purging = Purging()  # what it took for done may have been rolled back
            raise
        return done

    async def check_lanes(self, now_ms: int) -> int:
        """See `DataPlane.check_lanes`; in steps, so that commits go on between them."""
        wrong, above = 0, ""
        while True:
            at = above

            def step(writer: Writer, at: str = at) -> tuple[str | None, int]:
                writer.known.forget()
                return claiming.check_lanes(writer.connection, at, LANES_PER_CHECK)

            further, found = await self._writer.submit(Direct(step))
            wrong += int(found)
            if further is None:
                return wrong
            above = further

    async def note_time(self) -> None:
        """Store the storage time, so that it goes on from there after a restart: a wall clock that
        was put back meanwhile would delay every waiting retry by as much."""

        def note(writer: Writer) -> None:
            writer.connection.execute(
                "UPDATE nodes SET lease_until_ms = ? WHERE number = ?",
                (self._storage_ms(), writer.node),
            )

        await self._writer.submit(Direct(note))

    async def ping(self) -> None:
        """Return when the writer has answered; raises Unavailable."""
        await self._writer.submit(Direct(lambda writer: writer.connection.execute("SELECT 1")))

    async def forget_keys(self, before_ms: int, limit: int) -> int:
        """Delete up to `limit` idempotency keys made before a moment; returns how many."""

        def step(writer: Writer) -> int:
            deleted: int = writer.connection.execute(
                "DELETE FROM idempotency WHERE (organization_id, project_id, source, key) IN ("
                " SELECT organization_id, project_id, source, key FROM idempotency"
                " WHERE created_at < ? LIMIT ?)",
                (before_ms, limit),
            ).rowcount
            return deleted

        count: int = await self._writer.submit(Direct(step))
        return count

    # Metrics

    def samples(self) -> Iterator[Sample]:
        """See `Store.samples`."""
        yield from self._writer.counts.samples()
        yield Sample(of.STORE_QUEUE, (), self._writer.waiting)
        with suppress(OSError):  # the other metrics say how it is, then
            disk = os.statvfs(self.path.parent)
            yield Sample(of.STORE_FREE_BYTES, (), disk.f_bavail * disk.f_frsize)
            yield Sample(of.STORE_BYTES, (), self.path.stat().st_size)
            yield Sample(of.STORE_WAL_BYTES, (), Path(f"{self.path}-wal").stat().st_size)

    # Control plane

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `ControlPlane.read`."""
        return await self._readers.run(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """See `ControlPlane.write`."""
        answer: T = await self._writer.submit(Control(work))
        return answer

    async def copy(self, path: Path, told: backup.Told) -> None:
        """Copy the whole database into an empty file, beside everything else (`backup.py`)."""
        await backup.copy(self._writer, path, told)

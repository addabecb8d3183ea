"""The store on PostgreSQL: opening, starting, and the calls of both planes."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import Connection

from tocsin.domain.errors import Unavailable
from tocsin.domain.ids import id_time_ms
from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
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
from tocsin.storage.postgres import checking, lapsed
from tocsin.storage.postgres.claiming import Wanted
from tocsin.storage.postgres.core import Core
from tocsin.storage.postgres.lean import LeanConnection
from tocsin.storage.postgres.nodes import BEAT_SECONDS, SKEW_MS_MAX, Beat, Nodes, Started
from tocsin.storage.postgres.operations import Add, Claim, Direct, Release, Settle
from tocsin.storage.postgres.partitions import make, make_ahead
from tocsin.storage.postgres.purging import Purging
from tocsin.storage.postgres.session import Sessions, StoreRefused, opening_fault
from tocsin.storage.postgres.waking import Waking
from tocsin.storage.postgres.writer import Transaction, Writer
from tocsin.storage.tables import SCHEMA_VERSION
from tocsin.telemetry.families import STORE_QUEUE
from tocsin.telemetry.instruments import Sample

T = TypeVar("T")

PARTITIONS_SECONDS = 3_600.0
_ID_TABLES = ("organizations", "projects", "keys", "channels", "jobs", "audit", "events")

_log = logging.getLogger("tocsin.storage")


class PostgresStore:
    """Both planes on one database, shared with other nodes. `async with` opens it.

    `before` is the number under which an earlier process of this very place has worked and is known
    to be dead; `began` has the claims (delivery id → claim) whose send it had begun. `numbered` is
    told this node's number whenever it takes one, before anything is claimed under it; `measured`,
    again and again, what the database's clock (ms) showed at a monotonic moment (s). `lost` is
    called when this node's lease had ended, `woken` when another node has freed deliveries, `died`
    when a part of the store ends by itself.
    """

    def __init__(
        self,
        dsn: str,
        *,
        wall_ms: Callable[[], int],
        storage_ms: Callable[[], int],
        prepared: bool = True,
        before: Started | None = None,
        began: Mapping[str, int] | None = None,
        numbered: Callable[[Started], None] = lambda node: None,
        measured: Callable[[int, float], None] = lambda now_ms, at: None,
        lost: Callable[[], None] = lambda: None,
        woken: Callable[[], None] = lambda: None,
        died: Callable[[BaseException], None] = lambda error: None,
        connection_class: type[asyncpg.Connection] = LeanConnection,
    ) -> None:
        self.place = _place(dsn)
        self._sessions = Sessions(dsn, prepared=prepared, connection_class=connection_class)
        self._wall_ms = wall_ms
        self._storage_ms = storage_ms
        self._before = before
        self._began = dict(began or {})
        self._numbered = numbered
        self._measured = measured
        self._lost = lost
        self._woken = woken
        self._died = died
        self._tasks: list[asyncio.Task[None]] = []
        self.floor_ms = 0

    @property
    def node(self) -> int:
        """This process's node number, never used before; another one after its lease was lost."""
        return self._nodes.numbers[-1]

    @property
    def lease_until(self) -> float:
        """The moment (monotonic, s) until which what this node holds is its own for sure."""
        return self._nodes.lease_until

    @property
    def epoch(self) -> int:
        """Rises when the lease was lost: what was claimed in an earlier epoch must not be sent."""
        return len(self._nodes.numbers)

    async def __aenter__(self) -> "PostgresStore":
        self._core = Core(self._sessions)
        self._purging = Purging(self._sessions)
        self._waking = Waking(self._sessions, self._woken)
        self._nodes = Nodes(
            self._sessions,
            wall_ms=self._wall_ms,
            numbered=self._numbered,
            lost=self._lost,
            measured=self._beat,
        )
        self._writer = Writer(
            self._sessions,
            numbers=self._nodes.numbers,
            wall_ms=self._wall_ms,
            died=self._died,
            give_back=Release,
            make_day=lambda day: self._core.write(lambda c: make(c, [day])),
            freed=self._waking.freed,
        )
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _start(self) -> None:
        await self._reach()
        await self.read(schema.refuse_unfinished)
        if await self.write(schema.refuse_newer) != SCHEMA_VERSION:
            # Imported only when there is something to migrate: Alembic is slow and large.
            from tocsin.storage.migrations import migrate

            await self.write(migrate)
        await self.write(lambda c: make_ahead(c, self._wall_ms()))
        self.floor_ms = await self.read(_highest)
        await self._nodes.take()
        self._writer.start()
        for work in (self._nodes.run(), self._waking.run(), self._look_after()):
            task = asyncio.get_running_loop().create_task(work)
            task.add_done_callback(self._ended)
            self._tasks.append(task)
        before = self._before
        # In another database the number is another node's, which may well be alive.
        if before is not None and await self._nodes.is_there(before):
            await self._walk((before.number,), began=self._began)
            await self._nodes.bury(before)

    async def _reach(self) -> None:
        """Say why, where the database can't be worked with from the start."""
        try:
            connection = await self._sessions.open()
        except StoreRefused:
            raise
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError) or opening_fault(error):
                reason = str(error) or "no answer in time"
                raise StoreRefused(f"can't use the database {self.place}: {reason}") from error
            raise
        await connection.close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self._died(task.exception() or RuntimeError("a part of the store ended"))

    def _beat(self, beat: Beat) -> None:
        if not self._nodes.numbers:
            skew_ms = self._wall_ms() - beat.now_ms
            if abs(skew_ms) > SKEW_MS_MAX:
                _log.warning(
                    "this machine's clock is %.1f s %s that of the database",
                    abs(skew_ms) / 1000,
                    "ahead of" if skew_ms > 0 else "behind",
                )
        self._measured(beat.now_ms, beat.at)

    async def _close(self) -> None:
        for task in self._tasks:
            task.remove_done_callback(self._ended)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writer.close()
        self._waking.close()
        await self._nodes.leave()
        await self._core.close()

    # Other nodes

    async def _look_after(self) -> None:
        """Free what lapsed nodes hold, and make partitions ahead of time, until cancelled."""
        loop = asyncio.get_running_loop()
        partitions_at = loop.time() + PARTITIONS_SECONDS
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                numbers = await self._nodes.lapsed()
                if numbers:
                    freed = await self._walk(numbers, began=None)
                    await self._nodes.forget(numbers)
                    _log.warning("freed %d deliveries of nodes that are gone", freed)
                if loop.time() >= partitions_at:
                    await self.write(lambda c: make_ahead(c, self._wall_ms()))
                    partitions_at = loop.time() + PARTITIONS_SECONDS
            except Exception as error:
                if not opening_fault(error):
                    raise
                _log.warning("can't look after other nodes now: %r", error)

    async def _walk(self, numbers: Sequence[int] | None, began: Mapping[str, int] | None) -> int:
        freed, above = 0, ""
        while True:
            at_lane = above

            async def step(at: Transaction, above: str = at_lane) -> tuple[str | None, int]:
                return await lapsed.free_held(at, above, numbers, began)

            further, count = await self._writer.submit(Direct(step, apart=True))
            freed += int(count)
            if further is None:
                return freed
            above = further

    # Data plane

    async def turn(self) -> None:
        """See `DataPlane.turn`."""
        await self._writer.turn()

    async def add(self, events: Sequence[NewEvent]) -> list[Added | Exception]:
        """See `DataPlane.add`."""
        answers: list[Added | Exception] = await self._writer.submit(Add(events))
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
        wanted = Wanted(now_ms, room, bytes_max, lane_room, full, over, rooms)
        claims: Claims = await self._writer.submit(Claim(wanted))
        return claims

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """See `DataPlane.settle`."""
        settled: Settled = await self._writer.submit(Settle(settlements, self._storage_ms()))
        return settled

    async def release(self, held: Sequence[tuple[DeliveryId, int, ChannelId]]) -> None:
        """See `DataPlane.release`."""
        await self._writer.submit(Release(held))

    async def purge(self, before_ms: int) -> Purged:
        """See `DataPlane.purge`: a whole day goes, when all of it is that old."""
        try:
            return await self._purging.step(before_ms)
        except Exception as error:
            if not opening_fault(error):
                raise
            raise Unavailable("The database is not available.") from error

    async def check_lanes(self, now_ms: int) -> int:
        """See `DataPlane.check_lanes`; in steps, so that commits go on between them.

        What is held by a number that no node has any more is freed by the way.
        """
        await self._walk(None, began=None)
        wrong, above = 0, ""
        while True:
            at_lane = above

            async def step(at: Transaction, above: str = at_lane) -> tuple[str | None, int]:
                return await checking.check_lanes(at, above)

            further, found = await self._writer.submit(Direct(step, apart=True))
            wrong += int(found)
            if further is None:
                return wrong
            above = further

    async def note_time(self) -> None:
        """See `Store.note_time`: every renewal of the lease has done so."""

    async def ping(self) -> None:
        """Return when the writer has answered; raises Unavailable."""

        async def work(at: Transaction) -> None:
            await at.connection.execute("SELECT 1")

        await self._writer.submit(Direct(work))

    async def forget_keys(self, before_ms: int, limit: int) -> int:
        """Delete up to `limit` idempotency keys made before a moment; returns how many."""

        async def work(at: Transaction) -> int:
            return await checking.forget_keys(at, before_ms, limit)

        count: int = await self._writer.submit(Direct(work))
        return count

    # Metrics

    def samples(self) -> Iterator[Sample]:
        """See `Store.samples`."""
        yield from self._writer.counts.samples()
        yield Sample(STORE_QUEUE, (), self._writer.waiting)

    # Control plane

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See `ControlPlane.read`."""
        return await self._core.read(work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """See `ControlPlane.write`."""
        return await self._core.write(work)


def _highest(connection: Connection) -> int:
    """The moment after the highest id stored by anybody."""
    floor_ms = 0
    for table in (*_ID_TABLES, "deliveries"):
        last = connection.exec_driver_sql(f"SELECT max(id) FROM {table}").scalar()
        floor_ms = max(floor_ms, id_time_ms(last) + 1 if last else 0)
    return floor_ms


def _place(dsn: str) -> str:
    """Where a database is, without the password."""
    try:
        parts = urlsplit(dsn)
        return f"{parts.scheme}://{parts.hostname or ''}:{parts.port or 5432}{parts.path}"
    except ValueError:
        return "postgresql"

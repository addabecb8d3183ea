"""The engine: lanes, dispatcher, settler and worker put together, behind the port `Dispatch`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from types import TracebackType

from tocsin.clock import Clock
from tocsin.domain.errors import NotFound, Unavailable
from tocsin.domain.model import Attempt, ChannelId, OrganizationId
from tocsin.engine import watching
from tocsin.engine.dispatcher import Dispatcher
from tocsin.engine.janitor import Chore
from tocsin.engine.journal import SendJournal
from tocsin.engine.lane import PLAIN, Policy, policy_of
from tocsin.engine.lanes import Lanes, Wanted
from tocsin.engine.settler import Settler
from tocsin.engine.slowness import TICK_SECONDS
from tocsin.engine.targets import Targets
from tocsin.engine.worker import Worker
from tocsin.net.client import Client
from tocsin.storage.base import Held, Settled, Store
from tocsin.telemetry.instruments import Sample

UNSETTLED_MAX = 4_000
STOP_SECONDS = 10.0
LANES_CHECK_SECONDS = 60.0
PRUNE_SECONDS = 30.0
LEARN_AGAIN_SECONDS = 0.5
PROBE_TRIES = 3
"""The channel may change between its reading and the first byte."""

_log = logging.getLogger("tocsin.engine")


class Engine:
    """This node's hands. An async context manager: it sends from entering to leaving.

    Leaving lets attempts under way finish for a while, records them, and gives the rest back.
    `changed` is called with an organization whose channel the engine has disabled; `failed` with
    the error of a part that ended, after which the process should; `noted` when something is to be
    told. With `claims` False it has no lanes: it claims nothing, and sends nothing but probes.
    """

    def __init__(
        self,
        *,
        store: Store,
        targets: Targets,
        client: Client,
        journal: SendJournal,
        clock: Clock,
        in_flight_max: int,
        channel_in_flight_max: int,
        changed: Callable[[OrganizationId], None],
        failed: Callable[[BaseException], None],
        noted: Callable[[], None] = lambda: None,
        claims: bool = True,
    ) -> None:
        self._store = store
        self._targets = targets
        self._clock = clock
        self._changed = changed
        self._failed = failed
        self._noted = noted
        self._learning: dict[ChannelId, asyncio.Task[None]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self.lanes = Lanes(
            channel_in_flight_max=channel_in_flight_max,
            now_ms=clock.storage_ms,
            slots=in_flight_max,
            policy_of=self._policy_of,
            unknown=self._find_out,
            give_back=lambda held: self.worker.release(held),
            claimable=lambda: self.worker.claimable(),
            sleeping=self._sleep,
        )
        self.settler = Settler(store, self._applied)
        self.worker = Worker(
            store=store,
            lanes=self.lanes,
            clock=clock,
            offered=self._pump,
            may_claim=lambda: claims and self.dispatcher.may_claim,
        )
        self.dispatcher = Dispatcher(
            lanes=self.lanes,
            targets=targets,
            client=client,
            settler=self.settler,
            journal=journal,
            clock=clock,
            lease=store,
            release=self.worker.release,
            in_flight_max=in_flight_max,
        )
        self.lanes.accepting = claims
        check = Chore("checking lanes", LANES_CHECK_SECONDS, self._check_lanes)
        self._chores = [
            *((check,) if claims else ()),
            Chore("pruning lanes", PRUNE_SECONDS, self._prune),
            Chore("watching lanes", TICK_SECONDS, self._tick),
        ]
        self._tasks: list[asyncio.Task[None]] = []

    def take_on(self, chores: Sequence[Chore]) -> None:
        """Do these, too, from entering on."""
        self._chores += chores

    async def __aenter__(self) -> "Engine":
        self._start("settler", self.settler.run())
        self._start("worker", self.worker.run())
        for chore in self._chores:
            self._start(chore.name, chore.run())
        self.worker.wake(self._clock.storage_ms())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.lanes.accepting = False
        await self.dispatcher.stop(STOP_SECONDS)
        for task in self._tasks:
            task.remove_done_callback(self._ended)
        tasks = [*self._tasks, *self._learning.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        self.worker.release(self.lanes.drop_all())
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.settler.flush()
                await self.worker.flush_released()
        except (TimeoutError, Unavailable):
            _log.error("the store is away: what is held is freed at the next start")

    def _start(self, name: str, work: Awaitable[None]) -> None:
        async def part() -> None:
            await work

        task = asyncio.get_running_loop().create_task(part(), name=f"tocsin {name}")
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A part that ends by itself ends the process: nothing may die in silence."""
        error = None if task.cancelled() else task.exception()
        self._failed(error or RuntimeError(f"{task.get_name()} ended"))

    # The port

    def reserve(self, wanted: Sequence[Wanted]) -> list[bool]:
        """See `Dispatch.reserve`."""
        if not self.settler.ready:
            return [False] * len(wanted)
        return self.lanes.reserve(wanted)

    def unreserve(self, granted: Sequence[Wanted]) -> None:
        """See `Dispatch.unreserve`."""
        self.lanes.unreserve(granted)

    def offer(self, held: Sequence[Held]) -> None:
        """See `Dispatch.offer`."""
        if held:
            self.worker.release(self.lanes.offer(held, reserved=True))
            self._pump()

    def wake(self, due_ms: int) -> None:
        """See `Dispatch.wake`."""
        self.worker.wake(due_ms)

    def woken(self) -> None:
        """Another node has freed deliveries."""
        self.worker.wake(self._clock.storage_ms())

    def lease_lost(self) -> None:
        """This node was away for too long: what is queued here may be others' by now."""
        self.worker.release(self.lanes.drop_all())

    async def probe(self, held: Held) -> Attempt:
        """See `Dispatch.probe`; raises Unavailable while nothing may be sent."""
        try:
            for _ in range(PROBE_TRIES):
                if not self.dispatcher.may_send:
                    break
                target = await self._targets.get(held.channel_id)
                if target is None:
                    raise NotFound()
                attempt = await self.dispatcher.probe(held, target)
                if attempt is not None:
                    return attempt
            raise Unavailable("Nothing can be sent now.")
        except Exception:
            self.worker.give_back((held,))
            raise

    def forget(self, organization_id: OrganizationId) -> None:
        """See `Dispatch.forget`."""
        self._targets.forget(organization_id)
        for channel_id in self.lanes.forget(organization_id):
            self._find_out(channel_id)
        self.worker.wake(self._clock.storage_ms())

    def samples(self) -> Iterator[Sample]:
        """What a scrape of the metrics asks for."""
        return watching.samples(self.dispatcher, self._chores)

    # Inside

    def _pump(self) -> None:
        self.dispatcher.pump()

    def _applied(self, settled: Settled) -> None:
        for organization_id, channel_id in settled.disabled:
            _log.warning("channel %s is disabled: its target is gone", channel_id)
            self._changed(organization_id)
            self.worker.release(self.lanes.drop(channel_id))
        for channel_id, until_ms in settled.opened:
            _log.info("the breaker of channel %s opens: its target keeps failing", channel_id)
            self.worker.release(self.lanes.trip(channel_id, until_ms))
        if settled.noted:
            self._noted()
        self.worker.room()
        self._pump()

    async def _check_lanes(self) -> None:
        wrong = await self._store.check_lanes(self._clock.storage_ms())
        if wrong:
            _log.warning("%d lanes had a wrong due moment and were repaired", wrong)
            self.worker.wake(self._clock.storage_ms())

    async def _prune(self) -> None:
        self.lanes.prune()

    async def _tick(self) -> None:
        self.lanes.tick()
        self._pump()

    # What channels ask of their lanes

    def _policy_of(self, channel_id: ChannelId) -> Policy | None:
        target = self._targets.cached(channel_id)
        return None if target is None else policy_of(target.channel)

    def _find_out(self, channel_id: ChannelId) -> None:
        """Have a channel read, so that its lane may go on."""
        if channel_id not in self._learning:
            task = asyncio.get_running_loop().create_task(self._learn(channel_id))
            self._learning[channel_id] = task

    async def _learn(self, channel_id: ChannelId) -> None:
        try:
            while True:
                try:
                    target = await self._targets.get(channel_id)
                except Unavailable as error:
                    _log.warning("can't read channel %s: %s", channel_id, error)
                    await asyncio.sleep(LEARN_AGAIN_SECONDS)
                    continue
                except Exception:
                    _log.exception("channel %s can't be read", channel_id)
                    target = None
                if target is None or target.current:
                    break
        finally:
            del self._learning[channel_id]
        # What is gone is given a turn, too: it ends where it is found to be gone.
        policy = PLAIN if target is None else policy_of(target.channel)
        self.worker.release(self.lanes.learn(channel_id, policy))
        self._pump()

    def _sleep(self, until_ms: int) -> None:
        """Wake a lane at a moment; the earliest one counts."""
        if self._alarm is not None:
            self._alarm.cancel()
        wait_ms = max(0, until_ms - self._clock.storage_ms())
        self._alarm = asyncio.get_running_loop().call_later(wait_ms / 1000, self._woken)

    def _woken(self) -> None:
        self._alarm = None
        self.lanes.wake()
        self._pump()

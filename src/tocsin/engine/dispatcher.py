"""Dispatch: whose turn it is gets an attempt, as many at once as this node may."""

import asyncio
from random import Random

from tocsin.clock import Clock
from tocsin.domain.model import Attempt
from tocsin.engine.attempt import LEASE_MARGIN_SECONDS, DeliveryAttempt, Lease, Release
from tocsin.engine.journal import SendJournal
from tocsin.engine.lanes import Lanes
from tocsin.engine.settler import Settler
from tocsin.engine.targets import Target, Targets
from tocsin.net.client import Client
from tocsin.storage.base import Held, Settlement
from tocsin.telemetry.counts import AttemptCounts
from tocsin.telemetry.traces import Traces

STARTS_PER_TURN_MAX = 32
"""So many attempts start in one turn of the event loop, however many have ended in it: what else
waits for it, such as each answer of the database, would wait until all places are filled again."""


class Dispatcher:
    """Starts attempts while there is something to take, a place free and nothing against it.

    `release` takes deliveries that were claimed and not sent.
    """

    def __init__(
        self,
        *,
        lanes: Lanes,
        targets: Targets,
        client: Client,
        settler: Settler,
        journal: SendJournal,
        clock: Clock,
        lease: Lease,
        release: Release,
        in_flight_max: int,
    ) -> None:
        self.lanes = lanes
        self.targets = targets
        self.client = client
        self.settler = settler
        self.journal = journal
        self.clock = clock
        self.lease = lease
        self.release = release
        self.random = Random()
        self._in_flight_max = in_flight_max
        self._under_way: set[DeliveryAttempt] = set()
        self._emptied = asyncio.Event()
        self._pumping = False
        self._starts_left = STARTS_PER_TURN_MAX
        self._turning = False
        self.stopping = False
        self.attempts = 0
        self.counts = AttemptCounts()
        self.traces: Traces | None = None

    @property
    def may_send(self) -> bool:
        """Whether an attempt may start now."""
        return bool(self.journal.free) and self.may_claim

    @property
    def may_claim(self) -> bool:
        """Whether what is claimed now could be sent: as far as storage and the lease go."""
        left = self.lease.lease_until - self.clock.monotonic()
        return self.settler.ready and not self.stopping and left > LEASE_MARGIN_SECONDS

    @property
    def may_write(self) -> bool:
        """Whether an attempt that has started may write its first byte."""
        return self.settler.ready and not self.stopping

    def pump(self) -> None:
        """Start what can be taken, as far as there are places."""
        if self._pumping:
            return  # an attempt was over before its start returned: the loop below goes on
        lanes, under_way = self.lanes, self._under_way
        self._pumping = True
        try:
            while (
                self._starts_left
                and lanes.waiting
                and len(under_way) < self._in_flight_max
                and self.may_send
            ):
                taken = lanes.take()
                if taken is None:
                    break
                self._starts_left -= 1
                attempt = DeliveryAttempt(self, *taken)
                under_way.add(attempt)
                attempt.start()
        finally:
            self._pumping = False
        if self._starts_left < STARTS_PER_TURN_MAX and not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        had_more = not self._starts_left
        self._turning = False
        self._starts_left = STARTS_PER_TURN_MAX
        if had_more:
            self.pump()

    def over(self, attempt: DeliveryAttempt, *, success: bool) -> None:
        """See `Means.over`."""
        self._under_way.discard(attempt)
        if attempt.lane is not None:
            settling = attempt.record is not None
            self.lanes.sent(attempt.lane, success=success, settling=settling)
        if not self._under_way:
            self._emptied.set()
        self.pump()

    async def stop(self, seconds: float) -> None:
        """Start no more; give attempts under way some time, then release what is left."""
        self.stopping = True
        try:
            async with asyncio.timeout(seconds):
                await self._all_over()
        except TimeoutError:
            for attempt in tuple(self._under_way):
                attempt.cancel()
            await self._all_over()

    async def _all_over(self) -> None:
        while self._under_way:
            self._emptied.clear()
            await self._emptied.wait()

    async def probe(self, held: Held, target: Target) -> Attempt | None:
        """One attempt now, past disabled, breaker and turn; returns it once it is recorded.

        None when the gate declined: nothing was sent, and it is still held.
        """
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: Settlement) -> None:
            if not recorded.done():
                recorded.set_result(None)

        attempt = DeliveryAttempt(self, None, held, done)
        await attempt.make(target)
        record = attempt.record
        if record is None:
            return None
        await recorded
        return Attempt(
            number=record.number,
            started_at=record.started_at,
            duration_ms=record.duration_ms,
            outcome=record.outcome,
            status_code=record.status_code,
            error=record.error,
            response_body=record.response_body,
        )

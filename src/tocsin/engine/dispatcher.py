"""Dispatch: a delivery is built, sent and judged, and its outcome handed to the settler."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import Random

from tocsin.channels import Sending
from tocsin.clock import Clock
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.model import Attempt, Origin, Status
from tocsin.domain.outcome import Outcome, Reason, Retry
from tocsin.domain.text import bounded
from tocsin.engine.journal import SendJournal
from tocsin.engine.lanes import Lane, Lanes
from tocsin.engine.settler import Settler
from tocsin.engine.targets import Target, Targets
from tocsin.engine.verdict import Verdict, decide
from tocsin.net.client import Client
from tocsin.net.errors import NotSent, SendFailed
from tocsin.storage.base import AttemptRecord, Held, Settlement

RESPONSE_BODY_BYTES_MAX = 4_096
ERROR_BYTES_MAX = 500
STREAK_MAX = 100
FAULT_PAUSE_SECONDS = 0.5

_log = logging.getLogger("tocsin.engine")

Release = Callable[[Sequence[Held]], None]


class Dispatcher:
    """Makes attempts, as many at once as this node may.

    A slot is a task that takes one delivery after another, whosever turn it is, and ends when
    there is none. `release` takes deliveries that were claimed and not sent.
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
        release: Release,
        in_flight_max: int,
    ) -> None:
        self._lanes = lanes
        self._targets = targets
        self._client = client
        self._settler = settler
        self._journal = journal
        self._clock = clock
        self._release = release
        self._in_flight_max = in_flight_max
        self._random = Random()
        self._slots: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.attempts = 0

    @property
    def may_send(self) -> bool:
        """Whether an attempt may start now."""
        return self._settler.healthy and not self.stopping and bool(self._journal.free)

    @property
    def may_write(self) -> bool:
        """Whether an attempt that has started may write its first byte."""
        return self._settler.healthy and not self.stopping

    def pump(self) -> None:
        """Start slots for what can be taken, as far as there are any."""
        lanes = self._lanes
        slots = self._slots
        loop = asyncio.get_running_loop()
        free = self._in_flight_max - len(slots)
        while free > 0 and lanes.waiting and self.may_send:
            taken = lanes.take()
            if taken is None:
                break
            task = loop.create_task(self._slot(*taken))
            slots.add(task)
            task.add_done_callback(slots.discard)
            free -= 1

    async def stop(self, seconds: float) -> None:
        """Start no more; give attempts under way some time, then release what is left."""
        self.stopping = True
        if self._slots:
            await asyncio.wait(set(self._slots), timeout=seconds)
        for task in set(self._slots):
            task.cancel()
        if self._slots:
            await asyncio.wait(set(self._slots))

    async def _slot(self, lane: Lane, held: Held) -> None:
        while True:
            await self._serve(lane, held)
            if not self.may_send:
                return
            taken = self._lanes.take()
            if taken is None:
                return
            lane, held = taken

    async def _serve(self, lane: Lane, held: Held) -> None:
        success = False
        try:
            target = self._targets.cached(held.channel_id)
            if target is None:
                target = await self._targets.get(held.channel_id)
            if target is None or not target.channel.enabled:
                self._release((held,))
            else:
                attempt = _Attempt(self, held, target)
                success = await attempt.make()
                if attempt.sent_nothing:
                    self._release((held,))
        except asyncio.CancelledError:
            self._release((held,))
            raise
        except Exception:
            _log.exception("delivery %s could not be handled", held.id)
            self._release((held,))
            # It comes back at once, and what failed may fail again: its lane waits with this slot.
            await asyncio.sleep(FAULT_PAUSE_SECONDS)
        finally:
            self._lanes.sent(lane, success=success)

    async def probe(self, held: Held, target: Target) -> Attempt | None:
        """One attempt now, past disabled, breaker and turn; returns it once it is recorded.

        None when the gate declined: nothing was sent, and it is still held.
        """
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(_: Settlement) -> None:
            if not recorded.done():
                recorded.set_result(None)

        attempt = _Attempt(self, held, target, done)
        await attempt.make()
        if attempt.record is None:
            return None
        await recorded
        record = attempt.record
        return Attempt(
            number=record.number,
            started_at=record.started_at,
            duration_ms=record.duration_ms,
            outcome=record.outcome,
            status_code=record.status_code,
            error=record.error,
            response_body=record.response_body,
        )


class _Attempt:
    """One try of one delivery."""

    __slots__ = (
        "_d",
        "_done",
        "_dropped",
        "_held",
        "_request",
        "_sending",
        "_slot",
        "_target",
        "_wrote",
        "record",
    )

    _request: Request
    _sending: Sending

    def __init__(
        self,
        dispatcher: Dispatcher,
        held: Held,
        target: Target,
        done: Callable[[Settlement], None] | None = None,
    ) -> None:
        self._d = dispatcher
        self._held = held
        self._target = target
        self._done = done
        self._slot: int | None = None
        self._wrote = False
        self._dropped: Sequence[Held] = ()
        self.record: AttemptRecord | None = None

    @property
    def sent_nothing(self) -> bool:
        """Whether the gate declined: nothing was written, nothing is to be recorded."""
        return self.record is None

    async def make(self) -> bool:
        """Send and settle; True when it was delivered. Nothing is settled if the gate declined."""
        d, held, target = self._d, self._held, self._target
        clock = d._clock
        started_ms, started = clock.wall_ms(), clock.monotonic()
        reply: Reply | None = None
        outcome: Outcome
        if not d._journal.free:
            return False
        # From here on it may end the process; what a channel type does counts, too.
        self._slot = d._journal.begin(held.id, held.claim)
        try:
            if target.trouble is not None:
                outcome = Retry(Reason.UNSEALING_FAILED, target.trouble)
            elif target.speaks_http:
                self._sending = target.sending(held)
                self._request = target.build(self._sending)
                reply = await d._client.send(
                    self._request,
                    organization=held.event.organization_id,
                    timeout_seconds=target.timeout_seconds,
                    gate=self._gate,
                )
                outcome = target.judge(reply, started_ms)
            else:
                self._sending = target.sending(held)
                outcome = await self._send_otherwise()
        except NotSent:
            self._end()
            return False
        except SendFailed as error:
            outcome = Retry(error.reason, error.detail)
        except asyncio.CancelledError:
            self._end()
            raise
        except Exception as error:
            _log.exception("channel type %s failed", target.channel.type)
            outcome = Retry(Reason.INTERNAL_ERROR, type(error).__name__)
        duration_ms = round((clock.monotonic() - started) * 1000)
        return self._settle(outcome, reply, started_ms, duration_ms)

    def _gate(self) -> Request | None:
        """The one send gate: what may still stop the first byte, then stamp and sign."""
        d, target = self._d, self._target
        if not target.current or not (d.may_write or self._wrote):
            return None
        signed = target.sign(self._request, self._sending, d._clock.wall_ms() // 1000)
        if not self._wrote:
            self._wrote = True
            d.attempts += 1
        return signed

    async def _send_otherwise(self) -> Outcome:
        if not self._target.current or not self._d.may_write:
            raise NotSent
        self._d.attempts += 1
        try:
            async with asyncio.timeout(self._target.timeout_seconds):
                return await self._target.send(self._sending)
        except TimeoutError:
            return Retry(Reason.TIMEOUT)

    def _end(self) -> None:
        if self._slot is not None:
            self._d._journal.end(self._slot)
            self._slot = None

    def _settle(
        self, outcome: Outcome, reply: Reply | None, started_ms: int, duration_ms: int
    ) -> bool:
        d, held, target = self._d, self._held, self._target
        try:
            verdict = self._verdict(outcome)
        except Exception as fault:
            _log.exception("channel type %s gave no outcome", target.channel.type)
            verdict = self._verdict(Retry(Reason.INTERNAL_ERROR, type(fault).__name__))
        status_code = reply.status if reply is not None else None
        error = verdict.error
        if error is not None:
            if reply is not None and reply.note is not None:
                error = f"{error} ({reply.note})"
            error = bounded(error, ERROR_BYTES_MAX)
        self.record = AttemptRecord(
            number=held.number,
            started_at=started_ms,
            duration_ms=duration_ms,
            outcome=verdict.outcome,
            status_code=status_code,
            error=error,
            response_body=_body_text(reply),
        )
        delivered = verdict.status is Status.DELIVERED
        settlement = Settlement(
            id=held.id,
            claim=held.claim,
            organization_id=held.event.organization_id,
            channel_id=held.channel_id,
            origin=held.origin,
            version=target.channel.version,
            status=verdict.status,
            finished_at=started_ms + duration_ms,
            due_ms=verdict.due_ms,
            step=verdict.step,
            attempt=self.record,
            hold_until_ms=verdict.hold_until_ms,
            park=verdict.park,
            counts_in_streak=self._in_streak(delivered),
        )
        if verdict.hold_until_ms and target.current:
            self._dropped = d._lanes.hold(held.channel_id, verdict.hold_until_ms)
        d._settler.put(settlement, self._settled)
        return delivered

    def _verdict(self, outcome: Outcome) -> Verdict:
        return decide(
            outcome,
            origin=self._held.origin,
            step=self._held.step,
            schedule_ms=self._target.schedule_ms,
            now_ms=self._d._clock.storage_ms(),
            random=self._d._random.random,
        )

    def _in_streak(self, delivered: bool) -> bool:
        """Whether this failure is another delivery's than those of the streak so far."""
        held = self._held
        lane = self._d._lanes.lane(held.channel_id)
        if held.origin is not Origin.EVENT or lane is None:
            return False
        if delivered:
            lane.streak.clear()
            return False
        if held.id in lane.streak or len(lane.streak) >= STREAK_MAX:
            return len(lane.streak) >= STREAK_MAX
        lane.streak.add(held.id)
        return True

    def _settled(self, settlement: Settlement) -> None:
        self._end()
        if self._dropped:
            # Only now does the lane's row say that the channel is on hold.
            self._d._release(self._dropped)
        if self._done is not None:
            self._done(settlement)
        else:
            self._d._lanes.left(self._held.channel_id, len(self._held.event.data))


def _body_text(reply: Reply | None) -> str | None:
    if reply is None or not reply.body:
        return None
    return bounded(reply.body, RESPONSE_BODY_BYTES_MAX)

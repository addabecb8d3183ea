"""One attempt: a delivery is built, sent and judged, and its outcome handed to the settler.

Most attempts wait for nothing but their reply: the channel is at hand and a connection is idle.
Such a one runs within callbacks, from `start` to `ended`; only one that must read its channel,
resolve a name or connect first gets a task.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol

from tocsin.channels import Sending
from tocsin.clock import Clock
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.model import Origin, Status
from tocsin.domain.outcome import Delivered, Outcome, Reason, Retry
from tocsin.domain.text import bounded
from tocsin.engine.journal import SendJournal
from tocsin.engine.lane import Lane
from tocsin.engine.lanes import Lanes
from tocsin.engine.settler import Settler
from tocsin.engine.targets import Target, Targets
from tocsin.engine.verdict import DELIVERED, Verdict, decide
from tocsin.net.client import Client
from tocsin.net.connection import ClosedIdle, Connection
from tocsin.net.errors import NotSent, SendFailed
from tocsin.storage.base import AttemptRecord, Held, Settlement
from tocsin.telemetry.counts import AttemptCounts
from tocsin.telemetry.traces import Traces

RESPONSE_BODY_BYTES_MAX = 4_096
ERROR_BYTES_MAX = 500
STREAK_MAX = 100
FAULT_PAUSE_SECONDS = 0.5
TIMEOUT_SECONDS_MIN = 0.001
LEASE_MARGIN_SECONDS = 5.0
RESENT = "sent again, because a kept connection had closed"

_log = logging.getLogger("tocsin.engine")

Release = Callable[[Sequence[Held]], None]


class Lease(Protocol):
    """What says how long this node's claims are its own: the store (see `storage.base.Store`)."""

    @property
    def lease_until(self) -> float: ...

    @property
    def epoch(self) -> int: ...


class Means(Protocol):
    """What an attempt works with, and who is told when it is over."""

    lanes: Lanes
    targets: Targets
    client: Client
    settler: Settler
    journal: SendJournal
    clock: Clock
    lease: Lease
    release: Release
    random: Random
    attempts: int
    counts: AttemptCounts
    traces: Traces | None

    @property
    def may_write(self) -> bool:
        """Whether an attempt that has started may write its first byte."""
        ...

    def over(self, attempt: "DeliveryAttempt", *, success: bool) -> None:
        """The attempt has its outcome, or sent nothing."""
        ...


class DeliveryAttempt:
    """One try of one delivery; the waiter of its own exchange.

    A probe has no lane: it takes no turn, and `done` hears when it is recorded. `record` is None
    until there is an outcome, and stays so when nothing was sent.
    """

    __slots__ = (
        "_connection",
        "_done",
        "_dropped",
        "_epoch",
        "_means",
        "_request",
        "_sending",
        "_slot",
        "_started",
        "_started_ms",
        "_target",
        "_wrote",
        "held",
        "lane",
        "record",
        "task",
    )

    _sending: Sending
    _target: Target

    def __init__(
        self,
        means: Means,
        lane: Lane | None,
        held: Held,
        done: Callable[[Settlement], None] | None = None,
    ) -> None:
        self._means = means
        self._epoch = means.lease.epoch
        self.lane = lane
        self.held = held
        self._done = done
        self._request: Request | None = None
        self._slot: int | None = None
        self._connection: Connection | None = None
        self._wrote = False
        self._dropped: Sequence[Held] = ()
        self.record: AttemptRecord | None = None
        self.task: asyncio.Task[bool] | None = None

    # Within callbacks

    def start(self) -> None:
        """Begin; it may be over before this returns."""
        means, held = self._means, self.held
        target = means.targets.cached(held.channel_id)
        if target is None or not target.express:
            self._hire(self._fetched)
            return
        if not self._begin(target):
            self._over(success=False)
            return
        try:
            connection = means.client.begin(
                self._built(),
                self,
                organization=held.event.organization_id,
                timeout_seconds=target.timeout_seconds,
                gate=self._gate,
            )
        except NotSent:
            self._over(success=False)
        except Exception as error:
            self._finish(self._failed(error), None)
        else:
            self._connection = connection
            if connection is None:
                self._hire(self._sent)

    def ended(self, result: Reply | SendFailed | ClosedIdle) -> None:
        """How the exchange ended; see `Waiter`."""
        self._connection = None
        if type(result) is Reply:
            self._finish(self._judged(result), result)
        elif isinstance(result, SendFailed):
            self._finish(self._failed(result), None)
        else:
            self._hire(partial(self._sent, resent=True))

    def _finish(self, outcome: Outcome, reply: Reply | None) -> None:
        try:
            success = self._settle(outcome, reply)
        except Exception as fault:
            # Nothing may be lost in a callback: a task has a way for what can't be handled.
            self._hire(partial(_raised, fault))
        else:
            self._over(success=success)

    def cancel(self) -> None:
        """Give up: that is no attempt, the delivery goes back as it was."""
        if self._connection is not None:
            self._connection.drop(self)
            self._over(success=False)
        elif self.task is not None:
            self.task.cancel()

    # In a task

    async def make(self, target: Target) -> bool:
        """The whole attempt; True when it was delivered. Nothing is kept if the gate declined."""
        try:
            return self._begin(target) and await self._sent()
        finally:
            if self.record is None:
                self._end()

    def _hire(self, work: Callable[[], Awaitable[bool]]) -> None:
        self.task = asyncio.get_running_loop().create_task(self._run(work))
        # A callback: a task that is cancelled before its first step runs no line of its own.
        self.task.add_done_callback(self._hired_is_done)

    def _hired_is_done(self, task: "asyncio.Task[bool]") -> None:
        self._over(success=not task.cancelled() and task.result())

    async def _run(self, work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await work()
        except Exception:
            _log.exception("delivery %s could not be handled", self.held.id)
            # It comes back at once, and what failed may fail again: its lane waits with it.
            await asyncio.sleep(FAULT_PAUSE_SECONDS)
            return False

    async def _fetched(self) -> bool:
        target = await self._means.targets.get(self.held.channel_id)
        if target is None or not target.channel.enabled:
            return False
        return await self.make(target)

    async def _sent(self, *, resent: bool = False) -> bool:
        means, held, target = self._means, self.held, self._target
        reply: Reply | None = None
        outcome: Outcome
        try:
            if target.trouble is not None:
                outcome = Retry(Reason.UNSEALING_FAILED, target.trouble)
            elif target.speaks_http:
                request = self._request or self._built()
                left = target.timeout_seconds - (means.clock.monotonic() - self._started)
                reply = await means.client.send(
                    request,
                    organization=held.event.organization_id,
                    timeout_seconds=max(left, TIMEOUT_SECONDS_MIN),
                    gate=self._gate,
                    resent=resent,
                )
                outcome = self._judged(reply)
            else:
                self._sending = target.sending(held)
                answer = await self._sent_otherwise()
                reply = answer if isinstance(answer, Reply) else None
                outcome = self._judged(answer) if isinstance(answer, Reply) else answer
        except NotSent:
            return False
        except Exception as error:
            outcome = self._failed(error)
        return self._settle(outcome, reply)

    async def _sent_otherwise(self) -> Reply | Outcome:
        try:
            async with asyncio.timeout(self._target.timeout_seconds):
                return await self._target.send(self._sending, self._otherwise_gate)
        except TimeoutError:
            return Retry(Reason.TIMEOUT)

    def _otherwise_gate(self) -> bool:
        """The send gate for what is not HTTP: there is nothing to sign."""
        if not self._target.current or not self._means.may_write or not self._in_time():
            return False
        if not self._wrote:
            self._wrote = True
            self._means.attempts += 1
        return True

    # Both

    def _begin(self, target: Target) -> bool:
        """From here on it may end the process; what a channel type does counts, too."""
        means = self._means
        self._target = target
        self._started_ms = means.clock.wall_ms()
        self._started = means.clock.monotonic()
        if not means.journal.free:
            return False
        self._slot = means.journal.begin(self.held.id, self.held.claim)
        return True

    def _built(self) -> Request:
        self._sending = self._target.sending(self.held)
        self._request = request = self._target.build(self._sending)
        return request

    def _gate(self) -> Request | None:
        """The one send gate: what may still stop the first byte, then stamp and sign."""
        means, target = self._means, self._target
        assert self._request is not None
        if not target.current or not (means.may_write or self._wrote) or not self._in_time():
            return None
        signed = target.sign(self._request, self._sending, means.clock.wall_ms() // 1000)
        if not self._wrote:
            self._wrote = True
            means.attempts += 1
        return signed

    def _in_time(self) -> bool:
        """Whether the claim is this node's own until the attempt must be over, and some more."""
        lease = self._means.lease
        left = lease.lease_until - self._means.clock.monotonic()
        return (
            left >= self._target.timeout_seconds + LEASE_MARGIN_SECONDS
            and lease.epoch == self._epoch
        )

    def _judged(self, reply: Reply) -> Outcome:
        try:
            return self._target.judge(reply, self._started_ms)
        except Exception as error:
            return self._failed(error)

    def _failed(self, error: Exception) -> Outcome:
        if isinstance(error, SendFailed):
            return Retry(error.reason, error.detail)
        _log.error("channel type %s failed", self._target.channel.type, exc_info=error)
        return Retry(Reason.INTERNAL_ERROR, type(error).__name__)

    def _settle(self, outcome: Outcome, reply: Reply | None) -> bool:
        """Hand the outcome to the settler; True when it was delivered."""
        means, held, target = self._means, self.held, self._target
        duration_ms = round((means.clock.monotonic() - self._started) * 1000)
        verdict = DELIVERED if type(outcome) is Delivered else self._verdict(outcome)
        record = AttemptRecord(
            held.number,
            self._started_ms,
            duration_ms,
            verdict.outcome,
            # The codes of other protocols stand in the error: here they would read as HTTP's.
            reply.status if reply is not None and target.speaks_http else None,
            _error_text(verdict, reply),
            bounded(reply.body, RESPONSE_BODY_BYTES_MAX) if reply and reply.body else None,
        )
        delivered = verdict is DELIVERED
        waiting = verdict.status is Status.WAITING
        settlement = Settlement(
            held.id,
            held.claim,
            held.event.organization_id,
            held.channel_id,
            held.origin,
            target.channel.version,
            verdict.status,
            self._started_ms + duration_ms,
            verdict.due_ms if waiting else held.due_ms,
            verdict.step if waiting else held.step,
            record,
            verdict.hold_until_ms,
            verdict.park,
            self._in_streak(delivered),
            target.channel.breaker,
        )
        if verdict.hold_until_ms and target.current:
            self._dropped = means.lanes.hold(held.channel_id, verdict.hold_until_ms)
        first = held.number == 1 and held.origin is Origin.EVENT
        means.counts.attempt(
            target.channel.type,
            verdict.outcome,
            verdict.error,
            duration_ms,
            self._started_ms - held.event.created_at if first else None,
        )
        if means.traces is not None:
            self._trace(means.traces, record)
        if not delivered and self.lane is not None:
            means.lanes.failed(self.lane, duration_ms if reply is None else None)
        means.settler.put(settlement, self._settled)
        self.record = record
        return delivered

    def _trace(self, traces: Traces, record: AttemptRecord) -> None:
        held = self.held
        failed = record.outcome != DELIVERED.outcome
        traces.attempted(
            held.event,
            delivery_id=held.id,
            channel_id=held.channel_id,
            channel_type=self._target.channel.type,
            number=record.number,
            started_ms=record.started_at,
            duration_ms=record.duration_ms,
            outcome=record.outcome,
            status_code=record.status_code,
            reason=(record.error or "").partition(":")[0] if failed else None,
        )

    def _verdict(self, outcome: Outcome) -> Verdict:
        try:
            return self._decided(outcome)
        except Exception as fault:
            return self._decided(self._failed(fault))

    def _decided(self, outcome: Outcome) -> Verdict:
        return decide(
            outcome,
            origin=self.held.origin,
            step=self.held.step,
            schedule_ms=self._target.schedule_ms,
            now_ms=self._means.clock.storage_ms(),
            random=self._means.random.random,
        )

    def _in_streak(self, delivered: bool) -> bool:
        """Whether this failure is another delivery's than those of the streak so far."""
        held = self.held
        lane = self.lane or self._means.lanes.lane(held.channel_id)
        if held.origin is not Origin.EVENT or lane is None:
            return False
        streak = lane.streak
        if delivered:
            if streak:
                streak.clear()
            return False
        if held.id in streak or len(streak) >= STREAK_MAX:
            return len(streak) >= STREAK_MAX
        streak.add(held.id)
        return True

    def _end(self) -> None:
        if self._slot is not None:
            self._means.journal.end(self._slot)
            self._slot = None

    def _over(self, *, success: bool) -> None:
        if self.record is None:
            self._end()
            self._means.release((self.held,))
        self._means.over(self, success=success)

    def _settled(self, settlement: Settlement) -> None:
        self._end()
        if self._dropped:
            # Only now does the lane's row say that the channel is on hold.
            self._means.release(self._dropped)
        if self._done is not None:
            self._done(settlement)
        else:
            self._means.lanes.left(self.held.channel_id, len(self.held.event.data))


async def _raised(fault: Exception) -> bool:
    raise fault


def _error_text(verdict: Verdict, reply: Reply | None) -> str | None:
    """What is kept of a failure; a success keeps only that it was sent twice."""
    error = verdict.error
    if reply is not None and reply.resent:
        error = f"{Reason.RESENT}: {RESENT}" if error is None else f"{error} ({RESENT})"
    if error is None:
        return None
    if reply is not None and reply.note is not None:
        error = f"{error} ({reply.note})"
    return bounded(error, ERROR_BYTES_MAX)

"""From an outcome to what becomes of the delivery: pure, so that every case can be tabled."""

from collections.abc import Callable, Sequence
from typing import assert_never

from msgspec import Struct

from tocsin.domain.model import Origin, Status
from tocsin.domain.outcome import (
    Delivered,
    Gone,
    Outcome,
    Reason,
    Rejected,
    Retry,
)
from tocsin.domain.retry import RETRY_AFTER_MS_MAX, next_delay_ms

GONE = "gone"
"""Why Tocsin disabled a channel: its target answered 410."""


class Verdict(Struct, frozen=True):
    """The delivery's next state; `due_ms` and `step` matter while it is waiting."""

    outcome: str
    status: Status
    due_ms: int
    step: int
    error: str | None = None
    hold_until_ms: int = 0
    park: str | None = None


DELIVERED = Verdict("delivered", Status.DELIVERED, 0, 0)
"""The usual one."""


def decide(
    outcome: Outcome,
    *,
    origin: Origin,
    step: int,
    schedule_ms: Sequence[int],
    now_ms: int,
    random: Callable[[], float],
) -> Verdict:
    """What an attempt's outcome makes of its delivery; `now_ms` is storage time.

    A test is one attempt: it ends whatever its outcome. A target that is gone parks the delivery
    with its step unused. A wait asked for by the target and the schedule's own: the later counts.
    """
    match outcome:
        case Delivered():
            return DELIVERED
        case Rejected(reason, detail):
            return Verdict("rejected", Status.REJECTED, now_ms, step, _text(reason, detail))
        case Gone(reason, detail):
            error = _text(reason, detail)
            if origin is Origin.TEST:
                return Verdict("gone", Status.REJECTED, now_ms, step, error)
            return Verdict("gone", Status.WAITING, now_ms, step, error, park=GONE)
        case Retry(reason, detail, not_before_ms, holds_channel):
            error = _text(reason, detail)
            if origin is Origin.TEST:
                return Verdict("retry", Status.EXHAUSTED, now_ms, step, error)
            wait_ms = min(max(int(not_before_ms or 0), 0), RETRY_AFTER_MS_MAX)
            hold_until_ms = now_ms + wait_ms if holds_channel and wait_ms else 0
            delay_ms = next_delay_ms(schedule_ms, step, random)
            if delay_ms is None:
                return Verdict("retry", Status.EXHAUSTED, now_ms, step, error, hold_until_ms)
            due_ms = now_ms + max(delay_ms, wait_ms)
            return Verdict("retry", Status.WAITING, due_ms, step + 1, error, hold_until_ms)
        case _:
            assert_never(outcome)


def _text(reason: Reason, detail: str) -> str:
    return f"{reason}: {detail}" if detail else str(reason)

"""What an attempt does to its channel's breaker, and when that opens: pure, the same everywhere.

A breaker opens after `failures` failed attempts in a row of as many different deliveries. Failed
means 429, 5xx, a timeout or a network error. Any other reply shows that the target is there, and
closes it. What never came so far (name, guard, TLS, proxy, sealing, our own faults) says nothing
about the target and leaves it.
"""

from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from tocsin.domain.model import Breaker, DeliveryId, Origin
from tocsin.domain.outcome import BREAKER_REASONS

OPEN = "open"
PROBING = "probing"
PROBE_DEADLINE_MS = 60_000
"""A probe that nobody answers for (its node was killed) blocks the lane no longer than this; an
attempt takes at most half of it."""
PROBE_CHOICE = 100
"""A probe is chosen among so many of the oldest and so many of the newest due."""

COUNTING = (Origin.EVENT, Origin.DIGEST)
"""The origins of deliveries that count: in breaker, streak, statistics and issues."""

_TOO_MANY = 429
_SERVER_ERROR = 500


class Effect(IntEnum):
    """What one attempt says about its target."""

    LEAVES = 0
    CLOSES = 1
    FAILS = 2


def effect_of(
    origin: Origin, *, delivered: bool, status_code: int | None, error: str | None
) -> Effect:
    """The effect of an attempt, by what is recorded of it; `error` begins with its reason."""
    if origin not in COUNTING:
        return Effect.LEAVES
    if delivered:
        return Effect.CLOSES
    if status_code is not None:
        failed = status_code == _TOO_MANY or status_code >= _SERVER_ERROR
        return Effect.FAILS if failed else Effect.CLOSES
    reason = (error or "").partition(":")[0].partition(" ")[0]
    return Effect.FAILS if reason in BREAKER_REASONS else Effect.LEAVES


class BreakerState(Struct, frozen=True):
    """A lane's breaker as its row has it; `streak` are the deliveries that failed in a row."""

    state: str | None = None
    until_ms: int = 0
    probe: str | None = None
    streak: tuple[str, ...] = ()


class Told(Struct):
    """What a batch of attempts says about a lane's target, after the last that closes it."""

    failed: list[DeliveryId]
    left: list[DeliveryId]


def moved(now: BreakerState, told: Told, breaker: Breaker | None, now_ms: int) -> BreakerState:
    """The breaker after a batch; `None` for a breaker that is off.

    While it is open only its probe's own outcome counts: what was sent before it opened fails as
    expected. A probe that says nothing has had its turn.
    """
    if now.state is not None:
        if now.probe is not None and (now.probe in told.failed or now.probe in told.left):
            cooldown_ms = (breaker or Breaker()).cooldown_seconds * 1000
            return BreakerState(OPEN, now_ms + cooldown_ms, None, now.streak)
        return now
    if breaker is None:
        return now
    streak = _joined(now.streak, told.failed, breaker.failures)
    if len(streak) < breaker.failures:
        return BreakerState(None, 0, None, streak)
    return BreakerState(OPEN, now_ms + breaker.cooldown_seconds * 1000, None, streak)


def _joined(before: Sequence[str], failed: Sequence[DeliveryId], at_most: int) -> tuple[str, ...]:
    """The different deliveries of a streak, no more than matter."""
    streak = list(before)
    for delivery_id in failed:
        if len(streak) >= at_most:
            break
        if delivery_id not in streak:
            streak.append(delivery_id)
    return tuple(streak)

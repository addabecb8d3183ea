"""What a batch of attempts does to a lane: tracking, holds and the breaker; pure."""

from msgspec import Struct

from tocsin.domain.breaking import BreakerState, Told, moved
from tocsin.domain.streak import Streak, after
from tocsin.storage.postgres.lanes import Lane
from tocsin.storage.settlements import Tally


class Tracked(Struct, frozen=True):
    """What came of it besides: until when the lane's breaker is open, if it opened just now, and
    what is to be told of the streak."""

    opened_until_ms: int | None = None
    told: list[str] = []


UNTOLD = Tracked()


def track(lane: Lane, tally: Tally, now_ms: int) -> Tracked:
    """Apply a tally."""
    current = lane.version == tally.version
    if tally.sent_at is not None:
        lane.last_sent_at, lane.error_count, lane.last_error = tally.sent_at, 0, None
    if tally.errors:
        lane.error_count += tally.errors
        lane.last_error = tally.error
    closing = False
    kinds: list[str] = []
    if current:
        kinds = _streak(lane, tally)
        closing = tally.closes and lane.breaker_state is not None
        if closing and lane.blocked_until_ms <= lane.breaker_until_ms:
            # What held the lane back for its breaker's sake goes with it; a longer wait stays.
            lane.blocked_until_ms = tally.hold_until_ms
        else:
            lane.blocked_until_ms = max(lane.blocked_until_ms, tally.hold_until_ms)
    _due(lane, tally, closing=closing)
    if not current:
        return UNTOLD
    if tally.closes:
        lane.breaker_streak = ""
    if closing:
        lane.breaker_state, lane.breaker_probe, lane.breaker_until_ms = None, None, 0
    until_ms = None if tally.told is None else _break(lane, tally, tally.told, now_ms)
    return UNTOLD if until_ms is None and not kinds else Tracked(until_ms, kinds)


def _streak(lane: Lane, tally: Tally) -> list[str]:
    if tally.streak and (tally.streak_ended or lane.failing_since_ms is None):
        lane.failing_since_ms = tally.since_ms
    elif tally.streak_ended:
        lane.failing_since_ms = None
    if not tally.failed and not lane.failing_told:
        if tally.streak_ended:
            lane.failing_streak, lane.failing_deliveries = 0, None
        return []
    deliveries = tuple((lane.failing_deliveries or "").split())
    streak, kinds = after(
        Streak(deliveries, lane.failing_streak, lane.failing_told),
        ended=tally.streak_ended,
        failed=tally.failed,
        counted=tally.streak,
    )
    lane.failing_deliveries = " ".join(streak.deliveries) or None
    lane.failing_streak, lane.failing_told = streak.count, streak.told
    return kinds


def _due(lane: Lane, tally: Tally, *, closing: bool) -> None:
    moments = [ms for ms in (lane.next_due_ms, tally.due_ms) if ms is not None]
    if lane.parked is not None or not moments:
        lane.next_due_ms = None
    elif closing:
        lane.next_due_ms = lane.blocked_until_ms  # due at once: the claim makes that exact
    else:
        lane.next_due_ms = max(lane.blocked_until_ms, min(moments))


def _break(lane: Lane, tally: Tally, told: Told, now_ms: int) -> int | None:
    streak = tuple(lane.breaker_streak.split())
    before = BreakerState(lane.breaker_state, lane.breaker_until_ms, lane.breaker_probe, streak)
    after = moved(before, told, tally.breaker, now_ms)
    if after == before:
        return None
    lane.breaker_state, lane.breaker_until_ms = after.state, after.until_ms
    lane.breaker_probe, lane.breaker_streak = after.probe, " ".join(after.streak)
    if after.state is None:
        return None
    # The probe's deadline was a guess, the cooldown is not: either way it takes its place.
    was_open = before.state is not None
    lane.blocked_until_ms = max(
        after.until_ms, tally.hold_until_ms if was_open else lane.blocked_until_ms
    )
    if lane.next_due_ms is not None:
        lane.next_due_ms = (
            lane.blocked_until_ms if was_open else max(lane.next_due_ms, lane.blocked_until_ms)
        )
    return None if was_open else after.until_ms

"""What a batch of attempts does to a lane: tracking, holds and the breaker; pure."""

from tocsin.domain.breaking import BreakerState, Told, moved
from tocsin.storage.postgres.lanes import Lane
from tocsin.storage.settlements import Tally


def track(lane: Lane, tally: Tally, now_ms: int) -> int | None:
    """Apply a tally; returns until when, if the lane's breaker opened just now."""
    current = lane.version == tally.version
    if tally.sent_at is not None:
        lane.last_sent_at, lane.error_count, lane.last_error = tally.sent_at, 0, None
    if tally.errors:
        lane.error_count += tally.errors
        lane.last_error = tally.error
    closing = False
    if current:
        _streak(lane, tally)
        closing = tally.closes and lane.breaker_state is not None
        if closing and lane.blocked_until_ms <= lane.breaker_until_ms:
            # What held the lane back for its breaker's sake goes with it; a longer wait stays.
            lane.blocked_until_ms = tally.hold_until_ms
        else:
            lane.blocked_until_ms = max(lane.blocked_until_ms, tally.hold_until_ms)
    _due(lane, tally, closing=closing)
    if not current:
        return None
    if tally.closes:
        lane.breaker_streak = ""
    if closing:
        lane.breaker_state, lane.breaker_probe, lane.breaker_until_ms = None, None, 0
    return None if tally.told is None else _break(lane, tally, tally.told, now_ms)


def _streak(lane: Lane, tally: Tally) -> None:
    if tally.streak and (tally.streak_ended or lane.failing_since_ms is None):
        lane.failing_since_ms = tally.since_ms
    elif tally.streak_ended:
        lane.failing_since_ms = None
    lane.failing_streak = (0 if tally.streak_ended else lane.failing_streak) + tally.streak


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

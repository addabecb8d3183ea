"""What a batch of attempts does to its lanes: tracking, holds and breakers; pure."""

from collections.abc import Sequence

from msgspec import Struct

from tocsin.domain.breaking import BreakerState, Effect, Told, effect_of, moved
from tocsin.domain.model import Breaker, ChannelId, Origin, Status
from tocsin.storage.base import Settlement
from tocsin.storage.postgres.lanes import Lane


class Tally(Struct):
    """What one batch says about one lane."""

    version: int
    sent_at: int | None = None
    errors: int = 0
    error: str | None = None
    streak_ended: bool = False
    streak: int = 0
    since_ms: int | None = None
    hold_until_ms: int = 0
    due_ms: int | None = None
    closes: bool = False
    told: Told | None = None
    breaker: Breaker | None = None


def tallied(items: Sequence[Settlement]) -> dict[ChannelId, Tally]:
    """The attempts of a batch, lane by lane."""
    tallies: dict[ChannelId, Tally] = {}
    for item in items:
        tally = tallies.get(item.channel_id)
        if tally is None:
            tally = tallies[item.channel_id] = Tally(item.version)
        _count(tally, item)
    return tallies


def _count(tally: Tally, item: Settlement) -> None:
    current = item.version >= tally.version
    if item.version > tally.version:
        tally.version = item.version
        tally.streak_ended, tally.streak, tally.hold_until_ms = False, 0, 0
        tally.closes, tally.told = False, None
    if item.status is Status.DELIVERED:
        tally.sent_at = item.finished_at
        tally.errors, tally.error = 0, None
        if item.origin is Origin.EVENT and current:
            tally.streak_ended, tally.streak, tally.since_ms = True, 0, None
            tally.closes, tally.told = True, None
        return
    tally.errors += 1
    tally.error = item.attempt.error
    if item.counts_in_streak and current:
        tally.streak += 1
        tally.since_ms = tally.since_ms or item.finished_at
    if current:
        tally.hold_until_ms = max(tally.hold_until_ms, item.hold_until_ms)
        _tell(tally, item)
    if item.status is Status.WAITING:
        tally.due_ms = item.due_ms if tally.due_ms is None else min(tally.due_ms, item.due_ms)


def _tell(tally: Tally, item: Settlement) -> None:
    """What a failure says to the breaker; see `domain/breaking.py`."""
    attempt = item.attempt
    effect = effect_of(
        item.origin, delivered=False, status_code=attempt.status_code, error=attempt.error
    )
    if effect is Effect.CLOSES:
        tally.closes, tally.told = True, None
        return
    if tally.told is None:
        tally.told = Told([], [])
    if effect is Effect.FAILS:
        tally.told.failed.append(item.id)
        tally.breaker = item.breaker
    else:
        tally.told.left.append(item.id)


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

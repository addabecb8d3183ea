"""What settlements mean to any driver: what a batch says about its lanes, and what is kept of an
attempt that can't be recorded; their rows; pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tocsin.domain.breaking import COUNTING, Effect, Told, effect_of
from tocsin.domain.model import Breaker, ChannelId, DeliveryId, OrganizationId, Status
from tocsin.domain.outcome import Reason
from tocsin.storage.base import Settled, Settlement

Row = tuple[Any, ...]


class Tally(Struct):
    """What one batch says about one lane."""

    organization_id: OrganizationId
    version: int
    sent_at: int | None = None
    errors: int = 0
    error: str | None = None
    streak_ended: bool = False
    streak: int = 0
    since_ms: int | None = None
    # Of deliveries that count: those that failed since the last success, and the last of them.
    failed: list[DeliveryId] = []
    last_failure: Settlement | None = None
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
            tally = tallies[item.channel_id] = Tally(item.organization_id, item.version)
        _count(tally, item)
    return tallies


def _count(tally: Tally, item: Settlement) -> None:
    current = item.version >= tally.version
    if item.version > tally.version:
        tally.version = item.version
        tally.streak_ended, tally.streak, tally.hold_until_ms = False, 0, 0
        tally.closes, tally.told, tally.failed = False, None, []
    if item.status is Status.DELIVERED:
        tally.sent_at = item.finished_at
        tally.errors, tally.error = 0, None
        if current and item.origin in COUNTING:
            tally.streak_ended, tally.streak, tally.since_ms = True, 0, None
            tally.closes, tally.told = True, None
            if tally.failed:
                tally.failed = []
        return
    tally.errors += 1
    tally.error = item.attempt.error
    if current and item.origin in COUNTING:
        tally.failed.append(item.id)
        tally.last_failure = item
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


def minimal(item: Settlement) -> Settlement:
    """The settlement with nothing in it that came from a target."""
    attempt = msgspec.structs.replace(
        item.attempt,
        started_at=max(0, min(item.attempt.started_at, 2**47)),
        duration_ms=max(0, min(item.attempt.duration_ms, 2**31 - 1)),
        status_code=None,
        error=f"{Reason.UNRECORDABLE}: the reply could not be stored",
        response_body=None,
    )
    return msgspec.structs.replace(item, attempt=attempt)


def move_row(item: Settlement) -> Row:
    """Where a delivery goes: id, claim, status, due, step, end, status code, error."""
    attempt = item.attempt
    final = item.status is not Status.WAITING
    return (
        item.id,
        item.claim,
        item.status,
        item.due_ms,
        item.step,
        item.finished_at if final else None,
        attempt.status_code,
        # A success that was sent twice says so in its attempt only.
        None if item.status is Status.DELIVERED else attempt.error,
    )


def attempt_row(item: Settlement, *, superseded: bool) -> Row:
    """An attempt in the order of its table's columns."""
    attempt = item.attempt
    return (
        item.id,
        item.claim,
        item.organization_id,
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        attempt.outcome,
        attempt.status_code,
        attempt.error,
        attempt.response_body,
        superseded,
    )


def joined(answers: Sequence[Any]) -> Settled | Exception:
    """What the parts of a settle did, as one answer; the first error is everybody's."""
    whole = Settled([], [], [])
    for answer in answers:
        if isinstance(answer, Exception):
            return answer
        whole.superseded += answer.superseded
        whole.disabled += answer.disabled
        whole.opened += answer.opened
        whole.noted = whole.noted or answer.noted
    return whole

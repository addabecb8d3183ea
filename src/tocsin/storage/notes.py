"""What a batch leaves beside its own rows, for those who watch: counts by the minute, issues, and
what is to be told; the rows themselves, the same for any driver; pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tocsin.domain import issues, streak
from tocsin.domain.breaking import COUNTING
from tocsin.domain.ids import derived
from tocsin.domain.latency import BUCKETS, bucket_of
from tocsin.domain.model import ChannelId, OrganizationId, Origin, Status
from tocsin.storage.base import NewEvent, Settlement
from tocsin.storage.settlements import Row, Tally

MINUTE_MS = 60_000
_MINUTE_MAX = 2**31 - 1

LATENCY = tuple(f"l{at}" for at in range(BUCKETS))
COUNTS = ("attempts", "failed", "delivered", "exhausted", *LATENCY)
MINUTE = ("channel_id", "minute", "node", "organization_id", *COUNTS)
"""The columns of `minute_rows`."""
PROJECT_COUNTS = ("accepted", "unmatched")
PROJECT_MINUTE = ("organization_id", "project_id", "minute", "node", *PROJECT_COUNTS)
"""The columns of `project_rows`."""

_NOTHING = [0] * len(COUNTS)
_ATTEMPTS, _FAILED, _DELIVERED, _EXHAUSTED = map(COUNTS.index, COUNTS[:4])
_FIRST_BUCKET = COUNTS.index("l0")


_ORDER = (streak.RECOVERED, streak.FAILING, streak.DISABLED)
"""Of several notes of one channel in one batch."""


class Note(Struct, frozen=True):
    """Something to tell of a channel: its kind, what the message says, and which delivery's attempt
    decided it."""

    kind: str
    organization_id: OrganizationId
    channel_id: ChannelId
    body: dict[str, Any]
    cause: str = ""


class GivenUp(Struct, frozen=True):
    """A delivery that ended without a further attempt, after so many, and why."""

    id: str
    channel_id: str
    organization_id: str
    origin: str
    attempts: int
    error: str


class Trouble(Struct):
    """What a batch adds to one issue: so many, the last of which was this one."""

    last: Settlement
    count: int


def minute_rows(items: Iterable[Settlement], node: int) -> list[Row]:
    """What was tried, by channel and minute (of its end, wall time), in the order of the keys."""
    minutes: dict[tuple[ChannelId, int], list[int]] = {}
    organizations: dict[ChannelId, OrganizationId] = {}
    # Neighbours mostly belong together; this runs for every attempt of every channel.
    at_channel, at_minute, counts = "", -1, _NOTHING
    delivered, exhausted = Status.DELIVERED, Status.EXHAUSTED
    for item in items:
        if item.origin not in COUNTING:
            continue
        channel_id, minute = item.channel_id, item.finished_at // MINUTE_MS
        if minute != at_minute or channel_id != at_channel:
            at_channel, at_minute = channel_id, minute
            key = (channel_id, _bounded(minute))
            counts = minutes.setdefault(key, [])
            if not counts:
                counts += _NOTHING
                organizations[channel_id] = item.organization_id
        if item.status is delivered:
            counts[_DELIVERED] += 1
        else:
            counts[_FAILED] += 1
            if item.status is exhausted:
                counts[_EXHAUSTED] += 1
        counts[_FIRST_BUCKET + bucket_of(item.attempt.duration_ms)] += 1
    for counts in minutes.values():
        counts[_ATTEMPTS] = counts[_DELIVERED] + counts[_FAILED]
    return [
        (channel_id, minute, node, organizations[channel_id], *counts)
        for (channel_id, minute), counts in sorted(minutes.items())
    ]


def project_rows(items: Iterable[NewEvent], node: int) -> list[Row]:
    """What was accepted, by project and minute, in the order of the keys."""
    minutes: dict[tuple[str, str, int], list[int]] = {}
    at_organization, at_minute, counts = "", -1, [0, 0]
    at_project: str | None = None
    for item in items:
        if item.origin is not Origin.EVENT:
            continue
        event = item.event
        minute = event.created_at // MINUTE_MS
        if (
            minute != at_minute
            or event.organization_id != at_organization
            or event.project_id != at_project
        ):
            at_organization, at_project, at_minute = event.organization_id, event.project_id, minute
            key = (at_organization, at_project or "", _bounded(minute))
            counts = minutes.setdefault(key, [0, 0])
        counts[0] += 1
        if item.unmatched is not None:
            counts[1] += 1
    return [(*key, node, *counts) for key, counts in sorted(minutes.items())]


def _bounded(minute: int) -> int:
    return min(max(minute, 0), _MINUTE_MAX)


def issue_rows(
    items: Iterable[Settlement],
    opened: Iterable[ChannelId],
    tallies: dict[ChannelId, Tally],
    wall_ms: int,
) -> list[Row]:
    """Issues that a batch opens or that recur in it, in the order of channel and fingerprint: id,
    channel, fingerprint, title, count, moment, delivery, attempt, error and status code.

    `opened` are the channels whose breaker opened.
    """
    troubles: dict[tuple[ChannelId, str], Trouble] = {}
    for item in items:
        if item.status is Status.EXHAUSTED and item.origin in COUNTING:
            attempt = item.attempt
            key = (item.channel_id, issues.fingerprint(attempt.error, attempt.status_code))
            trouble = troubles.get(key)
            if trouble is None:
                troubles[key] = Trouble(item, 1)
            else:
                trouble.last, trouble.count = item, trouble.count + 1
    for channel_id in opened:
        last = tallies[channel_id].last_failure
        if last is not None:
            troubles[(channel_id, issues.BREAKER_OPEN)] = Trouble(last, 1)
    return [
        (
            derived(wall_ms, "issue", channel_id, kind),
            channel_id,
            kind,
            issues.title(kind),
            trouble.count,
            wall_ms,
            trouble.last.id,
            trouble.last.attempt.number,
            trouble.last.attempt.error,
            trouble.last.attempt.status_code,
        )
        for (channel_id, kind), trouble in sorted(troubles.items())
    ]


def given_up_minutes(items: Iterable[GivenUp], node: int, wall_ms: int) -> list[Row]:
    """The rows of `minute_rows` for what ended without a further attempt."""
    ended = Counter((i.channel_id, i.organization_id) for i in items if i.origin in COUNTING)
    rows = []
    for (channel_id, organization_id), count in sorted(ended.items()):
        counts = list(_NOTHING)
        counts[_EXHAUSTED] = count
        rows.append((channel_id, _bounded(wall_ms // MINUTE_MS), node, organization_id, *counts))
    return rows


def given_up_issues(items: Iterable[GivenUp], wall_ms: int) -> list[Row]:
    """The rows of `issue_rows` for what ended without a further attempt."""
    troubles: dict[tuple[str, str], tuple[GivenUp, int]] = {}
    for item in items:
        if item.origin in COUNTING:
            key = (item.channel_id, issues.fingerprint(item.error, None))
            troubles[key] = (item, troubles[key][1] + 1 if key in troubles else 1)
    return [
        (
            derived(wall_ms, "issue", channel_id, kind),
            channel_id,
            kind,
            issues.title(kind),
            count,
            wall_ms,
            last.id,
            last.attempts,
            last.error,
            None,
        )
        for (channel_id, kind), (last, count) in sorted(troubles.items())
    ]


def streak_note(kind: str, channel_id: ChannelId, tally: Tally) -> Note:
    """That a channel fails, or has recovered."""
    last = tally.last_failure
    if kind == streak.RECOVERED or last is None:
        return Note(kind, tally.organization_id, channel_id, {})
    body = {
        "failures": streak.FAILING_AFTER,
        "last_error": last.attempt.error,
        "last_status_code": last.attempt.status_code,
    }
    return Note(kind, tally.organization_id, channel_id, body, last.id)


def disabled_note(item: Settlement) -> Note:
    """That a channel was disabled by what its target said."""
    body = {"reason": item.park}
    return Note(streak.DISABLED, item.organization_id, item.channel_id, body, item.id)


def note_rows(told: Sequence[Note], wall_ms: int) -> list[Row]:
    """Rows of `outbox`, in the order of its columns and of their ids."""
    return sorted(
        (
            derived(wall_ms + _ORDER.index(note.kind), note.kind, note.channel_id, note.cause),
            note.organization_id,
            note.kind,
            note.channel_id,
            wall_ms,
            msgspec.json.encode(note.body).decode(),
        )
        for note in told
    )

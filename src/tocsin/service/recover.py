"""Recover: all deliveries of a channel that failed in a span of time are sent once more, by a job.

What the job does is in `storage/control/recovery.py`.
"""

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import EventPurged, Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import floor, normalize_id
from tocsin.domain.model import Job, JobId, Status
from tocsin.domain.permissions import Caller
from tocsin.domain.text import iso, parse_time
from tocsin.service.changes import Changes, Made, Target, permit
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, channels, jobs, recovery, retention, work

JOBS_MAX = 5
ROWS_AT_ONCE = 1_000
"""So many deliveries are looked at before the call is answered: few are counted by then."""

STATUSES = (Status.EXHAUSTED, Status.REJECTED)


class RecoverDraft(Struct, frozen=True, kw_only=True):
    """What to recover, as it was said: `since` ≤ created < `until`, in one of these states."""

    since: str
    until: str | UnsetType | None = UNSET
    statuses: list[str] | UnsetType | None = UNSET


async def recover(
    changes: Changes, caller: Caller, sight: Sight, channel_id: str, draft: RecoverDraft
) -> Job:
    """Begin the job; raises QuotaExceeded while the organization has as many as it may, and
    EventPurged where all of that time is past its retention."""
    wanted = normalize_id(channel_id)
    if wanted is None:
        raise NotFound
    found = await changes.store.read(lambda c: channels.get(c, sight, wanted))
    permit(caller, "job.create")
    channel = found.channel
    now_ms = changes.clock.wall_ms()
    arguments = _arguments(draft, now_ms)
    job_id = changes.new_id()

    def begin(connection: Connection) -> Made[Job]:
        channels.get(connection, sight, channel.id)
        if floor(arguments["until"]) <= retention.horizon(connection):
            raise EventPurged
        if jobs.count(connection, sight) >= JOBS_MAX:
            raise QuotaExceeded(f"An organization runs at most {JOBS_MAX} jobs at once.")
        task = jobs.create(
            connection,
            sight,
            id=job_id,
            kind=recovery.RECOVER,
            channel_id=channel.id,
            internal=False,
            arguments=arguments,
            now_ms=now_ms,
        )
        work.step(connection, task, now_ms=now_ms, rows_max=ROWS_AT_ONCE)
        return Made(jobs.get(connection, sight, job_id), _said(channel.id, arguments))

    target = Target("job", JobId(job_id))
    return await changes.make(caller, sight, "job.create", target, begin, touch=False)


def _arguments(draft: RecoverDraft, now_ms: int) -> dict[str, Any]:
    since = parse_time(draft.since, "since")
    until = now_ms + 1
    if isinstance(draft.until, str):
        until = parse_time(draft.until, "until")
        if until <= since:
            raise Invalid("until", "must be later than since")
    elif until <= since:
        raise Invalid("since", "must be in the past")
    statuses = list(STATUSES)
    if isinstance(draft.statuses, list):
        statuses = [status for status in STATUSES if status in draft.statuses]
        if not draft.statuses or set(draft.statuses) != set(statuses):
            raise Invalid("statuses", "must be one or both of exhausted and rejected")
    return {"since": since, "until": until, "statuses": statuses}


def _said(channel_id: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": recovery.RECOVER,
        "channel_id": channel_id,
        "since": iso(arguments["since"]),
        "until": iso(arguments["until"]),
        "statuses": arguments["statuses"],
    }

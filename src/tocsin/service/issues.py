"""Issues: kinds of trouble that channels have, for people to look at, silence and retry."""

import builtins

from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import Conflict, Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Issue, IssueStatus, JobId, ProjectId, Status
from tocsin.domain.permissions import Caller
from tocsin.domain.text import iso, parse_time
from tocsin.service.changes import Changes, Made, Target, permit
from tocsin.service.directory import Directory
from tocsin.service.recover import JOBS_MAX
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, channels, issues, jobs, recovery
from tocsin.storage.control.jobs import Task

QUIET_MS = 30 * 60_000
"""An issue that nothing and nobody has touched for so long is resolved."""
QUIET_SECONDS = 20.0
ISSUES_PER_STEP = 500
ROWS_COUNTED_AT_ONCE = 20_000


class IssuePatch(Struct, frozen=True, kw_only=True):
    """What a person says of an issue; what is left out stays, `snoozed_until` None ends it."""

    status: IssueStatus | UnsetType = UNSET
    snoozed_until: str | UnsetType | None = UNSET


class Issues:
    """The issues of the channels of projects."""

    def __init__(self, *, changes: Changes, directory: Directory) -> None:
        self._changes = changes
        self._store = changes.store
        self._directory = directory

    async def page(
        self,
        caller: Caller,
        sight: Sight,
        *,
        project_id: ProjectId | None = None,
        channel_id: str | None = None,
        status: IssueStatus | None = None,
        offset: int,
        limit: int,
    ) -> tuple[builtins.list[Issue], int]:
        """A numbered page, newest first, and how many there are on all."""
        permit(caller, "issue.list")
        return await self._store.read(
            lambda c: issues.page(
                c,
                sight,
                project_id=project_id,
                channel_id=channel_id,
                status=status,
                offset=offset,
                limit=limit,
            )
        )

    async def summary(
        self, caller: Caller, sight: Sight, *, project_id: ProjectId | None = None
    ) -> dict[IssueStatus, int]:
        """How many there are in each state."""
        permit(caller, "issue.list")
        found = await self._store.read(lambda c: issues.summary(c, sight, project_id=project_id))
        return {status: found.get(status, 0) for status in IssueStatus}

    async def sight_of(self, caller: Caller, issue_id: str) -> Sight:
        """What a call may see that names nothing but this issue; raises NotFound."""
        wanted = _id(issue_id)
        return await self._directory.sight_by_id(
            caller, lambda c: issues.organization_of(c, wanted)
        )

    async def get(
        self, caller: Caller, sight: Sight, issue_id: str, *, operation: str = "issue.get"
    ) -> Issue:
        """An issue; raises NotFound, then Forbidden."""
        wanted = _id(issue_id)
        found = await self._store.read(lambda c: issues.get(c, sight, wanted))
        permit(caller, operation)
        return found

    async def update(self, caller: Caller, sight: Sight, issue_id: str, patch: IssuePatch) -> Issue:
        """Change an issue's state, or silence it for a while.

        Opening it again by hand tells nobody: only a recurrence is news.
        """
        issue = await self.get(caller, sight, issue_id, operation="issue.update")
        now_ms = self._changes.clock.wall_ms()
        snoozed: int | UnsetType | None = UNSET
        if patch.snoozed_until is None:
            snoozed = None
        elif patch.snoozed_until is not UNSET:
            snoozed = parse_time(patch.snoozed_until, "snoozed_until")
            if snoozed <= now_ms:
                raise Invalid("snoozed_until", "must be in the future")

        def work(connection: Connection) -> Made[Issue]:
            before = issues.get(connection, sight, issue.id, lock=True)
            status = before.status if patch.status is UNSET else patch.status
            until = before.snoozed_until if snoozed is UNSET else snoozed
            if (status, until) == (before.status, before.snoozed_until):
                return Made(before)
            resolved_at = None
            if status is IssueStatus.RESOLVED:
                resolved_at = before.resolved_at or now_ms
            issues.change(
                connection,
                sight,
                before.id,
                status=status,
                snoozed_until=until,
                resolved_at=resolved_at,
                now_ms=max(now_ms, before.updated_at),
            )
            return Made(issues.get(connection, sight, before.id), _said(before, status, until))

        target = Target("issue", issue.id)
        return await self._changes.make(caller, sight, "issue.update", target, work, touch=False)

    async def retry(self, caller: Caller, sight: Sight, issue_id: str) -> int:
        """Begin a job that sends once more what was given up for this trouble since the issue was
        opened; returns how many deliveries that are.

        Raises Conflict for a deleted channel and QuotaExceeded while too many jobs run.
        """
        issue = await self.get(caller, sight, issue_id, operation="issue.retry")
        if issue.channel_name is None:
            raise Conflict("The channel of this issue is deleted.")
        job_id = self._changes.new_id()
        task = _task(issue, job_id, self._changes.clock.wall_ms())
        total = await self._count(task)
        if not total:
            return 0

        def begin(connection: Connection) -> Made[None]:
            channels.get(connection, sight, issue.channel_id)
            if jobs.count(connection, sight) >= JOBS_MAX:
                raise QuotaExceeded(f"An organization runs at most {JOBS_MAX} jobs at once.")
            jobs.create(
                connection,
                sight,
                id=job_id,
                kind=task.kind,
                channel_id=issue.channel_id,
                internal=False,
                arguments=task.arguments,
                now_ms=task.created_at,
                total=total,
                position=task.position,
            )
            said = {"channel_id": issue.channel_id, "job_id": job_id, "retried": total}
            return Made(None, said)

        target = Target("issue", issue.id)
        await self._changes.make(caller, sight, "issue.retry", target, begin, touch=False)
        return total

    async def _count(self, task: Task) -> int:
        """The size of the job's set, looked at in bounded steps."""
        total, last = 0, ""
        while True:
            at = last
            found, further = await self._store.read(
                lambda c, at=at: recovery.count(c, task, at, ROWS_COUNTED_AT_ONCE)  # type: ignore[misc]
            )
            total += found
            if further is None:
                return total
            last = further

    async def resolve_quiet(self) -> int:
        """Resolve what has not recurred for a while; returns how many. Any node may."""
        resolved = 0
        while True:
            now_ms = self._changes.clock.wall_ms()
            before_ms = now_ms - QUIET_MS
            ids = await self._store.read(
                lambda c, at=before_ms: issues.quiet(c, before_ms=at, limit=ISSUES_PER_STEP)  # type: ignore[misc]
            )
            if not ids:
                return resolved
            done = await self._store.write(
                lambda c, ids=ids, at=before_ms, now=now_ms: issues.resolve(  # type: ignore[misc]
                    c, ids, before_ms=at, now_ms=now
                )
            )
            resolved += done
            if not done or len(ids) < ISSUES_PER_STEP:
                return resolved


def _id(text: str) -> str:
    found = normalize_id(text)
    if found is None:
        raise NotFound
    return found


def _task(issue: Issue, job_id: str, now_ms: int) -> Task:
    """A recover job of the issue's group; a delivery may be much older than its failure."""
    return Task(
        id=JobId(job_id),
        organization_id=issue.organization_id,
        kind=recovery.RECOVER,
        channel_id=issue.channel_id,
        arguments={
            "since": 0,
            "until": now_ms + 1,
            "statuses": [Status.EXHAUSTED],
            "fingerprint": issue.fingerprint,
            "ended_since": issue.opened_at,
        },
        position=recovery.OPENING,
        created_at=now_ms,
    )


def _said(before: Issue, status: IssueStatus, until: int | None) -> dict[str, object]:
    said: dict[str, object] = {}
    if status is not before.status:
        said["status"] = {"from": before.status, "to": status}
    if until != before.snoozed_until:
        was = before.snoozed_until
        said["snoozed_until"] = {
            "from": None if was is None else iso(was),
            "to": None if until is None else iso(until),
        }
    return said

"""Durable jobs: what is to be done, how far it is, and who may see and stop it.

Internal jobs carry out a delete or a cancelled backlog: nobody sees or stops them, and they count
against no quota. What the steps do is in `work.py`.
"""

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection

from tocsin.domain.errors import Conflict, NotFound
from tocsin.domain.model import ChannelId, Job, JobId, OrganizationId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import channels, jobs, organizations

RUNNING = "running"
DONE = "done"
CANCELLED = "cancelled"
FAILED = "failed"


class Task(Struct, frozen=True, kw_only=True):
    """A running job as its steps see it; `position` is where the last step ended."""

    id: JobId
    organization_id: OrganizationId
    kind: str
    channel_id: ChannelId | None
    arguments: dict[str, Any]
    position: str
    created_at: int

    @property
    def project_id(self) -> None:
        """A job works in the sight of its whole organization."""
        return None


def _job(row: AnyRow) -> Job:
    return Job(
        id=JobId(row.id),
        organization_id=OrganizationId(row.organization_id),
        kind=row.kind,
        channel_id=None if row.channel_id is None else ChannelId(row.channel_id),
        status=row.status,
        total=row.total,
        done=row.done,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _task(row: AnyRow) -> Task:
    return Task(
        id=JobId(row.id),
        organization_id=OrganizationId(row.organization_id),
        kind=row.kind,
        channel_id=None if row.channel_id is None else ChannelId(row.channel_id),
        arguments=msgspec.json.decode(row.arguments),
        position=row.position,
        created_at=row.created_at,
    )


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [jobs.c.organization_id == sight.organization_id, jobs.c.internal.is_(False)]
    if sight.project_id is not None:
        seen.append(
            jobs.c.channel_id.in_(
                sa.select(channels.c.id).where(
                    channels.c.organization_id == sight.organization_id,
                    channels.c.project_id == sight.project_id,
                )
            )
        )
    return seen


def create(
    connection: Connection,
    sight: Sight,
    *,
    id: str,
    kind: str,
    channel_id: str | None,
    internal: bool,
    arguments: dict[str, Any],
    now_ms: int,
    total: int | None = None,
    position: str = "",
) -> Task:
    """Store a job that runs from now on; `position` is where its first step begins."""
    connection.execute(
        sa.insert(jobs).values(
            id=id,
            organization_id=sight.organization_id,
            kind=kind,
            channel_id=channel_id,
            status=RUNNING,
            internal=internal,
            arguments=msgspec.json.encode(arguments).decode(),
            total=total,
            position=position,
            created_at=now_ms,
        )
    )
    return Task(
        id=JobId(id),
        organization_id=sight.organization_id,
        kind=kind,
        channel_id=None if channel_id is None else ChannelId(channel_id),
        arguments=arguments,
        position=position,
        created_at=now_ms,
    )


def walk(connection: Connection, sight: Sight, *, limit: int, below: str | None) -> Walked[Job]:
    """The jobs in sight."""
    page = newest(
        connection,
        sa.select(jobs.c.id).where(*_seen(sight)),
        jobs.c.id,
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(jobs).where(jobs.c.id.in_(page.items)).order_by(jobs.c.id.desc())
    )
    return put(page, [_job(row) for row in rows])


def get(connection: Connection, sight: Sight, job_id: str) -> Job:
    """A job in sight; raises NotFound."""
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id, *_seen(sight))).first()
    if row is None:
        raise NotFound
    return _job(row)


def cancel(connection: Connection, sight: Sight, job_id: str, *, now_ms: int) -> Job:
    """Stop a running job where it is; raises NotFound, and Conflict when it has ended."""
    get(connection, sight, job_id)
    done = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id, jobs.c.status == RUNNING, *_seen(sight))
        .values(status=CANCELLED, finished_at=now_ms)
    )
    if not done.rowcount:
        raise Conflict("The job has ended already.")
    return get(connection, sight, job_id)


def running(connection: Connection, *, above: str, limit: int) -> list[Task]:
    """Running jobs of all organizations, oldest first; for the one who runs them."""
    rows = connection.execute(
        sa.select(jobs)
        .where(jobs.c.status == RUNNING, jobs.c.id > above)
        .order_by(jobs.c.id)
        .limit(limit)
    )
    return [_task(row) for row in rows]


def count(connection: Connection, sight: Sight) -> int:
    """How many jobs of people run in the organization; in order with whoever else asks."""
    connection.execute(
        sa.select(organizations.c.id)
        .where(organizations.c.id == sight.organization_id)
        .with_for_update(key_share=True)
    )
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                jobs.c.organization_id == sight.organization_id,
                jobs.c.status == RUNNING,
                jobs.c.internal.is_(False),
            )
        )
        or 0
    )


def task(connection: Connection, sight: Sight, job_id: str, *, lock: bool = False) -> Task | None:
    """A running job as it stands now; None when it has ended.

    With `lock` whoever cancels it waits for this transaction: nothing is done after the answer.
    None also while another node is at it, which is not waited for: it may be paused there.
    """
    query = sa.select(jobs).where(
        jobs.c.id == job_id,
        jobs.c.organization_id == sight.organization_id,
        jobs.c.status == RUNNING,
    )
    row = connection.execute(query.with_for_update(skip_locked=True) if lock else query).first()
    return None if row is None else _task(row)


def advance(
    connection: Connection,
    sight: Sight,
    task: Task,
    *,
    position: str,
    rows: int,
    finished_at: int | None,
    total: int | None = None,
    status: str = DONE,
) -> None:
    """Note how far a step got; `status` is what an ended job reads as."""
    changes: dict[str, Any] = {"position": position, "done": jobs.c.done + rows}
    if finished_at is not None:
        changes |= {"status": status, "finished_at": finished_at}
    if total is not None:
        changes["total"] = total
    connection.execute(
        sa.update(jobs)
        .where(
            jobs.c.id == task.id,
            jobs.c.organization_id == sight.organization_id,
            jobs.c.status == RUNNING,
        )
        .values(changes)
    )


def fail(connection: Connection, sight: Sight, job_id: str, *, now_ms: int) -> None:
    """End a job whose step can't be done."""
    connection.execute(
        sa.update(jobs)
        .where(
            jobs.c.id == job_id,
            jobs.c.organization_id == sight.organization_id,
            jobs.c.status == RUNNING,
        )
        .values(status=FAILED, finished_at=now_ms)
    )

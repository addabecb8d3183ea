"""The steps of durable jobs: each is one transaction, changes a bounded number of rows, and notes
where it ended, so that the next one goes on from there whatever happens in between.

    cancel_deleted        ends what waits in the lane of a deleted channel
    cancel_backlog        ends what waited when a person dropped the backlog
    delete_project        deletes its channels, then ends what waits in their lanes
    delete_organization   deletes its channels, then removes all of its data
    recover               re-opens deliveries that failed (see `recovery.py`)
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from tocsin.domain.model import Status
from tocsin.domain.outcome import Reason
from tocsin.storage.control import alert_rules, jobs, lanes, recovery
from tocsin.storage.control.jobs import Task
from tocsin.storage.control.removal import remove
from tocsin.storage.tables import channels, deliveries, organizations
from tocsin.storage.tables import lanes as lane_rows

ROWS_MAX = 5_000

CANCEL_DELETED = "cancel_deleted"
CANCEL_BACKLOG = "cancel_backlog"
DELETE_PROJECT = "delete_project"
DELETE_ORGANIZATION = "delete_organization"

SETTLING_MS = 60_000
"""What is being sent when an organization is deleted is settled by then; its data goes after."""


class Step(Struct, frozen=True):
    """What a step did; `waits` means that it could do nothing yet, and should come back later."""

    rows: int
    finished: bool
    waits: bool = False


class Progress(Struct, frozen=True):
    """Where a step ended: the job's next position, None at the end."""

    rows: int
    position: str | None
    total: int | None = None
    cancelled: bool = False


def step(
    connection: Connection,
    task: Task,
    *,
    now_ms: int,
    rows_max: int = ROWS_MAX,
    storage_ms: int = 0,
) -> Step:
    """Do one step of a job and note it; `now_ms` is wall time. ValueError for an unknown kind.

    What a step re-opens is due at `storage_ms`.
    """
    # One row is the job's own.
    if task.kind == recovery.RECOVER:
        done = recovery.advance(connection, task, due_ms=storage_ms, rows_max=rows_max - 1)
        progress = Progress(done.rows, done.position, done.total, done.cancelled)
    else:
        progress = _progress(connection, task, now_ms, rows_max - 1)
    finished = progress.position is None
    jobs.advance(
        connection,
        task,
        task,
        position=progress.position if progress.position is not None else task.position,
        rows=progress.rows,
        finished_at=now_ms if finished else None,
        total=progress.total,
        status=jobs.CANCELLED if progress.cancelled else jobs.DONE,
    )
    waits = not progress.rows and progress.position == task.position
    return Step(rows=progress.rows, finished=finished, waits=waits)


def _progress(connection: Connection, task: Task, now_ms: int, rows_max: int) -> Progress:
    match task.kind:
        case "cancel_deleted":
            return _cancel_deleted(connection, task, str(task.channel_id), now_ms, rows_max)
        case "cancel_backlog":
            return _cancel_backlog(connection, task, now_ms, rows_max)
        case "delete_project":
            return _delete_project(connection, task, now_ms, rows_max)
        case "delete_organization":
            return _delete_organization(connection, task, now_ms, rows_max)
    raise ValueError(f"no such kind of job: {task.kind}")


def _end(connection: Connection, ids: list[str], reason: Reason, now_ms: int) -> int:
    """Cancel waiting deliveries that nobody holds; returns how many."""
    if not ids:
        return 0
    return connection.execute(
        sa.update(deliveries)
        .where(
            deliveries.c.id.in_(sorted(ids)),
            deliveries.c.status == Status.WAITING.value,
            deliveries.c.node == 0,
        )
        .values(status=Status.CANCELLED.value, finished_at=now_ms, last_error=reason.value)
    ).rowcount


def _lock(connection: Connection, channel_id: str) -> None:
    """The lane first, then its deliveries: the order in which every transaction locks them."""
    connection.execute(
        sa.select(lane_rows.c.channel_id)
        .where(lane_rows.c.channel_id == channel_id)
        .with_for_update(key_share=True)
    )


def _cancel_deleted(
    connection: Connection, task: Task, channel_id: str, now_ms: int, rows_max: int
) -> Progress:
    _lock(connection, channel_id)
    open_ones = (
        deliveries.c.status == Status.WAITING.value,
        deliveries.c.channel_id == channel_id,
        deliveries.c.organization_id == task.organization_id,
    )
    ids = connection.scalars(
        sa.select(deliveries.c.id).where(*open_ones, deliveries.c.node == 0).limit(rows_max)
    )
    rows = _end(connection, list(ids), Reason.CHANNEL_DELETED, now_ms)
    if rows >= rows_max:
        return Progress(rows, task.position)
    # What a node still holds comes back, or ends, with its settle: the job waits for it.
    left = connection.scalar(sa.select(sa.literal(1)).where(*open_ones).limit(1))
    return Progress(rows, None if left is None else task.position)


def _cancel_backlog(connection: Connection, task: Task, now_ms: int, rows_max: int) -> Progress:
    """Walk the lane's free deliveries by due moment; the position is the last one looked at."""
    through = str(task.arguments["through"])
    channel_id = str(task.channel_id)
    _lock(connection, channel_id)
    due_ms, _, last = task.position.partition(":")
    free = sa.select(deliveries.c.id, deliveries.c.due_ms).where(
        deliveries.c.status == Status.WAITING.value,
        deliveries.c.channel_id == channel_id,
        deliveries.c.organization_id == task.organization_id,
        deliveries.c.node == 0,
    )
    if last:
        free = free.where(
            sa.tuple_(deliveries.c.due_ms, deliveries.c.id)
            > sa.tuple_(sa.literal(int(due_ms)), sa.literal(last))
        )
    # Another row is the lane's.
    limit = rows_max - 1
    found: list[Any] = list(
        connection.execute(free.order_by(deliveries.c.due_ms, deliveries.c.id).limit(limit))
    )
    ids = [row.id for row in found if row.id <= through]
    rows = _end(connection, ids, Reason.BACKLOG_CANCELLED, now_ms)
    if len(found) == limit:
        return Progress(rows, f"{found[-1].due_ms}:{found[-1].id}")
    lanes.backlog_cancelled(connection, task, channel_id, through=through)
    return Progress(rows, None)


def _close_channels(
    connection: Connection, task: Task, now_ms: int, rows_max: int, project_id: str | None
) -> tuple[int, bool]:
    """Delete channels with their lanes, two rows each; returns the rows and whether all are."""
    limit = (rows_max - 1) // 2
    wanted = sa.select(channels.c.id).where(
        channels.c.organization_id == task.organization_id, channels.c.deleted_at.is_(None)
    )
    if project_id is not None:
        wanted = wanted.where(channels.c.project_id == project_id)
    ids = list(connection.scalars(wanted.order_by(channels.c.id).limit(limit)))
    if ids:
        lanes.close(connection, task, ids)
        alert_rules.channels_gone(connection, task, ids, now_ms=now_ms)
        connection.execute(
            sa.update(channels)
            .where(channels.c.id.in_(ids))
            .values(
                deleted_at=now_ms,
                updated_at=now_ms,
                sealed=b"",
                version=channels.c.version + 1,
            )
        )
        connection.execute(
            sa.update(organizations)
            .where(organizations.c.id == task.organization_id)
            .values(version=organizations.c.version + 1)
        )
    return len(ids) * 2, len(ids) < limit


def _delete_project(connection: Connection, task: Task, now_ms: int, rows_max: int) -> Progress:
    """The position is the channel whose lane was emptied last; before that, nothing."""
    project_id = str(task.arguments["project_id"])
    if not task.position:
        rows, all_closed = _close_channels(connection, task, now_ms, rows_max, project_id)
        return Progress(rows, "0" if all_closed else "")
    channel_id = connection.scalar(
        sa.select(channels.c.id)
        .where(
            channels.c.organization_id == task.organization_id,
            channels.c.project_id == project_id,
            channels.c.id > task.position,
        )
        .order_by(channels.c.id)
        .limit(1)
    )
    if channel_id is None:
        return Progress(0, None)
    progress = _cancel_deleted(connection, task, channel_id, now_ms, rows_max)
    return Progress(progress.rows, channel_id if progress.position is None else task.position)


def _delete_organization(
    connection: Connection, task: Task, now_ms: int, rows_max: int
) -> Progress:
    """The position is the table that is being emptied; before that, nothing."""
    if not task.position:
        rows, all_closed = _close_channels(connection, task, now_ms, rows_max, None)
        return Progress(rows, "settling" if all_closed else "")
    if task.position == "settling":
        if now_ms - task.created_at < SETTLING_MS:
            return Progress(0, "settling")
        # The row stays, so that its id is never taken for a new one's; what people called it goes.
        connection.execute(
            sa.update(organizations)
            .where(organizations.c.id == task.organization_id)
            .values(name="", slug=task.organization_id)
        )
        return Progress(1, "deliveries")
    rows, position = remove(connection, task, task.position, rows_max)
    return Progress(rows, position)

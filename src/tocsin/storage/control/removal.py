"""Removing all data of a deleted organization, table by table, in bounded steps."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from tocsin.storage.control import retention
from tocsin.storage.control.jobs import Task
from tocsin.storage.tables import (
    attempts,
    audit,
    channels,
    deliveries,
    events,
    idempotency,
    jobs,
    keys,
    lanes,
    links,
    members,
    projects,
    sessions,
)
from tocsin.storage.watch_tables import (
    alert_history,
    alert_rules,
    channel_days,
    channel_hours,
    channel_minutes,
    issues,
    outbox,
    project_days,
    project_hours,
    project_minutes,
)

EVENTS_PER_STEP_MAX = 200
"""Few, because one may be 256 KiB and a transaction has to stay small in bytes too."""

_COUNTS = {
    table.name: table
    for table in (
        *(channel_minutes, channel_hours, channel_days),
        *(project_minutes, project_hours, project_days),
    )
}
ORDER = (
    *("deliveries", "events", "idempotency", *_COUNTS, "outbox"),
    *("channels", "keys", "members", "links", "sessions"),
    *("alert_rules", "alert_history", "issues", "projects", "audit", "jobs"),
)


def remove(connection: Connection, task: Task, table: str, rows_max: int) -> tuple[int, str | None]:
    """Empty one of `ORDER` a step further; returns the rows and the table to go on with."""
    match table:
        case "deliveries":
            rows, empty = _deliveries(connection, task, rows_max)
        case "events":
            rows, empty = _by_id(connection, task, events, min(rows_max, EVENTS_PER_STEP_MAX))
            retention.count(connection, {"events": rows})
        case "idempotency":
            rows, empty = _idempotency(connection, task, rows_max)
        case "outbox":
            rows, empty = _by_id(connection, task, outbox, rows_max)
        case name if name in _COUNTS:
            rows, empty = _counts(connection, task, _COUNTS[name], rows_max)
        case "channels":
            rows, empty = _channels(connection, task, rows_max)
        case "keys":
            rows, empty = _by_id(connection, task, keys, rows_max)
        case "members":
            rows, empty = _by_id(connection, task, members, rows_max)
        case "links":
            rows, empty = _by_id(connection, task, links, rows_max)
        case "sessions":
            rows, empty = _by_id(connection, task, sessions, rows_max)
        case "alert_rules":
            rows, empty = _by_id(connection, task, alert_rules, rows_max)
        case "alert_history":
            rows, empty = _by_id(connection, task, alert_history, rows_max)
        case "issues":
            rows, empty = _by_id(connection, task, issues, rows_max)
        case "projects":
            rows, empty = _by_id(connection, task, projects, rows_max)
        case "audit":
            rows, empty = _by_id(connection, task, audit, rows_max)
        case "jobs":
            rows, empty = _by_id(connection, task, jobs, rows_max, keep=task.id)
        case _:
            raise ValueError(f"nothing to remove in {table}")
    if not empty:
        return rows, table
    further = ORDER[ORDER.index(table) + 1 :]
    return rows, further[0] if further else None


def _by_id(
    connection: Connection, task: Task, table: Table, limit: int, keep: str | None = None
) -> tuple[int, bool]:
    wanted = sa.select(table.c.id).where(table.c.organization_id == task.organization_id)
    if keep is not None:
        wanted = wanted.where(table.c.id != keep)
    ids = list(connection.scalars(wanted.order_by(table.c.id).limit(limit)))
    if ids:
        connection.execute(sa.delete(table).where(table.c.id.in_(ids)))
    return len(ids), len(ids) < limit


def _deliveries(connection: Connection, task: Task, rows_max: int) -> tuple[int, bool]:
    """Deliveries with their attempts, as many as fit into the step; one at least."""
    limit = max(rows_max // 4, 1)
    counted: list[Any] = list(
        connection.execute(
            sa.select(
                deliveries.c.id,
                sa.select(sa.func.count())
                .where(attempts.c.delivery_id == deliveries.c.id)
                .scalar_subquery()
                .label("attempts"),
            )
            .where(deliveries.c.organization_id == task.organization_id)
            .order_by(deliveries.c.id)
            .limit(limit)
        )
    )
    ids: list[str] = []
    rows = 0
    for row in counted:
        if ids and rows + 1 + row.attempts > rows_max:
            break
        ids.append(row.id)
        rows += 1 + row.attempts
    if ids:
        connection.execute(sa.delete(attempts).where(attempts.c.delivery_id.in_(ids)))
        connection.execute(sa.delete(deliveries).where(deliveries.c.id.in_(ids)))
        retention.count(connection, {"deliveries": len(ids), "attempts": rows - len(ids)})
    return rows, len(counted) < limit and len(ids) == len(counted)


def _idempotency(connection: Connection, task: Task, rows_max: int) -> tuple[int, bool]:
    mine = idempotency.c.organization_id == task.organization_id
    place = (idempotency.c.project_id, idempotency.c.source, idempotency.c.key)
    rows = connection.execute(
        sa.delete(idempotency).where(
            mine, sa.tuple_(*place).in_(sa.select(*place).where(mine).limit(rows_max))
        )
    ).rowcount
    return rows, rows < rows_max


def _counts(connection: Connection, task: Task, table: Table, rows_max: int) -> tuple[int, bool]:
    """Statistics; recent ones of channels are found by the channels, which go later."""
    mine = table.c.organization_id == task.organization_id
    if table is channel_minutes:
        of_it = sa.select(channels.c.id).where(channels.c.organization_id == task.organization_id)
        mine = sa.and_(mine, table.c.channel_id.in_(of_it))
    place = tuple(table.primary_key.columns)
    rows = connection.execute(
        sa.delete(table).where(sa.tuple_(*place).in_(sa.select(*place).where(mine).limit(rows_max)))
    ).rowcount
    return rows, rows < rows_max


def _channels(connection: Connection, task: Task, rows_max: int) -> tuple[int, bool]:
    limit = max(rows_max // 2, 1)
    ids = list(
        connection.scalars(
            sa.select(channels.c.id)
            .where(channels.c.organization_id == task.organization_id)
            .order_by(channels.c.id)
            .limit(limit)
        )
    )
    if ids:
        connection.execute(sa.delete(lanes).where(lanes.c.channel_id.in_(ids)))
        connection.execute(sa.delete(channels).where(channels.c.id.in_(ids)))
    return len(ids) * 2, len(ids) < limit

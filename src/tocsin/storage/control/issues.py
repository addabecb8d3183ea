"""Issues: read, changed by people, and resolved when the trouble has stopped. Settling opens them
and counts what recurs; what ends without a further attempt does so here."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.domain.errors import NotFound
from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    EventId,
    Issue,
    IssueId,
    IssueStatus,
    OrganizationId,
    ProjectId,
)
from tocsin.storage.control.walk import AnyRow, AnySelect, Sight
from tocsin.storage.settlements import Row
from tocsin.storage.tables import channels, deliveries
from tocsin.storage.watch_tables import issues

_MOMENTS = ("first_seen_at", "last_seen_at", "opened_at", "created_at", "updated_at")
_LAST = (
    "last_delivery_id",
    "last_attempt_number",
    "last_event_id",
    "last_error",
    "last_status_code",
)
_UNRESOLVED = (IssueStatus.OPEN.value, IssueStatus.ACKNOWLEDGED.value)


def _rows() -> AnySelect:
    name = sa.case((channels.c.deleted_at.is_(None), channels.c.name)).label("channel_name")
    return sa.select(issues, name).outerjoin(channels, channels.c.id == issues.c.channel_id)


def _issue(row: AnyRow) -> Issue:
    return Issue(
        id=IssueId(row.id),
        organization_id=OrganizationId(row.organization_id),
        project_id=None if row.project_id is None else ProjectId(row.project_id),
        channel_id=ChannelId(row.channel_id),
        channel_name=row.channel_name,
        fingerprint=row.fingerprint,
        title=row.title,
        status=IssueStatus(row.status),
        snoozed_until=row.snoozed_until,
        occurrence_count=row.occurrence_count,
        first_seen_at=row.first_seen_at,
        last_seen_at=row.last_seen_at,
        opened_at=row.opened_at,
        resolved_at=row.resolved_at,
        last_delivery_id=None if row.last_delivery_id is None else DeliveryId(row.last_delivery_id),
        last_attempt_number=row.last_attempt_number,
        last_event_id=None if row.last_event_id is None else EventId(row.last_event_id),
        last_error=row.last_error,
        last_status_code=row.last_status_code,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _seen(sight: Sight, project_id: str | None = None) -> list[ColumnElement[bool]]:
    """Those of channels of projects: of one project, or of all in sight."""
    seen = [issues.c.organization_id == sight.organization_id, issues.c.project_id.is_not(None)]
    seen += [issues.c.project_id == id for id in (sight.project_id, project_id) if id is not None]
    return seen


def organization_of(connection: Connection, issue_id: str) -> OrganizationId | None:
    """Whose issue this is, out of all; for the operator, who names one by its id alone."""
    found = connection.scalar(
        sa.select(issues.c.organization_id).where(
            issues.c.id == issue_id, issues.c.project_id.is_not(None)
        )
    )
    return None if found is None else OrganizationId(found)


def page(
    connection: Connection,
    sight: Sight,
    *,
    project_id: str | None = None,
    channel_id: str | None = None,
    status: IssueStatus | None = None,
    offset: int,
    limit: int,
) -> tuple[list[Issue], int]:
    """A numbered page, newest first, and how many there are on all."""
    wanted = _seen(sight, project_id)
    if channel_id is not None:
        wanted.append(issues.c.channel_id == channel_id)
    if status is not None:
        wanted.append(issues.c.status == status.value)
    total = connection.scalar(sa.select(sa.func.count()).select_from(issues).where(*wanted))
    rows = connection.execute(
        _rows().where(*wanted).order_by(issues.c.id.desc()).limit(limit).offset(offset)
    )
    return [_issue(row) for row in rows], total or 0


def summary(
    connection: Connection, sight: Sight, *, project_id: str | None = None
) -> dict[IssueStatus, int]:
    """How many there are in each state that any is in."""
    rows = connection.execute(
        sa.select(issues.c.status, sa.func.count())
        .where(*_seen(sight, project_id))
        .group_by(issues.c.status)
    )
    return {IssueStatus(status): count for status, count in rows}


def get(connection: Connection, sight: Sight, issue_id: str, *, lock: bool = False) -> Issue:
    """An issue in sight, with `lock` until the transaction ends; raises NotFound."""
    query = _rows().where(issues.c.id == issue_id, *_seen(sight))
    if lock:
        query = query.with_for_update(of=issues)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound
    return _issue(row)


def change(
    connection: Connection,
    sight: Sight,
    issue_id: str,
    *,
    status: IssueStatus,
    snoozed_until: int | None,
    resolved_at: int | None,
    now_ms: int,
) -> None:
    """What a person makes of an issue in sight."""
    connection.execute(
        sa.update(issues)
        .where(issues.c.id == issue_id, *_seen(sight))
        .values(
            status=status.value,
            snoozed_until=snoozed_until,
            resolved_at=resolved_at,
            updated_at=now_ms,
        )
    )


def record(connection: Connection, rows: Sequence[Row]) -> None:
    """Open issues, or count what recurs; the rows are those of `notes.issue_rows`.

    A channel that is gone has none.
    """
    if not rows:
        return
    columns = (channels.c.id, channels.c.organization_id, channels.c.project_id)
    wanted = channels.c.id.in_(sorted({row[1] for row in rows}))
    there = connection.execute(sa.select(*columns).where(wanted, channels.c.deleted_at.is_(None)))
    owners = {row.id: row for row in there}
    tried = sa.select(deliveries.c.id, deliveries.c.event_id).where(
        deliveries.c.id.in_(sorted(row[6] for row in rows))
    )
    events = {row.id: row.event_id for row in connection.execute(tried)}
    new = [
        {
            "id": id,
            "organization_id": owners[channel_id].organization_id,
            "project_id": owners[channel_id].project_id,
            "channel_id": channel_id,
            "fingerprint": fingerprint,
            "title": title,
            "status": IssueStatus.OPEN.value,
            "occurrence_count": count,
            "last_delivery_id": delivery_id,
            "last_attempt_number": attempt,
            "last_event_id": events.get(delivery_id),
            "last_error": error,
            "last_status_code": status_code,
            **dict.fromkeys(_MOMENTS, at),
        }
        for (
            id,
            channel_id,
            fingerprint,
            title,
            count,
            at,
            delivery_id,
            attempt,
            error,
            status_code,
        ) in rows
        if channel_id in owners
    ]
    if new:
        connection.execute(_upsert(connection, new))


def _upsert(connection: Connection, new: list[dict[str, Any]]) -> Any:
    """What the data plane's own statements do, in Core."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    adding, now, resolved = insert(issues).values(new), issues.c, IssueStatus.RESOLVED.value
    given = adding.excluded

    def later(name: str) -> ColumnElement[Any]:
        return sa.case((now[name] > given[name], now[name]), else_=given[name])

    changes: dict[str, Any] = {name: given[name] for name in _LAST}
    changes |= {name: later(name) for name in ("last_seen_at", "updated_at")}
    changes |= {
        "status": sa.case((now.status == resolved, IssueStatus.OPEN.value), else_=now.status),
        "opened_at": sa.case((now.status == resolved, given.opened_at), else_=now.opened_at),
        "resolved_at": None,
        "occurrence_count": now.occurrence_count + given.occurrence_count,
    }
    return adding.on_conflict_do_update(
        index_elements=[now.channel_id, now.fingerprint], set_=changes
    )


def quiet(connection: Connection, *, before_ms: int, limit: int) -> list[str]:
    """Issues that are not resolved, and that nothing and nobody has touched since a moment."""
    return list(connection.scalars(sa.select(issues.c.id).where(*_quiet(before_ms)).limit(limit)))


def resolve(connection: Connection, ids: Sequence[str], *, before_ms: int, now_ms: int) -> int:
    """Resolve those of them that are still quiet; returns how many."""
    # One that recurs at this moment is locked by its settle, and is not quiet.
    still = list(
        connection.scalars(
            sa.select(issues.c.id)
            .where(issues.c.id.in_(sorted(ids)), *_quiet(before_ms))
            .with_for_update(skip_locked=True)
        )
    )
    if still:
        connection.execute(
            sa.update(issues)
            .where(issues.c.id.in_(still))
            .values(status=IssueStatus.RESOLVED.value, resolved_at=now_ms, updated_at=now_ms)
        )
    return len(still)


def _quiet(before_ms: int) -> tuple[ColumnElement[bool], ...]:
    return (
        issues.c.status.in_(_UNRESOLVED),
        issues.c.last_seen_at <= before_ms,
        issues.c.updated_at <= before_ms,
    )

"""Who changed what. Entries are written in the transaction of the change, without secrets."""

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, FromClause

from tocsin.domain.ids import floor, is_id
from tocsin.domain.model import AuditEntry, OrganizationId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, made_between, newest, put
from tocsin.storage.tables import audit

_SCANNED = (
    audit.c.id,
    audit.c.action,
    audit.c.actor_id,
    audit.c.actor_kind,
    audit.c.target_id,
    audit.c.target_kind,
)


def _entry(row: AnyRow) -> AuditEntry:
    return AuditEntry(
        id=row.id,
        organization_id=OrganizationId(row.organization_id),
        at=row.at,
        actor_kind=row.actor_kind,
        actor_id=row.actor_id,
        actor_name=row.actor_name,
        dialect=row.dialect,
        address=row.address,
        action=row.action,
        target_kind=row.target_kind,
        target_id=row.target_id,
        changes=msgspec.json.decode(row.changes),
    )


def record(connection: Connection, sight: Sight, entry: AuditEntry) -> None:
    """Write one entry of the organization in sight."""
    connection.execute(
        sa.insert(audit).values(
            id=entry.id,
            organization_id=sight.organization_id,
            at=entry.at,
            actor_kind=entry.actor_kind,
            actor_id=entry.actor_id,
            actor_name=entry.actor_name,
            dialect=entry.dialect,
            address=entry.address,
            action=entry.action,
            target_kind=entry.target_kind,
            target_id=entry.target_id,
            changes=msgspec.json.encode(entry.changes).decode(),
        )
    )


def walk(
    connection: Connection,
    sight: Sight,
    *,
    limit: int,
    below: str | None,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    after: int | None = None,
    before: int | None = None,
) -> Walked[AuditEntry]:
    """The entries of the organization; with a project in sight there are none to see.

    `actor` and `target` are an id or a kind, such as `operator` or `channel`; `after` ≤ at <
    `before`.
    """
    if sight.project_id is not None:
        return Walked(items=[])

    def keep(scan: FromClause) -> list[ColumnElement[bool]]:
        wanted = []
        if action is not None:
            wanted.append(scan.c.action == action)
        if actor is not None:
            wanted.append((scan.c.actor_id if is_id(actor) else scan.c.actor_kind) == actor)
        if target is not None:
            wanted.append((scan.c.target_id if is_id(target) else scan.c.target_kind) == target)
        return wanted

    page = newest(
        connection,
        sa.select(*_SCANNED).where(
            audit.c.organization_id == sight.organization_id,
            *made_between(audit.c.id, audit.c.at, after, before),
        ),
        audit.c.id,
        keep=keep,
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(audit).where(audit.c.id.in_(page.items)).order_by(audit.c.id.desc())
    )
    return put(page, [_entry(row) for row in rows])


def purge(connection: Connection, *, before_ms: int, rows_max: int) -> int:
    """Remove entries from before a moment, at most so many; returns how many."""
    old = (
        sa.select(audit.c.id)
        .where(audit.c.id < floor(before_ms))
        .order_by(audit.c.id)
        .limit(rows_max)
    )
    return connection.execute(sa.delete(audit).where(audit.c.id.in_(old))).rowcount

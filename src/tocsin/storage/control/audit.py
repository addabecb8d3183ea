"""Who changed what. Entries are written in the transaction of the change, without secrets."""

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import AuditEntry, OrganizationId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import audit


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
    connection: Connection, sight: Sight, *, limit: int, below: str | None
) -> Walked[AuditEntry]:
    """The entries of the organization; with a project in sight there are none to see."""
    if sight.project_id is not None:
        return Walked(items=[])
    page = newest(
        connection,
        sa.select(audit.c.id).where(audit.c.organization_id == sight.organization_id),
        audit.c.id,
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(audit).where(audit.c.id.in_(page.items)).order_by(audit.c.id.desc())
    )
    return put(page, [_entry(row) for row in rows])

"""Events as reads show them."""

import msgspec
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, FromClause

from tocsin.domain.errors import NotFound
from tocsin.domain.model import (
    Event,
    EventId,
    OrganizationId,
    People,
    ProjectId,
    StoredEvent,
    Unmatched,
)
from tocsin.storage.control.walk import AnyRow, Sight, Walked, made_between, newest, put
from tocsin.storage.tables import events

_decode_people = msgspec.json.Decoder(People).decode


def _stored(row: AnyRow) -> StoredEvent:
    return StoredEvent(
        event=Event(
            id=EventId(row.id),
            organization_id=OrganizationId(row.organization_id),
            project_id=None if row.project_id is None else ProjectId(row.project_id),
            type=row.type,
            data=bytes(row.data),
            occurred_at=row.occurred_at,
            created_at=row.created_at,
            people=None if row.people is None else _decode_people(bytes(row.people)),
        ),
        idempotency_key=row.idempotency_key,
        deliveries=row.deliveries,
        unmatched=None if row.unmatched is None else Unmatched(row.unmatched),
    )


def walk(
    connection: Connection,
    sight: Sight,
    *,
    type: str | None = None,
    project_id: ProjectId | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int,
    below: str | None,
) -> Walked[StoredEvent]:
    """The events in sight of one type, of one project, of a span of time."""
    rows = sa.select(events.c.id, events.c.type, events.c.project_id).where(
        events.c.organization_id == sight.organization_id,
        *made_between(events.c.id, events.c.created_at, after, before),
    )

    def keep(scan: FromClause) -> list[ColumnElement[bool]]:
        kept: list[ColumnElement[bool]] = []
        if sight.project_id is not None:
            kept.append(scan.c.project_id == sight.project_id)
        if project_id is not None:
            kept.append(scan.c.project_id == project_id)
        if type is not None:
            kept.append(scan.c.type == type)
        return kept

    page = newest(connection, rows, events.c.id, keep=keep, limit=limit, below=below)
    found = connection.execute(
        sa.select(events).where(events.c.id.in_(page.items)).order_by(events.c.id.desc())
    )
    return put(page, [_stored(row) for row in found])


def get(connection: Connection, sight: Sight, event_id: str) -> StoredEvent:
    """An event in sight; raises NotFound."""
    seen = [events.c.id == event_id, events.c.organization_id == sight.organization_id]
    if sight.project_id is not None:
        seen.append(events.c.project_id == sight.project_id)
    row = connection.execute(sa.select(events).where(*seen)).first()
    if row is None:
        raise NotFound
    return _stored(row)


def exists(connection: Connection, sight: Sight, event_id: str) -> bool:
    """Whether an event is still there; it goes when its retention ends."""
    return (
        connection.scalar(
            sa.select(sa.literal(1)).where(
                events.c.id == event_id, events.c.organization_id == sight.organization_id
            )
        )
        is not None
    )


def insert(connection: Connection, sight: Sight, event: Event, *, deliveries: int) -> None:
    """Store an event of the control plane's own making: the one of a test."""
    connection.execute(
        sa.insert(events).values(
            id=event.id,
            organization_id=sight.organization_id,
            project_id=event.project_id,
            type=event.type,
            data=event.data,
            people=None if event.people is None else msgspec.json.encode(event.people),
            occurred_at=event.occurred_at,
            created_at=event.created_at,
            deliveries=deliveries,
        )
    )

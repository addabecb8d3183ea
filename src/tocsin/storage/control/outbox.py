"""What Tocsin has to tell: rows that were written in the transaction which decided it, and minutes
in which deliveries were given up."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.storage.control.walk import AnyRow, Sight
from tocsin.storage.tables import channels, lanes
from tocsin.storage.watch_tables import channel_minutes, outbox

ALERT = "alert"
"""The kind of an alert; others are in `domain.streak`."""


class Subject(Struct, frozen=True, kw_only=True):
    """The channel that something is told of."""

    id: ChannelId
    organization_id: OrganizationId
    project_id: ProjectId | None
    name: str
    type: str


class Pending(Struct, frozen=True, kw_only=True):
    """A row as it was written; `subject` is None where it names no channel, or one that is gone."""

    id: str
    organization_id: OrganizationId
    kind: str
    channel_id: ChannelId | None
    at: int
    body: str
    subject: Subject | None


class GivenUp(Struct, frozen=True, kw_only=True):
    """So many deliveries to a channel were given up in a minute (since 1970)."""

    subject: Subject
    minute: int
    count: int
    last_error: str | None


_SUBJECT = (
    channels.c.id.label("subject_id"),
    channels.c.organization_id.label("subject_organization_id"),
    channels.c.project_id,
    channels.c.name,
    channels.c.type,
)


def _subject(row: AnyRow) -> Subject:
    return Subject(
        id=ChannelId(row.subject_id),
        organization_id=OrganizationId(row.subject_organization_id),
        project_id=None if row.project_id is None else ProjectId(row.project_id),
        name=row.name,
        type=row.type,
    )


def put(
    connection: Connection,
    sight: Sight,
    *,
    id: str,
    kind: str,
    channel_id: str | None,
    at: int,
    body: dict[str, Any],
) -> None:
    """Have something told, once, if this transaction commits; `id` becomes the event's."""
    connection.execute(
        sa.insert(outbox).values(
            id=id,
            organization_id=sight.organization_id,
            kind=kind,
            channel_id=channel_id,
            at=at,
            body=msgspec.json.encode(body).decode(),
        )
    )


def pending(connection: Connection, *, limit: int) -> list[Pending]:
    """The oldest rows."""
    oldest = sa.select(outbox).order_by(outbox.c.id).limit(limit).subquery("oldest")
    rows = connection.execute(
        sa.select(
            oldest.c.id,
            oldest.c.organization_id,
            oldest.c.kind,
            oldest.c.channel_id,
            oldest.c.at,
            oldest.c.body,
            *_SUBJECT,
        )
        .select_from(oldest)
        .outerjoin(
            channels,
            sa.and_(
                channels.c.id == oldest.c.channel_id,
                channels.c.organization_id == oldest.c.organization_id,
                channels.c.deleted_at.is_(None),
            ),
        )
        .order_by(oldest.c.id)
    )
    return [
        Pending(
            id=row.id,
            organization_id=OrganizationId(row.organization_id),
            kind=row.kind,
            channel_id=None if row.channel_id is None else ChannelId(row.channel_id),
            at=row.at,
            body=row.body,
            subject=None if row.subject_id is None else _subject(row),
        )
        for row in rows
    ]


def remove(connection: Connection, ids: Sequence[str]) -> None:
    """Forget rows that were told, or never can be."""
    connection.execute(sa.delete(outbox).where(outbox.c.id.in_(sorted(ids))))


def given_up(
    connection: Connection, *, minute: int, above: str, limit: int
) -> tuple[list[GivenUp], str | None]:
    """The channels to which deliveries were given up in a minute, and where to go on (None: done).

    Of the next `limit` channels by id those that are still there.
    """
    at = channel_minutes.c
    counted = (
        sa.select(at.channel_id, sa.func.sum(at.exhausted).label("count"))
        .where(at.minute == minute, at.exhausted > 0, at.channel_id > above)
        .group_by(at.channel_id)
        .order_by(at.channel_id)
        .limit(limit)
        .subquery("counted")
    )
    there = sa.and_(channels.c.id == counted.c.channel_id, channels.c.deleted_at.is_(None))
    rows = connection.execute(
        sa.select(counted, lanes.c.last_error, *_SUBJECT)
        .select_from(counted)
        .outerjoin(channels, there)
        .outerjoin(lanes, lanes.c.channel_id == channels.c.id)
        .order_by(counted.c.channel_id)
    ).all()
    found = [
        GivenUp(subject=_subject(row), minute=minute, count=int(row[1]), last_error=row.last_error)
        for row in rows
        if row.subject_id is not None
    ]
    return found, rows[-1].channel_id if len(rows) == limit else None

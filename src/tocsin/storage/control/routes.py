"""What publishing needs to know of an organization, read in one snapshot."""

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import ChannelId, Condition, KeyId, OrganizationId, ProjectId
from tocsin.storage.tables import channels, keys, organizations, projects


class RouteRow(msgspec.Struct, frozen=True):
    """One channel's part in routing."""

    channel_id: ChannelId
    project_id: ProjectId | None
    event_types: tuple[str, ...]
    filter: tuple[Condition, ...]
    ordered: bool = False


class RoutingRows(msgspec.Struct, frozen=True):
    """An organization's routes, projects (id, slug) and live keys, as of `version`."""

    version: int
    routes: tuple[RouteRow, ...]
    projects: tuple[tuple[ProjectId, str], ...]
    keys: frozenset[KeyId]


_patterns = msgspec.json.Decoder(tuple[str, ...]).decode
_conditions = msgspec.json.Decoder(tuple[Condition, ...]).decode


def routing_rows(connection: Connection, organization_id: OrganizationId) -> RoutingRows | None:
    """The organization's routing, or None when there is no such organization (any more)."""
    version = connection.execute(
        sa.select(organizations.c.version).where(
            organizations.c.id == organization_id, organizations.c.deleted_at.is_(None)
        )
    ).scalar()
    if version is None:
        return None
    route_rows = connection.execute(
        sa.select(
            channels.c.id,
            channels.c.project_id,
            channels.c.event_types,
            channels.c.filter,
            channels.c.ordered,
        )
        .where(channels.c.organization_id == organization_id, channels.c.deleted_at.is_(None))
        .order_by(channels.c.id)
    )
    routes = tuple(
        RouteRow(ChannelId(row[0]), row[1], _patterns(row[2]), _conditions(row[3]), row[4])
        for row in route_rows
    )
    project_rows = connection.execute(
        sa.select(projects.c.id, projects.c.slug).where(
            projects.c.organization_id == organization_id, projects.c.deleted_at.is_(None)
        )
    )
    key_rows = connection.execute(
        sa.select(keys.c.id).where(
            keys.c.organization_id == organization_id, keys.c.revoked_at.is_(None)
        )
    )
    return RoutingRows(
        version=version,
        routes=routes,
        projects=tuple((ProjectId(row[0]), row[1]) for row in project_rows),
        keys=frozenset(KeyId(row[0]) for row in key_rows),
    )

"""How many deliveries of an organization wait."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import OrganizationId, Status
from tocsin.storage.tables import deliveries, lanes


def organizations_with_channels(connection: Connection) -> list[OrganizationId]:
    """Those that may have deliveries."""
    rows = connection.scalars(sa.select(lanes.c.organization_id).distinct())
    return [OrganizationId(row) for row in rows]


def waiting_of(connection: Connection, organization_id: OrganizationId, at_most: int) -> int:
    """Its deliveries that are not finished, held ones included.

    Counted up to `at_most` in each lane; each costs a look: a second or two for a million.
    """
    # Lane by lane: a join would walk what waits for everybody.
    some = (
        sa.select(sa.literal(1).label("one"))
        .where(
            deliveries.c.status == Status.WAITING.value,
            deliveries.c.channel_id == lanes.c.channel_id,
        )
        .limit(at_most)
        .correlate(lanes)
        .subquery()
    )
    in_lane = sa.select(sa.func.count()).select_from(some).correlate(lanes).scalar_subquery()
    count = connection.scalar(
        sa.select(sa.func.sum(in_lane)).where(lanes.c.organization_id == organization_id)
    )
    return int(count or 0)

"""How many deliveries wait, by organization."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import OrganizationId, Status
from tocsin.storage.tables import deliveries, lanes


def waiting_of_organizations(connection: Connection) -> dict[OrganizationId, int]:
    """The deliveries of each organization that are not finished, held ones included.

    Lane by lane in the index of open deliveries, about 30 ms for a million of them.
    """
    in_lane = (
        sa.select(sa.func.count())
        .select_from(deliveries)
        # Without statistics SQLite would take the index of all of a channel's deliveries.
        .with_hint(deliveries, "INDEXED BY deliveries_open", "sqlite")
        .where(
            deliveries.c.status == Status.WAITING.value,
            deliveries.c.channel_id == lanes.c.channel_id,
        )
        .correlate(lanes)
        .scalar_subquery()
    )
    rows = connection.execute(
        sa.select(lanes.c.organization_id, sa.func.sum(in_lane)).group_by(lanes.c.organization_id)
    )
    return {OrganizationId(row[0]): int(row[1]) for row in rows}

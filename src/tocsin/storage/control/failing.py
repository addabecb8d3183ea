"""Lanes that have failed for long, and the last look before their channel is disabled."""

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.storage.control.walk import Sight
from tocsin.storage.tables import lanes


class Failure(Struct, frozen=True):
    """An open lane with nothing but failures since a moment (wall time), so many of them."""

    channel_id: ChannelId
    organization_id: OrganizationId
    since_ms: int
    streak: int


def look(
    connection: Connection, *, above: str, limit: int, before_ms: int, streak_min: int
) -> tuple[list[Failure], str | None]:
    """Of the next lanes those that fail since before a moment, and where to go on (None: done)."""
    scan = (
        sa.select(
            lanes.c.channel_id,
            lanes.c.organization_id,
            lanes.c.failing_since_ms,
            lanes.c.failing_streak,
            lanes.c.parked,
        )
        .where(lanes.c.channel_id > above)
        .order_by(lanes.c.channel_id)
        .limit(limit)
        .subquery("scan")
    )
    looked_at, last = connection.execute(
        sa.select(sa.func.count(), sa.func.max(scan.c.channel_id)).select_from(scan)
    ).one()
    rows = connection.execute(
        sa.select(scan)
        .where(
            scan.c.parked.is_(None),
            scan.c.failing_since_ms <= before_ms,
            scan.c.failing_streak >= streak_min,
        )
        .order_by(scan.c.channel_id)
    )
    found = [
        Failure(
            channel_id=ChannelId(row.channel_id),
            organization_id=OrganizationId(row.organization_id),
            since_ms=row.failing_since_ms,
            streak=row.failing_streak,
        )
        for row in rows
    ]
    return found, last if looked_at == limit else None


def still(connection: Connection, sight: Sight, failure: Failure) -> bool:
    """Whether the lane still fails as it was found to; it is locked until the transaction ends."""
    row = connection.execute(
        sa.select(lanes.c.parked, lanes.c.failing_since_ms)
        .where(
            lanes.c.channel_id == failure.channel_id,
            lanes.c.organization_id == sight.organization_id,
        )
        .with_for_update(key_share=True)
    ).first()
    return row is not None and (row.parked, row.failing_since_ms) == (None, failure.since_ms)

"""Statistics, read: sums of what settling and publishing have counted, all nodes added up."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection

from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.storage.control.rolling import DAY, HOUR
from tocsin.storage.control.walk import AnyRow, Sight
from tocsin.storage.tables import channels
from tocsin.storage.watch_tables import (
    LATENCY_BUCKETS,
    channel_days,
    channel_hours,
    channel_minutes,
    project_days,
    project_hours,
    project_minutes,
)

MINUTE_MAX = 2**31 - 1

_LATENCY = tuple(f"l{at}" for at in range(LATENCY_BUCKETS))


class ChannelSums(Struct, frozen=True):
    """What was tried for a channel; `latency` is for `domain.latency.percentile`, and empty where
    it was not asked for."""

    organization_id: OrganizationId
    attempts: int
    failed: int
    delivered: int
    exhausted: int
    latency: tuple[int, ...] = ()


class ProjectSums(Struct, frozen=True):
    """What was accepted for a project, and how much of that reached no channel."""

    accepted: int
    unmatched: int


def added(one: ChannelSums, other: ChannelSums) -> ChannelSums:
    """Both together, of the same organization and with their latencies."""
    return ChannelSums(
        organization_id=one.organization_id,
        attempts=one.attempts + other.attempts,
        failed=one.failed + other.failed,
        delivered=one.delivered + other.delivered,
        exhausted=one.exhausted + other.exhausted,
        latency=tuple(a + b for a, b in zip(one.latency, other.latency, strict=True)),
    )


def channel_sums(
    connection: Connection, *, since_minute: int, until_minute: int, latency: bool = False
) -> dict[ChannelId, ChannelSums]:
    """The sums of every channel to which something was sent in these minutes (since 1970)."""
    at = channel_minutes.c
    names = ("attempts", "failed", "delivered", "exhausted", *(_LATENCY if latency else ()))
    rows = connection.execute(
        sa.select(
            at.channel_id,
            sa.func.max(at.organization_id),
            *(sa.func.sum(at[name]) for name in names),
        )
        .where(at.minute >= since_minute, at.minute < until_minute)
        .group_by(at.channel_id)
    )
    return {
        ChannelId(row[0]): ChannelSums(
            organization_id=OrganizationId(row[1]),
            attempts=int(row[2]),
            failed=int(row[3]),
            delivered=int(row[4]),
            exhausted=int(row[5]),
            latency=tuple(int(count) for count in row[6:]),
        )
        for row in rows
    }


def project_sums(
    connection: Connection, *, since_minute: int, until_minute: int
) -> dict[tuple[OrganizationId, ProjectId | None], ProjectSums]:
    """The sums of every project (None: events without one) with an event in these minutes."""
    at = project_minutes.c
    rows = connection.execute(
        sa.select(
            at.organization_id,
            at.project_id,
            sa.func.sum(at.accepted),
            sa.func.sum(at.unmatched),
        )
        .where(at.minute >= since_minute, at.minute < until_minute)
        .group_by(at.organization_id, at.project_id)
    )
    return {
        (OrganizationId(row[0]), ProjectId(row[1]) if row[1] else None): ProjectSums(
            int(row[2]), int(row[3])
        )
        for row in rows
    }


def channels_of(
    connection: Connection, sight: Sight, *, project_id: str | None, above: str, limit: int
) -> list[ChannelId]:
    """Channels of the organization, or only of one project, by id from `above` on; deleted ones,
    too: what was sent to them was sent."""
    at = channels.c
    wanted = [at.organization_id == sight.organization_id, at.id > above]
    wanted += [at.project_id == one for one in (project_id, sight.project_id) if one is not None]
    rows = connection.scalars(sa.select(at.id).where(*wanted).order_by(at.id).limit(limit))
    return [ChannelId(row) for row in rows]


def channel_series(
    connection: Connection,
    sight: Sight,
    channel_ids: Sequence[ChannelId],
    *,
    since_minute: int,
    until_minute: int,
    size: int,
) -> dict[int, ChannelSums]:
    """The sums of some channels in steps of `size` minutes, by their first minute.

    `size` is 1, 60 or 1440, and `since_minute` the start of such a step. What is finer than that
    has been kept only for a while.
    """
    sums: dict[int, list[int]] = {}
    names = ("attempts", "failed", "delivered", "exhausted", *_LATENCY)
    for table, grain in ((channel_minutes, 1), (channel_hours, HOUR), (channel_days, DAY)):
        if grain > size:
            break
        at = table.c
        wanted = [
            at.channel_id.in_(channel_ids),
            at.organization_id == sight.organization_id,
            *_within(at.minute, since_minute, until_minute),
        ]
        if sight.project_id is not None:
            of_it = sa.select(channels.c.id).where(channels.c.project_id == sight.project_id)
            wanted.append(at.channel_id.in_(of_it))
        rows = connection.execute(
            sa.select(
                (at.minute - at.minute % size).label("start"),
                *(sa.func.sum(at[name]) for name in names),
            )
            .where(*wanted)
            .group_by(sa.text("start"))
        )
        _add(sums, rows)
    return {
        start: ChannelSums(
            organization_id=sight.organization_id,
            attempts=counts[0],
            failed=counts[1],
            delivered=counts[2],
            exhausted=counts[3],
            latency=tuple(counts[4:]),
        )
        for start, counts in sums.items()
    }


def project_series(
    connection: Connection,
    sight: Sight,
    *,
    project_id: str | None,
    since_minute: int,
    until_minute: int,
    size: int,
) -> dict[int, ProjectSums]:
    """The same of what was accepted: for one project, or all in sight."""
    sums: dict[int, list[int]] = {}
    for table, grain in ((project_minutes, 1), (project_hours, HOUR), (project_days, DAY)):
        if grain > size:
            break
        at = table.c
        wanted = [
            at.organization_id == sight.organization_id,
            *_within(at.minute, since_minute, until_minute),
        ]
        for one in (project_id, sight.project_id):
            if one is not None:
                wanted.append(at.project_id == one)
        rows = connection.execute(
            sa.select(
                (at.minute - at.minute % size).label("start"),
                sa.func.sum(at.accepted),
                sa.func.sum(at.unmatched),
            )
            .where(*wanted)
            .group_by(sa.text("start"))
        )
        _add(sums, rows)
    return {start: ProjectSums(counts[0], counts[1]) for start, counts in sums.items()}


def _within(minute: ColumnElement[int], since: int, until: int) -> list[ColumnElement[bool]]:
    """A period in the column's range, whatever was asked for."""
    return [minute >= min(since, MINUTE_MAX), minute < min(until, MINUTE_MAX)]


def _add(sums: dict[int, list[int]], rows: Iterable[AnyRow]) -> None:
    for row in rows:
        counts = [int(count) for count in row[1:]]
        before = sums.get(row[0])
        sums[row[0]] = (
            counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
        )

"""Channels with their lanes' tracking. What a change tells the data plane is in `lanes.py`."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, FromClause

from tocsin.domain.errors import NotFound
from tocsin.domain.model import (
    Breaker,
    Channel,
    ChannelId,
    ChannelState,
    Condition,
    Format,
    OrganizationId,
    ProjectId,
    RateLimit,
    Tracking,
)
from tocsin.storage.control.walk import (
    ROWS_SCANNED_MAX,
    AnyRow,
    AnySelect,
    Sight,
    Walked,
    newest,
    put,
)
from tocsin.storage.tables import channels, lanes

Level = ProjectId | UnsetType | None
"""The channels of one project, of the organization itself (None), or all in sight (UNSET)."""

PROJECTS = ProjectId("*")
"""As a level: the channels of all projects in sight, without those of the organization itself."""

SORTS: dict[str, ColumnElement[Any]] = {
    "createdAt": channels.c.id,
    "updatedAt": channels.c.updated_at,
    "type": channels.c.type,
    "description": channels.c.description,
}

_TRACKING = (
    lanes.c.last_sent_at,
    lanes.c.error_count,
    lanes.c.last_error,
    lanes.c.failing_streak,
)

_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_filter = msgspec.json.Decoder(tuple[Condition, ...]).decode
_decode_rate_limit = msgspec.json.Decoder(RateLimit).decode
_decode_breaker = msgspec.json.Decoder(Breaker).decode


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def channel_of(row: AnyRow) -> Channel:
    """A channel from a row that has all columns of the table by their names."""
    return Channel(
        id=ChannelId(row.id),
        organization_id=OrganizationId(row.organization_id),
        project_id=None if row.project_id is None else ProjectId(row.project_id),
        type=row.type,
        name=row.name,
        description=row.description,
        event_types=_decode_texts(row.event_types),
        filter=_decode_filter(row.filter),
        format=None if row.format is None else Format(row.format),
        schedule=_decode_texts(row.schedule),
        # Whole seconds read as they are written: 15, not 15.0.
        timeout_seconds=row.timeout_ms / 1000 if row.timeout_ms % 1000 else row.timeout_ms // 1000,
        rate_limit=None if row.rate_limit is None else _decode_rate_limit(row.rate_limit),
        max_in_flight=row.max_in_flight,
        ordered=row.ordered,
        breaker=None if row.breaker is None else _decode_breaker(row.breaker),
        enabled=row.enabled,
        disabled_reason=row.disabled_reason,
        sealed=bytes(row.sealed),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _state(row: AnyRow) -> ChannelState:
    return ChannelState(
        channel=channel_of(row),
        tracking=Tracking(
            last_sent_at=row.last_sent_at,
            error_count=row.error_count,
            last_error=row.last_error,
            failing_streak=row.failing_streak,
        ),
    )


def _values(channel: Channel) -> dict[str, Any]:
    return {
        "name": channel.name,
        "description": channel.description,
        "event_types": _json(channel.event_types),
        "filter": _json(channel.filter),
        "format": channel.format,
        "schedule": _json(channel.schedule),
        "timeout_ms": round(channel.timeout_seconds * 1000),
        "rate_limit": None if channel.rate_limit is None else _json(channel.rate_limit),
        "max_in_flight": channel.max_in_flight,
        "ordered": channel.ordered,
        "breaker": None if channel.breaker is None else _json(channel.breaker),
        "enabled": channel.enabled,
        "disabled_reason": channel.disabled_reason,
        "sealed": channel.sealed,
        "version": channel.version,
        "updated_at": channel.updated_at,
    }


def _states() -> AnySelect:
    return sa.select(channels, *_TRACKING).join(lanes, lanes.c.channel_id == channels.c.id)


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [channels.c.organization_id == sight.organization_id, channels.c.deleted_at.is_(None)]
    if sight.project_id is not None:
        seen.append(channels.c.project_id == sight.project_id)
    return seen


def _kept(
    scan: FromClause, sight: Sight, level: Level, types: Sequence[str] | None
) -> list[ColumnElement[bool]]:
    kept: list[ColumnElement[bool]] = [scan.c.deleted_at.is_(None)]
    if sight.project_id is not None:
        kept.append(scan.c.project_id == sight.project_id)
    if level == PROJECTS:
        kept.append(scan.c.project_id.is_not(None))
    elif level is not UNSET:
        kept.append(scan.c.project_id.is_(None) if level is None else scan.c.project_id == level)
    if types is not None:
        kept.append(scan.c.type.in_(types))
    return kept


def organization_of(connection: Connection, channel_id: str) -> OrganizationId | None:
    """Whose channel this is, out of all; for the operator, who names a channel by its id alone."""
    found = connection.scalar(
        sa.select(channels.c.organization_id).where(
            channels.c.id == channel_id, channels.c.deleted_at.is_(None)
        )
    )
    return None if found is None else OrganizationId(found)


def get(
    connection: Connection,
    sight: Sight,
    channel_id: str,
    *,
    level: Level = UNSET,
    types: Sequence[str] | None = None,
) -> ChannelState:
    """A channel in sight, of this level and one of these types; raises NotFound."""
    row = connection.execute(
        _states().where(
            channels.c.id == channel_id,
            channels.c.organization_id == sight.organization_id,
            *_kept(channels, sight, level, types),
        )
    ).first()
    if row is None:
        raise NotFound
    return _state(row)


def walk(
    connection: Connection,
    sight: Sight,
    *,
    level: Level = UNSET,
    types: Sequence[str] | None = None,
    limit: int,
    below: str | None,
) -> Walked[ChannelState]:
    """The channels in sight, newest first."""
    page = newest(
        connection,
        sa.select(
            channels.c.id, channels.c.deleted_at, channels.c.project_id, channels.c.type
        ).where(channels.c.organization_id == sight.organization_id),
        channels.c.id,
        keep=lambda scan: _kept(scan, sight, level, types),
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        _states().where(channels.c.id.in_(page.items)).order_by(channels.c.id.desc())
    )
    return put(page, [_state(row) for row in rows])


def page(
    connection: Connection,
    sight: Sight,
    *,
    level: Level = UNSET,
    types: Sequence[str] | None = None,
    sort: str,
    descending: bool,
    offset: int,
    limit: int,
) -> tuple[list[ChannelState], int]:
    """A numbered page and how many channels there are on all pages; `sort` is one of `SORTS`."""
    scan = (
        sa.select(channels.c.id, channels.c.deleted_at, channels.c.project_id, channels.c.type)
        .where(channels.c.organization_id == sight.organization_id)
        .order_by(channels.c.id.desc())
        .limit(ROWS_SCANNED_MAX)
        .subquery("scan")
    )
    ids = sa.select(scan.c.id).where(*_kept(scan, sight, level, types))
    total = connection.scalar(sa.select(sa.func.count()).select_from(ids.subquery("kept"))) or 0
    column = SORTS[sort]
    # SQLite and PostgreSQL disagree on where nulls go, so it is said: none is below everything.
    empty = sa.case((column.is_(None), 0), else_=1)
    order = (
        (empty.desc(), column.desc(), channels.c.id.desc())
        if descending
        else (empty, column, channels.c.id)
    )
    rows = connection.execute(
        _states().where(channels.c.id.in_(ids)).order_by(*order).offset(offset).limit(limit)
    )
    return [_state(row) for row in rows], total


def count(connection: Connection, sight: Sight) -> int:
    """How many channels the organization has, whatever is in sight; for its quota."""
    return (
        connection.scalar(
            sa.select(sa.func.count()).where(
                channels.c.organization_id == sight.organization_id,
                channels.c.deleted_at.is_(None),
            )
        )
        or 0
    )


def create(connection: Connection, sight: Sight, channel: Channel) -> None:
    """Store a new channel of the organization in sight; `lanes.create` belongs to it."""
    connection.execute(
        sa.insert(channels).values(
            id=channel.id,
            organization_id=sight.organization_id,
            project_id=channel.project_id,
            type=channel.type,
            created_at=channel.created_at,
            **_values(channel),
        )
    )


def replace(
    connection: Connection, sight: Sight, channel: Channel, *, expected_version: int
) -> bool:
    """Store a changed channel; False when it has changed since `expected_version` was read."""
    done = connection.execute(
        sa.update(channels)
        .where(
            channels.c.id == channel.id,
            channels.c.version == expected_version,
            *_seen(sight),
        )
        .values(**_values(channel))
    )
    return bool(done.rowcount)


def delete(connection: Connection, sight: Sight, channel_id: str, *, now_ms: int) -> None:
    """Make a channel void and forget its secrets; `lanes.close` belongs to it."""
    done = connection.execute(
        sa.update(channels)
        .where(channels.c.id == channel_id, *_seen(sight))
        .values(
            deleted_at=now_ms,
            updated_at=now_ms,
            sealed=b"",
            version=channels.c.version + 1,
        )
    )
    if not done.rowcount:
        raise NotFound

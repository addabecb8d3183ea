"""What a change of a channel tells the data plane: one narrow row, whatever waits behind it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.model import Channel
from tocsin.storage.control.walk import Sight
from tocsin.storage.tables import deliveries, lanes

DISABLED = "disabled"
DELETED = "deleted"


def create(
    connection: Connection, sight: Sight, channel_id: str, *, version: int, enabled: bool
) -> None:
    """The lane of a new channel, parked when the channel starts disabled."""
    connection.execute(
        sa.insert(lanes).values(
            channel_id=channel_id,
            organization_id=sight.organization_id,
            parked=None if enabled else DISABLED,
            version=version,
        )
    )


def _of(sight: Sight, channel_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        lanes.c.channel_id == channel_id,
        lanes.c.organization_id == sight.organization_id,
        sa.or_(lanes.c.parked.is_(None), lanes.c.parked != DELETED),
    )


# The breaker keeps its lane back by blocked_until_ms; a longer wait asked for by the target stays.
_HELD_BY_BREAKER = sa.and_(
    lanes.c.breaker_state.is_not(None), lanes.c.blocked_until_ms <= lanes.c.breaker_until_ms
)
_CLOSED: dict[str, Any] = {
    "breaker_state": None,
    "breaker_until_ms": 0,
    "breaker_probe": None,
    "breaker_streak": "",
    "blocked_until_ms": sa.case((_HELD_BY_BREAKER, 0), else_=lanes.c.blocked_until_ms),
}

_CLEAN: dict[str, Any] = {
    "error_count": 0,
    "failing_streak": 0,
    "failing_deliveries": None,
    "failing_since_ms": None,
    **_CLOSED,
}

_NO_BACKLOG = {"backlog_before_ms": None, "backlog_through": None, "backlog_due_ms": 0}


def change(
    connection: Connection, sight: Sight, channel_id: str, *, version: int, reset: bool
) -> None:
    """Take over the channel's new version; `reset` starts tracking and breaker afresh."""
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id))
        .values(version=version, **(_CLEAN if reset else {}))
    )
    if reset:
        _write_next_due(connection, sight, channel_id)


def describe(connection: Connection, sight: Sight, channel: Channel) -> None:
    """Take over what the data plane must know of a channel that was made or changed just now.

    What waits when a channel becomes ordered has no number, and goes before what has one.
    """
    exclusive = channel.ordered or bool(channel.rate_limit) or channel.max_in_flight is not None
    was_ordered = connection.scalar(sa.select(lanes.c.ordered).where(*_of(sight, channel.id)))
    values: dict[str, Any] = {"ordered": channel.ordered, "exclusive": exclusive}
    if channel.ordered != was_ordered:
        values["unnumbered"] = channel.ordered
    connection.execute(sa.update(lanes).where(*_of(sight, channel.id)).values(**values))
    if was_ordered and not channel.ordered:
        # What waited behind the head is due on its own now.
        _write_next_due(connection, sight, channel.id)


def close_breaker(connection: Connection, sight: Sight, channel_id: str) -> None:
    """Start the breaker afresh: it is another one now, or none."""
    connection.execute(sa.update(lanes).where(*_of(sight, channel_id)).values(**_CLOSED))
    _write_next_due(connection, sight, channel_id)


def park(connection: Connection, sight: Sight, channel_id: str, *, version: int) -> None:
    """Disable: nothing is claimed from the lane any more."""
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id))
        .values(version=version, parked=DISABLED, next_due_ms=None)
    )


def open(
    connection: Connection,
    sight: Sight,
    channel_id: str,
    *,
    version: int,
    backlog_through: str | None,
    now_ms: int,
) -> None:
    """Enable: what waits up to `backlog_through` (an id made just now) drains slowly.

    None drains it like anything else. `now_ms` is storage time: what is published from now on is
    due later than that.
    """
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id))
        .values(version=version, parked=None, **_NO_BACKLOG, **_CLEAN)
    )
    if _write_next_due(connection, sight, channel_id) and backlog_through is not None:
        connection.execute(
            sa.update(lanes)
            .where(*_of(sight, channel_id))
            .values(backlog_through=backlog_through, backlog_before_ms=now_ms)
        )


def cancel_backlog(
    connection: Connection, sight: Sight, channel_id: str, *, through: str | None
) -> str | None:
    """Drop what waits up to an id; returns it. The deliveries themselves are ended by a job.

    `through` None means the backlog of an enabled channel that still drains; None is returned
    when there is none.
    """
    if through is None:
        through = connection.scalar(
            sa.select(lanes.c.backlog_through).where(*_of(sight, channel_id))
        )
    if through is None:
        return None
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id))
        .values(cancelled_through=through, **_NO_BACKLOG)
    )
    _write_next_due(connection, sight, channel_id)
    return through


def backlog_cancelled(
    connection: Connection, sight: Sight, channel_id: str, *, through: str
) -> None:
    """The job is done: a delivery up to the id that is re-opened from now on is wanted again."""
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id), lanes.c.cancelled_through == through)
        .values(cancelled_through=None)
    )


def close(connection: Connection, sight: Sight, channel_ids: list[str]) -> None:
    """Deleted channels: whatever waits in their lanes counts as cancelled from now on."""
    connection.execute(
        sa.update(lanes)
        .where(
            lanes.c.channel_id.in_(channel_ids), lanes.c.organization_id == sight.organization_id
        )
        .values(parked=DELETED, next_due_ms=None, version=lanes.c.version + 1)
    )


def _write_next_due(connection: Connection, sight: Sight, channel_id: str) -> bool:
    """Write the exact next due moment of an open lane; returns whether anything free waits."""
    lane = connection.execute(
        sa.select(lanes.c.parked, lanes.c.blocked_until_ms, lanes.c.cancelled_through).where(
            *_of(sight, channel_id)
        )
    ).first()
    if lane is None or lane.parked is not None:
        return False
    due_ms = connection.scalar(
        sa.select(sa.func.min(deliveries.c.due_ms)).where(
            deliveries.c.status == "waiting",
            deliveries.c.channel_id == channel_id,
            deliveries.c.node == 0,
            deliveries.c.id > (lane.cancelled_through or ""),
        )
    )
    connection.execute(
        sa.update(lanes)
        .where(*_of(sight, channel_id))
        .values(next_due_ms=None if due_ms is None else max(due_ms, lane.blocked_until_ms))
    )
    return due_ms is not None

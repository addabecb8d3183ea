"""Deliveries and attempts as reads show them; one is re-opened, one is stored for a test."""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause

from tocsin.domain.errors import Conflict, EventPurged, NotFound
from tocsin.domain.model import (
    Attempt,
    ChannelId,
    Delivery,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    ProjectId,
    Status,
    WaitingFor,
)
from tocsin.storage.control import events, lanes, retention
from tocsin.storage.control.walk import AnyRow, AnySelect, Sight, Walked, made_between, newest, put
from tocsin.storage.tables import attempts, channels, deliveries, nodes
from tocsin.storage.tables import lanes as lanes_table

_REOPENABLE = (Status.DELIVERED, Status.EXHAUSTED, Status.REJECTED, Status.CANCELLED)
_LANE = (
    lanes_table.c.parked,
    lanes_table.c.blocked_until_ms,
    lanes_table.c.breaker_state,
)
_first = deliveries.alias("first")
# Asked for rows of ordered lanes only, in the order of their index.
_BEHIND = sa.case(
    (
        sa.and_(lanes_table.c.ordered, deliveries.c.status == Status.WAITING.value),
        deliveries.c.seq
        > sa.select(_first.c.seq)
        .where(
            _first.c.status == Status.WAITING.value,
            _first.c.seq.is_not(None),
            _first.c.channel_id == deliveries.c.channel_id,
        )
        .order_by(_first.c.seq)
        .limit(1)
        .correlate(deliveries)
        .scalar_subquery(),
    ),
    else_=sa.false(),
)
_RATE_LIMITED = (
    sa.select(channels.c.rate_limit.is_not(None))
    .where(channels.c.id == deliveries.c.channel_id)
    .correlate(deliveries)
    .scalar_subquery()
)


class Now(Struct, frozen=True):
    """The moment a delivery is looked at: due times are storage time, what people see wall time.

    `nodes` are this node's numbers: what it holds is being sent, as is what another one holds whose
    lease lasts.
    """

    storage_ms: int
    wall_ms: int
    nodes: tuple[int, ...]


def _status(columns: Any, now: Now) -> ColumnElement[str]:
    """What a delivery reads as: a waiting one may be held, or dropped with its lane."""
    other = sa.exists().where(
        nodes.c.number == columns.node, nodes.c.lease_until_ms > now.storage_ms
    )
    held = sa.or_(
        columns.node.in_(now.nodes), sa.and_(columns.node != 0, other.correlate_except(nodes))
    )
    return sa.case(
        (columns.status != Status.WAITING.value, columns.status),
        (held, Status.SENDING.value),
        (lanes_table.c.channel_id.is_(None), Status.CANCELLED.value),
        (lanes_table.c.parked == lanes.DELETED, Status.CANCELLED.value),
        (columns.id <= lanes_table.c.cancelled_through, Status.CANCELLED.value),
        else_=Status.WAITING.value,
    )


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    seen = [deliveries.c.organization_id == sight.organization_id]
    if sight.project_id is not None:
        seen.append(deliveries.c.project_id == sight.project_id)
    return seen


def _selected(now: Now) -> AnySelect:
    return sa.select(
        deliveries,
        *_LANE,
        _BEHIND.label("behind"),
        sa.case((lanes_table.c.exclusive, _RATE_LIMITED), else_=sa.false()).label("rate_limited"),
        _status(deliveries.c, now).label("shown"),
    ).outerjoin(lanes_table, lanes_table.c.channel_id == deliveries.c.channel_id)


def _waiting(row: AnyRow, now: Now) -> tuple[WaitingFor | None, int | None]:
    """What a waiting delivery waits for, and until when (wall time) as far as that is known."""
    if row.parked is not None:
        return WaitingFor.CHANNEL_DISABLED, None
    if row.behind:
        # Nobody knows how long what is before it takes.
        return WaitingFor.ORDER, None
    next_ms = max(row.due_ms, row.blocked_until_ms)
    shown_ms = next_ms + now.wall_ms - now.storage_ms
    if row.breaker_state is not None and row.due_ms <= max(row.blocked_until_ms, now.storage_ms):
        return WaitingFor.BREAKER, shown_ms
    if next_ms <= now.storage_ms:
        # It would have been taken, or is about to be, but for its channel's rate.
        return (WaitingFor.RATE_LIMIT if row.rate_limited else None), shown_ms
    if row.blocked_until_ms > row.due_ms:
        # The target asked everybody to come later.
        return WaitingFor.RATE_LIMIT, shown_ms
    return WaitingFor.RETRY, shown_ms


def _delivery(row: AnyRow, now: Now) -> Delivery:
    status = Status(row.shown)
    waiting_for, next_ms = None, None
    if status is Status.WAITING:
        waiting_for, next_ms = _waiting(row, now)
    return Delivery(
        id=DeliveryId(row.id),
        event_id=EventId(row.event_id),
        event_type=row.event_type,
        organization_id=OrganizationId(row.organization_id),
        channel_id=ChannelId(row.channel_id),
        project_id=None if row.project_id is None else ProjectId(row.project_id),
        origin=Origin(row.origin),
        status=status,
        waiting_for=waiting_for,
        attempt_count=row.attempt_count,
        next_attempt_at=next_ms,
        created_at=row.created_at,
        finished_at=row.finished_at,
        last_status_code=row.last_status_code,
        last_error=row.last_error,
    )


def walk(
    connection: Connection,
    sight: Sight,
    now: Now,
    *,
    channel_id: str | None = None,
    project_id: ProjectId | None = None,
    status: Status | None = None,
    event_type: str | None = None,
    after: int | None = None,
    before: int | None = None,
    limit: int,
    below: str | None,
) -> Walked[Delivery]:
    """The deliveries in sight; with `channel_id` they are walked by the channel's own index."""
    d = deliveries.c
    rows = sa.select(
        d.id, d.organization_id, d.channel_id, d.project_id, d.event_type, d.status, d.node
    ).where(*made_between(d.id, d.created_at, after, before))
    if channel_id is not None:
        rows = rows.where(d.channel_id == channel_id)
    else:
        rows = rows.where(d.organization_id == sight.organization_id)

    def keep(scan: FromClause) -> list[ColumnElement[bool]]:
        kept: list[ColumnElement[bool]] = []
        if channel_id is not None:
            kept.append(scan.c.organization_id == sight.organization_id)
        if sight.project_id is not None:
            kept.append(scan.c.project_id == sight.project_id)
        if project_id is not None:
            kept.append(scan.c.project_id == project_id)
        if event_type is not None:
            kept.append(scan.c.event_type == event_type)
        if status is not None:
            kept += _reads_as(scan, status, now)
        return kept

    page = newest(connection, rows, d.id, keep=keep, limit=limit, below=below)
    found = connection.execute(
        _selected(now).where(d.id.in_(page.items), *_seen(sight)).order_by(d.id.desc())
    )
    return put(page, [_delivery(row, now) for row in found])


def _reads_as(scan: FromClause, status: Status, now: Now) -> list[ColumnElement[bool]]:
    if status in (Status.WAITING, Status.SENDING):
        kept = [scan.c.status == Status.WAITING.value]
    elif status is Status.CANCELLED:
        kept = [scan.c.status.in_((Status.WAITING.value, Status.CANCELLED.value))]
    else:
        return [scan.c.status == status.value]
    shown = (
        sa.select(_status(scan.c, now))
        .select_from(
            sa.select(sa.literal(1).label("one"))
            .subquery("one")
            .outerjoin(lanes_table, lanes_table.c.channel_id == scan.c.channel_id)
        )
        .correlate(scan)
        .scalar_subquery()
    )
    return [*kept, shown == status.value]


def of_event(
    connection: Connection, sight: Sight, now: Now, event_id: str, *, limit: int
) -> list[Delivery]:
    """The deliveries of an event, oldest first."""
    rows = connection.execute(
        _selected(now)
        .where(deliveries.c.event_id == event_id, *_seen(sight))
        .order_by(deliveries.c.id)
        .limit(limit)
    )
    return [_delivery(row, now) for row in rows]


def get(connection: Connection, sight: Sight, now: Now, delivery_id: str) -> Delivery:
    """A delivery in sight; raises NotFound."""
    row = connection.execute(
        _selected(now).where(deliveries.c.id == delivery_id, *_seen(sight))
    ).first()
    if row is None:
        raise NotFound
    return _delivery(row, now)


def attempts_of(
    connection: Connection, sight: Sight, delivery: Delivery, *, limit: int
) -> list[Attempt]:
    """The attempts of a delivery, oldest first, at most the newest `limit`.

    What the target answered is left out where the channel itself is out of sight.
    """
    rows = connection.execute(
        sa.select(attempts)
        .where(
            attempts.c.delivery_id == delivery.id,
            attempts.c.organization_id == sight.organization_id,
        )
        .order_by(attempts.c.claim.desc())
        .limit(limit)
    ).all()
    shown = sight.project_id is None or sight.project_id == connection.scalar(
        sa.select(channels.c.project_id).where(
            channels.c.id == delivery.channel_id,
            channels.c.organization_id == sight.organization_id,
        )
    )
    return [
        Attempt(
            number=row.number,
            started_at=row.started_at,
            duration_ms=row.duration_ms,
            outcome=row.outcome,
            status_code=row.status_code,
            error=row.error,
            response_body=row.response_body if shown else None,
            superseded=row.superseded,
        )
        for row in reversed(rows)
    ]


def reopen(connection: Connection, sight: Sight, now: Now, delivery_id: str) -> Delivery:
    """Make a finished delivery due now, its schedule from the first step.

    Raises NotFound, Conflict where it is not finished, was a test, or its channel is deleted, and
    EventPurged where there is nothing left to send.
    """
    found = get(connection, sight, now, delivery_id)
    if found.origin is Origin.TEST:
        raise Conflict("A test is not repeated; make a new one.")
    if found.status not in _REOPENABLE:
        raise Conflict(f"A delivery that is {found.status} can't be retried.")
    # The lane first, then the delivery: the order in which every transaction locks them.
    lane = connection.execute(
        sa.update(lanes_table)
        .where(
            lanes_table.c.channel_id == found.channel_id,
            lanes_table.c.organization_id == sight.organization_id,
            sa.or_(lanes_table.c.parked.is_(None), lanes_table.c.parked != lanes.DELETED),
        )
        .values(last_seq=lanes_table.c.last_seq + sa.case((lanes_table.c.ordered, 1), else_=0))
        .returning(
            lanes_table.c.parked,
            lanes_table.c.blocked_until_ms,
            lanes_table.c.next_due_ms,
            lanes_table.c.cancelled_through,
            lanes_table.c.ordered,
            lanes_table.c.last_seq,
        )
    ).first()
    if lane is None:
        raise Conflict("Its channel is deleted.")
    if lane.cancelled_through is not None and found.id <= lane.cancelled_through:
        raise Conflict("The backlog of its channel is still being cancelled; try again shortly.")
    horizon = retention.horizon(connection, hold=True)
    if found.event_id < horizon or not events.exists(connection, sight, found.event_id):
        raise EventPurged
    done = connection.execute(
        sa.update(deliveries)
        .where(
            deliveries.c.id == found.id,
            deliveries.c.status.in_([status.value for status in _REOPENABLE]),
            *_seen(sight),
        )
        .values(
            status=Status.WAITING.value,
            node=0,
            due_ms=now.storage_ms,
            step=0,
            lost=0,
            finished_at=None,
            # In an ordered lane it joins the tail.
            seq=lane.last_seq if lane.ordered else None,
        )
    )
    if not done.rowcount:
        raise Conflict("The delivery has moved on.")
    if lane.parked is None:
        due_ms = max(now.storage_ms, lane.blocked_until_ms)
        if lane.next_due_ms is not None:
            due_ms = lane.next_due_ms if lane.ordered else min(due_ms, lane.next_due_ms)
        connection.execute(
            sa.update(lanes_table)
            .where(lanes_table.c.channel_id == found.channel_id)
            .values(next_due_ms=due_ms)
        )
    return get(connection, sight, now, delivery_id)


def insert_test(
    connection: Connection,
    sight: Sight,
    event: Event,
    *,
    delivery_id: DeliveryId,
    channel_id: ChannelId,
    node: int,
    due_ms: int,
) -> None:
    """Store a test: an event and its one delivery, held by this node from birth (claim 1).

    Held, so that no lane has to open for it: a test goes past disabled, breaker, rate and order.
    """
    events.insert(connection, sight, event, deliveries=1)
    connection.execute(
        sa.insert(deliveries).values(
            id=delivery_id,
            event_id=event.id,
            organization_id=sight.organization_id,
            channel_id=channel_id,
            project_id=event.project_id,
            event_type=event.type,
            origin=Origin.TEST.value,
            status=Status.WAITING.value,
            due_ms=due_ms,
            node=node,
            claim=1,
            step=0,
            attempt_count=0,
            lost=0,
            created_at=event.created_at,
        )
    )

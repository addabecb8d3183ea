"""The steps of a recover job: deliveries of a channel that failed in a span of time are re-opened.

Its set is fixed when it begins: what had ended by then. First the set is counted, then re-opened by
id, oldest first; the position is the last id looked at, so that none is taken twice, whatever
becomes of it meanwhile. Each step re-opens no more than bring what waits for the channel to
`QUEUE_MAX`; while more waits, the job does.

A job for an issue has its set counted by whoever begins it, and begins at `OPENING`. Its arguments
say more: `fingerprint` is the kind of error, and what ended before `ended_since` is not in it.
"""

from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause

from tocsin.domain import issues as kinds
from tocsin.domain.ids import floor
from tocsin.domain.model import Origin, Status
from tocsin.domain.outcome import BREAKER_REASONS, Reason
from tocsin.storage.control import lanes, retention
from tocsin.storage.control.jobs import Task
from tocsin.storage.control.walk import CLOCK_STEP_MS_MAX
from tocsin.storage.tables import deliveries, events
from tocsin.storage.tables import lanes as lane_rows

RECOVER = "recover"
QUEUE_MAX = 1_000
LATER_IDS_MS = 60_000
"""Another node's clock may be ahead by as much: its ids are looked at, too."""

_COUNTING, _OPENING = "count", "open"
OPENING = f"{_OPENING}:"
"""The position of a job whose set is counted already."""


class Recovered(Struct, frozen=True):
    """What a step did; `position` None means that the job has ended."""

    rows: int
    position: str | None
    total: int | None = None
    cancelled: bool = False


def advance(connection: Connection, task: Task, *, due_ms: int, rows_max: int) -> Recovered:
    """One step; what it re-opens is due at `due_ms` (storage time)."""
    phase, _, place = task.position.partition(":")
    if phase == _OPENING:
        return _reopen(connection, task, place, due_ms, rows_max)
    counted, _, last = place.partition(":")
    return _count(connection, task, int(counted or 0), last, rows_max)


def _scan(task: Task, last: str, limit: int) -> FromClause:
    """The next rows to look at; the filters come after the limit, which bounds the step."""
    until_ms = int(task.arguments["until"]) + CLOCK_STEP_MS_MAX
    # What is made from now on ends later than the job began.
    began = max(task.id, floor(task.created_at + LATER_IDS_MS))
    d = deliveries.c
    return (
        sa.select(
            *(d.id, d.event_id, d.organization_id, d.status, d.origin, d.created_at, d.finished_at),
            *(d.last_error, d.last_status_code),
        )
        .where(
            d.channel_id == task.channel_id,
            d.id >= floor(int(task.arguments["since"])),
            d.id < min(floor(until_ms), began),
            d.id > last,
        )
        .order_by(d.id)
        .limit(limit)
        .subquery("scan")
    )


def _wanted(scan: FromClause, task: Task) -> ColumnElement[bool]:
    kind = task.arguments.get("fingerprint")
    more: list[ColumnElement[bool]] = []
    if kind is not None:
        more = [
            scan.c.finished_at >= task.arguments["ended_since"],
            scan.c.origin.in_((Origin.EVENT.value, Origin.DIGEST.value)),
            _of_kind(scan, kind),
        ]
    return sa.and_(
        scan.c.organization_id == task.organization_id,
        scan.c.status.in_(task.arguments["statuses"]),
        scan.c.origin != Origin.TEST.value,
        scan.c.created_at >= task.arguments["since"],
        scan.c.created_at < task.arguments["until"],
        scan.c.finished_at <= task.created_at,
        *more,
    )


def _of_kind(scan: FromClause, kind: str) -> ColumnElement[bool]:
    """Whether `domain.issues.fingerprint` of a failure is this one, or, for an open breaker,
    whether it is of those that open it."""
    error, status = scan.c.last_error, scan.c.last_status_code

    def begins(*reasons: str) -> ColumnElement[bool]:
        said = [error.startswith(one + end, autoescape=True) for one in reasons for end in ": "]
        return sa.or_(error.in_(reasons), *said)

    answered = sa.and_(
        status.is_not(None),
        sa.or_(error.is_(None), error == "", begins(Reason.HTTP_STATUS, Reason.RESENT)),
    )
    if kind == kinds.BREAKER_OPEN:
        down = sa.and_(answered, sa.or_(status == 429, status >= 500))
        return sa.or_(down, begins(*BREAKER_REASONS))
    if kind.startswith("http_") and kind[5:].isdigit():
        return sa.and_(answered, status == int(kind[5:]))
    if kind == kinds.UNKNOWN:
        return sa.and_(status.is_(None), sa.or_(error.is_(None), error == ""))
    return sa.and_(begins(kind), sa.not_(answered))


def count(connection: Connection, task: Task, last: str, rows_max: int) -> tuple[int, str | None]:
    """How many of the next rows after an id are in the job's set, and where to go on (None: done).

    It needs no stored job.
    """
    scan = _scan(task, last, rows_max)
    kept = scan.c.event_id >= retention.horizon(connection)
    looked_at, through, found = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.max(scan.c.id),
            sa.func.sum(sa.case((sa.and_(kept, _wanted(scan, task)), 1), else_=0)),
        ).select_from(scan)
    ).one()
    return int(found or 0), through if looked_at == rows_max else None


def _count(connection: Connection, task: Task, counted: int, last: str, rows_max: int) -> Recovered:
    found, further = count(connection, task, last, rows_max)
    counted += found
    if further is not None:
        return Recovered(0, f"{_COUNTING}:{counted}:{further}")
    return Recovered(0, OPENING if counted else None, total=counted)


def _reopen(connection: Connection, task: Task, last: str, due_ms: int, rows_max: int) -> Recovered:
    # The lane first, then its deliveries: the order in which every transaction locks them.
    lane = connection.execute(
        sa.select(lane_rows)
        .where(
            lane_rows.c.channel_id == task.channel_id,
            lane_rows.c.organization_id == task.organization_id,
        )
        .with_for_update(key_share=True)
    ).first()
    if lane is None or lane.parked == lanes.DELETED:
        return Recovered(0, None, cancelled=True)
    # One row is the lane's.
    room = min(QUEUE_MAX - _waiting(connection, task), rows_max - 1)
    if room <= 0 or lane.cancelled_through is not None:
        return Recovered(0, task.position)
    scan = _scan(task, last, rows_max)
    looked_at, through = connection.execute(
        sa.select(sa.func.count(), sa.func.max(scan.c.id)).select_from(scan)
    ).one()
    found: list[Any] = list(
        connection.execute(
            sa.select(scan.c.id, scan.c.event_id)
            .where(_wanted(scan, task))
            .order_by(scan.c.id)
            .limit(room)
        )
    )
    ids = _sendable(connection, task, found)
    if ids:
        _open(connection, task, ids, lane, due_ms)
    if len(found) == room:
        return Recovered(len(ids), f"{_OPENING}:{found[-1].id}")
    return Recovered(len(ids), f"{_OPENING}:{through}" if looked_at == rows_max else None)


def _waiting(connection: Connection, task: Task) -> int:
    """What waits for the channel, held ones included, counted up to the bound."""
    some = (
        sa.select(sa.literal(1).label("one"))
        .where(
            deliveries.c.status == Status.WAITING.value,
            deliveries.c.channel_id == task.channel_id,
        )
        .limit(QUEUE_MAX)
        .subquery("some")
    )
    return connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0


def _sendable(connection: Connection, task: Task, found: list[Any]) -> list[str]:
    """Those whose event is still there, and is not about to be removed."""
    horizon = retention.horizon(connection, hold=True)
    there = set(
        connection.scalars(
            sa.select(events.c.id).where(
                events.c.id.in_(sorted({row.event_id for row in found})),
                events.c.organization_id == task.organization_id,
            )
        )
    )
    return [row.id for row in found if row.event_id in there and row.event_id >= horizon]


def _open(connection: Connection, task: Task, ids: list[str], lane: Any, due_ms: int) -> None:
    """As a single retry does it, for all of them."""
    values: dict[str, Any] = {
        "status": Status.WAITING.value,
        "node": 0,
        "due_ms": due_ms,
        "step": 0,
        "lost": 0,
        "finished_at": None,
        "seq": sa.bindparam("new_seq") if lane.ordered else None,
    }
    if lane.ordered:
        # They join the tail.
        connection.execute(
            sa.update(deliveries).where(deliveries.c.id == sa.bindparam("open_id")).values(values),
            [{"open_id": id, "new_seq": lane.last_seq + n} for n, id in enumerate(ids, 1)],
        )
    else:
        connection.execute(sa.update(deliveries).where(deliveries.c.id.in_(ids)).values(values))
    change: dict[str, Any] = {}
    if lane.ordered:
        change["last_seq"] = lane.last_seq + len(ids)
    if lane.parked is None:
        next_ms = max(due_ms, lane.blocked_until_ms)
        if lane.next_due_ms is not None:
            next_ms = lane.next_due_ms if lane.ordered else min(next_ms, lane.next_due_ms)
        change["next_due_ms"] = next_ms
    if change:
        connection.execute(
            sa.update(lane_rows)
            .where(
                lane_rows.c.channel_id == task.channel_id,
                lane_rows.c.organization_id == task.organization_id,
            )
            .values(change)
        )

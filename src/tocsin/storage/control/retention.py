"""What time does to the log: what waited too long ends, what is finished and old is removed.

The rows of the log itself are removed by the drivers (`purge`); here is what a purge counts, the
horizon below which nothing is sent any more, and the smaller tables that grow with the years.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.domain.breaking import COUNTING
from tocsin.domain.ids import floor
from tocsin.domain.model import DeliveryId, Status
from tocsin.domain.outcome import Reason
from tocsin.storage.control.issues import record
from tocsin.storage.notes import MINUTE_MS, GivenUp, given_up_issues
from tocsin.storage.tables import channels, deliveries, jobs, lanes, meta, projects
from tocsin.storage.watch_tables import alert_history, channel_minutes, issues

HORIZON = "retention_horizon"
COUNTED = ("events", "deliveries", "attempts")
_PURGED = "purged_"

EXPIRED = f"{Reason.EXPIRED}: it has waited longer than deliveries may"


class Overdue(Struct, frozen=True):
    """Which deliveries have waited too long: those with ids below `through`, unless somebody has
    re-opened them since, and all of those with ids below `last`.

    One is taken for re-opened when it is on the first step of its schedule and is due
    `spared_ms` or more after it was made.
    """

    through: str
    last: str
    spared_ms: int


class Late(Struct, frozen=True):
    """A page of deliveries that have waited too long, and where to go on (None: there is no
    more)."""

    found: list[tuple[str, DeliveryId]]
    further: list[Any] | None


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert


# The horizon


def set_horizon(connection: Connection, horizon: str) -> None:
    """From this commit on no event with an id below `horizon` is sent once more.

    Whoever is just re-opening a delivery is waited for: its row is seen by what comes next.
    """
    added = _insert(connection)(meta).values(key=HORIZON, value=horizon)
    connection.execute(
        added.on_conflict_do_update(
            index_elements=[meta.c.key], set_={"value": added.excluded.value}
        )
    )


def horizon(connection: Connection, *, hold: bool = False) -> str:
    """The id below which events are purged, or about to be; with `hold` it stays where it is
    until the transaction ends."""
    query = sa.select(meta.c.value).where(meta.c.key == HORIZON)
    return connection.scalar(query.with_for_update(read=True) if hold else query) or ""


# What was purged


def count(connection: Connection, rows: dict[str, int]) -> None:
    """Add to what was purged; in the transaction that removes these rows."""
    number = sa.cast(meta.c.value, sa.BigInteger)
    for name in COUNTED:
        if rows.get(name):
            added = _insert(connection)(meta).values(key=_PURGED + name, value=str(rows[name]))
            connection.execute(
                added.on_conflict_do_update(
                    index_elements=[meta.c.key],
                    set_={"value": sa.cast(number + rows[name], sa.Text)},
                )
            )


def purged(connection: Connection) -> dict[str, int]:
    """How many rows of the log were removed since the database was made, by table.

    What was published is these and what is still there.
    """
    keys = [_PURGED + name for name in COUNTED]
    found: dict[str, int] = dict.fromkeys(COUNTED, 0)
    for row in connection.execute(sa.select(meta).where(meta.c.key.in_(keys))):
        found[row.key.removeprefix(_PURGED)] = int(row.value)
    return found


# What has waited too long


def late(
    connection: Connection, overdue: Overdue, *, above: list[Any] | None, rows_max: int
) -> Late:
    """Walk what waits, lane by lane, by its own index; at most so many rows are looked at."""
    d = deliveries.c
    place = (d.channel_id, d.node, d.due_ms, d.id)
    # PostgreSQL looks into the old partitions only; SQLite must not walk the table by its key.
    server = connection.dialect.name == "postgresql"
    old = d.id if server else d.id.concat("")
    scan = sa.select(*place, d.step, d.created_at).where(
        d.status == Status.WAITING.value, old < overdue.through
    )
    if above is not None:
        scan = scan.where(sa.tuple_(*place) > sa.tuple_(*map(sa.literal, above)))
    rows = connection.execute(scan.order_by(*place).limit(rows_max)).all()
    found = [
        (row.channel_id, DeliveryId(row.id))
        for row in rows
        if row.node == 0
        and (
            row.id < overdue.last or row.step > 0 or row.due_ms - row.created_at < overdue.spared_ms
        )
    ]
    return Late(found, list(rows[-1][:4]) if len(rows) == rows_max else None)


def expire(
    connection: Connection,
    found: list[tuple[str, DeliveryId]],
    overdue: Overdue,
    *,
    node: int,
    wall_ms: int,
    storage_ms: int,
) -> list[tuple[str, DeliveryId]]:
    """End those that still wait in nobody's hands; returns (channel, delivery) of each it ended.

    They count as exhausted in the statistics, by `node`, and open an issue.
    """
    ids = sorted(delivery_id for _, delivery_id in found)
    # The lanes first, then their deliveries, each in order: as every transaction locks them.
    connection.execute(
        sa.select(lanes.c.channel_id)
        .where(lanes.c.channel_id.in_(sorted({channel_id for channel_id, _ in found})))
        .order_by(lanes.c.channel_id)
        .with_for_update(key_share=True)
    ).all()
    d = deliveries.c
    rows = connection.execute(
        sa.update(deliveries)
        .where(
            d.id.in_(ids),
            d.status == Status.WAITING.value,
            d.node == 0,
            # It may have been tried and re-opened since it was found.
            sa.or_(d.id < overdue.last, d.step > 0, d.due_ms - d.created_at < overdue.spared_ms),
        )
        .values(status=Status.EXHAUSTED.value, finished_at=wall_ms, last_error=EXPIRED)
        .returning(d.channel_id, d.id, d.organization_id, d.origin, d.attempt_count)
    ).all()
    _note(connection, rows, node=node, minute=wall_ms // MINUTE_MS)
    given_up = [
        GivenUp(row.id, row.channel_id, row.organization_id, row.origin, row.attempt_count, EXPIRED)
        for row in rows
    ]
    record(connection, given_up_issues(given_up, wall_ms))
    ended = [(row.channel_id, DeliveryId(row.id)) for row in rows]
    if ended:
        # Of an ordered lane this may have been the head: what stood behind it is due on its own.
        connection.execute(
            sa.update(lanes)
            .where(
                lanes.c.channel_id.in_(sorted({channel_id for channel_id, _ in ended})),
                lanes.c.ordered,
                lanes.c.parked.is_(None),
                lanes.c.next_due_ms > storage_ms,
            )
            .values(
                next_due_ms=sa.case(
                    (lanes.c.blocked_until_ms > storage_ms, lanes.c.blocked_until_ms),
                    else_=storage_ms,
                )
            )
        )
    return ended


def _note(connection: Connection, rows: Sequence[Any], *, node: int, minute: int) -> None:
    ended = Counter((row.channel_id, row.organization_id) for row in rows if row.origin in COUNTING)
    if not ended:
        return
    nothing = {"attempts": 0, "failed": 0, "delivered": 0}
    added = _insert(connection)(channel_minutes).values(
        [
            {
                "channel_id": channel_id,
                "organization_id": organization_id,
                "minute": minute,
                "node": node,
                "exhausted": count,
                **nothing,
            }
            for (channel_id, organization_id), count in sorted(ended.items())
        ]
    )
    at = channel_minutes.c
    connection.execute(
        added.on_conflict_do_update(
            index_elements=[at.channel_id, at.minute, at.node],
            set_={"exhausted": at.exhausted + added.excluded.exhausted},
        )
    )


# The smaller tables


def _remove(connection: Connection, table: Table, *old: ColumnElement[bool], rows_max: int) -> int:
    ids = sa.select(table.c.id).where(*old).order_by(table.c.id).limit(rows_max)
    return connection.execute(sa.delete(table).where(table.c.id.in_(ids))).rowcount


def forget(connection: Connection, *, before_ms: int, rows_max: int) -> int:
    """Remove what ended before a moment: jobs, resolved issues, what alerts have said, and what
    was deleted and has no deliveries any more; returns how many rows, 0 when that is all."""
    rows = _remove(
        connection,
        jobs,
        jobs.c.id < floor(before_ms),
        jobs.c.status != "running",
        jobs.c.finished_at < before_ms,
        rows_max=rows_max,
    )
    rows += _remove(
        connection,
        issues,
        issues.c.status == "resolved",
        issues.c.resolved_at < before_ms,
        rows_max=rows_max,
    )
    rows += _remove(
        connection, alert_history, alert_history.c.id < floor(before_ms), rows_max=rows_max
    )
    rows += _deleted_channels(connection, before_ms, rows_max)
    has_channels = sa.exists().where(
        channels.c.organization_id == projects.c.organization_id,
        channels.c.project_id == projects.c.id,
    )
    return rows + _remove(
        connection,
        projects,
        projects.c.deleted_at < before_ms,
        sa.not_(has_channels),
        rows_max=rows_max,
    )


def _deleted_channels(connection: Connection, before_ms: int, rows_max: int) -> int:
    has_deliveries = sa.exists().where(deliveries.c.channel_id == channels.c.id)
    ids = list(
        connection.scalars(
            sa.select(channels.c.id)
            .where(channels.c.deleted_at < before_ms, sa.not_(has_deliveries))
            .order_by(channels.c.id)
            .limit(rows_max // 2)
        )
    )
    if ids:
        connection.execute(sa.delete(lanes).where(lanes.c.channel_id.in_(ids)))
        connection.execute(sa.delete(channels).where(channels.c.id.in_(ids)))
    return len(ids) * 2

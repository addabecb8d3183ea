"""Rolling statistics up: old minutes become part of their hour, old hours of their day, and days
are forgotten.

A step moves rows: it takes them out of the finer table and adds them to the coarser one, in one
transaction. So whatever dies in between nothing is lost or counted twice, a count that comes late
is moved by a later step, and the sum over all tables is always right.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from tocsin.storage.control.walk import AnyRow
from tocsin.storage.watch_tables import (
    LATENCY_BUCKETS,
    channel_days,
    channel_hours,
    channel_minutes,
    project_days,
    project_hours,
    project_minutes,
)

ROWS_PER_STEP_MAX = 1_000
"""Moved in one transaction. Each row has dozens of columns."""

HOUR, DAY = 60, 1_440

_CHANNEL_COUNTS = (
    *("attempts", "failed", "delivered", "exhausted"),
    *(f"l{at}" for at in range(LATENCY_BUCKETS)),
)
_PROJECT_COUNTS = ("accepted", "unmatched")


class Move(Struct, frozen=True):
    """Rows of `source` become part of rows of `target`, `size` minutes each, or are forgotten.

    `key` is the target's but for the minute; `also` goes with it.
    """

    source: Table
    target: Table | None
    size: int
    key: tuple[str, ...]
    also: tuple[str, ...]
    counts: tuple[str, ...]


def _channels(source: Table, target: Table | None, size: int) -> Move:
    return Move(source, target, size, ("channel_id",), ("organization_id",), _CHANNEL_COUNTS)


def _projects(source: Table, target: Table | None, size: int) -> Move:
    return Move(source, target, size, ("organization_id", "project_id"), (), _PROJECT_COUNTS)


MINUTES = (
    _channels(channel_minutes, channel_hours, HOUR),
    _projects(project_minutes, project_hours, HOUR),
)
HOURS = (
    _channels(channel_hours, channel_days, DAY),
    _projects(project_hours, project_days, DAY),
)
DAYS = (_channels(channel_days, None, DAY), _projects(project_days, None, DAY))


def step(connection: Connection, move: Move, *, before_minute: int, limit: int) -> int:
    """Move up to `limit` rows from before a minute, the oldest first; returns how many."""
    source = move.source
    place = tuple(source.primary_key.columns)
    oldest = (
        sa.select(*place)
        .where(source.c.minute < before_minute)
        .order_by(source.c.minute)
        .limit(limit)
    )
    # Locked in the order in which settles do it, so that nobody waits for another in a circle.
    keys = sorted(tuple(row) for row in connection.execute(oldest))
    if not keys:
        return 0
    mine = sa.tuple_(*place).in_(keys)
    connection.execute(sa.select(sa.literal(1)).where(mine).order_by(*place).with_for_update())
    if move.target is None:
        return connection.execute(sa.delete(source).where(mine)).rowcount
    columns = (*move.key, "minute", *move.also, *move.counts)
    taken = list(
        connection.execute(
            sa.delete(source).where(mine).returning(*(source.c[name] for name in columns))
        )
    )
    if taken:
        _add(connection, move, move.target, taken)
    return len(taken)


def _add(connection: Connection, move: Move, target: Table, rows: Sequence[AnyRow]) -> None:
    at = len(move.key)
    first = at + 1 + len(move.also)
    sums: dict[tuple[str | int, ...], list[int]] = {}
    others: dict[tuple[str | int, ...], Sequence[str]] = {}
    for row in rows:
        key = (*row[:at], row[at] - row[at] % move.size)
        counts = row[first:]
        before = sums.get(key)
        sums[key] = (
            [*counts] if before is None else [a + b for a, b in zip(before, counts, strict=True)]
        )
        others[key] = row[at + 1 : first]
    names = (*move.key, "minute", *move.also, *move.counts)
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(target)
    statement = statement.on_conflict_do_update(
        index_elements=[*move.key, "minute"],
        set_={name: target.c[name] + statement.excluded[name] for name in move.counts},
    )
    connection.execute(
        statement,
        [
            dict(zip(names, (*key, *others[key], *counts), strict=True))
            for key, counts in sorted(sums.items())
        ],
    )

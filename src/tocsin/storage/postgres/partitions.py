"""Partitions by day: events, deliveries and attempts lie in tables of the day their id was made.

They are made a week ahead. There is no default partition: it would block the making of others. What
comes for a day without one has it made and is stored again.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.domain.ids import id_time_ms
from tocsin.storage.tables import attempts, deliveries, events

DAY_MS = 86_400_000
DAYS_AHEAD = 7
ADVISORY_LOCK = 7202
MISSING_MAX = 20
"""So many days without a partition may one transaction meet."""

TABLES = (events.name, deliveries.name, attempts.name)

_DATED_BEFORE_MS = 253_402_300_800_000  # the year 10000
_KEY = re.compile(r"\) = \(([0-9a-f]{24})")

# A row is inserted, changed a few times within seconds, and never again: cleaned early, and
# insert-only pages frozen by the way.
_STORAGE = {
    "events": "autovacuum_vacuum_insert_scale_factor = 0.1",
    "deliveries": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,"
    " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.05",
    "attempts": "autovacuum_vacuum_insert_scale_factor = 0.1",
}


def name_of(table: str, day: int) -> str:
    """The partition's name: the date in it, or the number of a day that no calendar has."""
    if day * DAY_MS >= _DATED_BEFORE_MS:
        return f"{table}_p_{day}"
    return f"{table}_p_{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y%m%d}"


def bound_of(day: int) -> str:
    """Where a day begins among ids; a text above all of them after the last day."""
    ms = day * DAY_MS
    return f"{ms:012x}" if ms < 2**48 else "g"


def make(connection: Connection, days: Iterable[int]) -> int:
    """Make the partitions of these days where they are missing; returns how many it made.

    Attached, not created in place, because that would wait for, and hold up, all who write.
    """
    wanted = [(table, day) for day in sorted(set(days)) for table in TABLES]
    if _missing(connection, wanted):
        # Only one node makes them; another may just have.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
    missing = _missing(connection, wanted)
    for table, day in missing:
        name = name_of(table, day)
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH ({_STORAGE[table]})"
        )
        connection.exec_driver_sql(
            f"ALTER TABLE {table} ATTACH PARTITION {name}"
            f" FOR VALUES FROM ('{bound_of(day)}') TO ('{bound_of(day + 1)}')"
        )
    return len(missing)


def make_ahead(connection: Connection, wall_ms: int) -> int:
    """Make those from yesterday, where clocks differ, to a week ahead."""
    today = wall_ms // DAY_MS
    return make(connection, range(today - 1, today + DAYS_AHEAD + 1))


def _missing(connection: Connection, wanted: list[tuple[str, int]]) -> list[tuple[str, int]]:
    names = [name_of(table, day) for table, day in wanted]
    there = set(
        connection.scalars(
            sa.text(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = ANY (ARRAY['events'::regclass, 'deliveries'::regclass,"
                " 'attempts'::regclass]) AND c.relname = ANY (:names)"
            ),
            {"names": names},
        )
    )
    return [one for one, name in zip(wanted, names, strict=True) if name not in there]


def missing_day(error: BaseException | None) -> int | None:
    """The day whose partition an insert has missed; None for any other error."""
    if getattr(error, "sqlstate", None) != "23514" or "no partition" not in str(error):
        return None
    found = _KEY.search(getattr(error, "detail", None) or "")
    return None if found is None else id_time_ms(found[1]) // DAY_MS

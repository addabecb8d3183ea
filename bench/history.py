"""A database that has been in use: millions of rows, written past the service.

They are the rows that the service itself would have left behind: an event, its delivery and, where
that is delivered, its attempt, spread over the channels and over some time.
"""

import os
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct
from tests.blackbox.server import Server

from bench.service import BODY_BYTES, SinkControl, limits

CHANNELS = 100
DAYS = 25
"""Younger than what retention removes."""
ROWS_PER_STATEMENT = 250_000
CACHE_KIB = 512 * 1024
DAY_MS = 86_400_000

_USED = """
    CREATE TEMP TABLE used (position INTEGER PRIMARY KEY, organization_id TEXT, channel_id TEXT,
        type TEXT)
"""
# A moment for each row, and ids as the first node made them at that moment.
_ROWS = """
    WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last),
    r(i, ms) AS (SELECT i, :from_ms + i * :span_ms / :rows FROM n)
"""
_EVENT = "printf('%012x000001000000', r.ms)"
_DELIVERY = "printf('%012x000001000001', r.ms)"
_FROM = "FROM r JOIN used AS u ON u.position = r.i % :channels"
_EVENTS = f"""
    INSERT INTO events (id, organization_id, type, occurred_at, created_at, deliveries, data)
    {_ROWS} SELECT {_EVENT}, u.organization_id, u.type, r.ms, r.ms, 1, :data {_FROM}
"""
_DELIVERED = f"""
    INSERT INTO deliveries (id, event_id, organization_id, channel_id, event_type, origin, status,
        due_ms, node, claim, step, attempt_count, lost, created_at, finished_at, last_status_code)
    {_ROWS} SELECT {_DELIVERY}, {_EVENT}, u.organization_id, u.channel_id, u.type, 'event',
        'delivered', r.ms, 0, 1, 0, 1, 0, r.ms, r.ms + 5, 204 {_FROM}
"""
_ATTEMPTS = f"""
    INSERT INTO attempts (delivery_id, claim, organization_id, number, started_at, duration_ms,
        outcome, status_code, superseded)
    {_ROWS} SELECT {_DELIVERY}, 1, u.organization_id, 1, r.ms, 5, 'delivered', 204, 0 {_FROM}
"""
_WAITING = f"""
    INSERT INTO deliveries (id, event_id, organization_id, channel_id, event_type, origin, status,
        due_ms, node, claim, step, attempt_count, lost, created_at)
    {_ROWS} SELECT {_DELIVERY}, {_EVENT}, u.organization_id, u.channel_id, u.type, 'event',
        'waiting', r.ms, 0, 0, 0, 0, 0, r.ms {_FROM}
"""
_DUE = "UPDATE lanes SET next_due_ms = :from_ms WHERE channel_id IN (SELECT channel_id FROM used)"


class Used(Struct, frozen=True):
    """A channel with rows, and the type of their events."""

    organization_id: str
    channel_id: str
    type: str


class History:
    """A data directory with a hundred channels at the sink and so many delivered events.

    What runs on it leaves its own rows behind.
    """

    def __init__(self, folder: Path, sink: SinkControl, rows: int) -> None:
        types = [f"bench.{n:03}" for n in range(CHANNELS)]
        self.data_dir = Path(tempfile.mkdtemp(prefix="history-", dir=folder)) / "data"
        server = Server(self.data_dir, limits()).start()
        try:
            self.tenant = server.tenant("bench")
            ids = [self.tenant.channel(sink.url, event_types=[type])["id"] for type in types]
            server.stop()
        finally:
            server.close()
        organization = self.tenant.organization
        used = [Used(organization, id, type) for id, type in zip(ids, types, strict=True)]
        if rows:
            write_rows(self.data_dir, used, rows)


def write_rows(data_dir: Path, used: Sequence[Used], rows: int, *, waiting: bool = False) -> None:
    """Write the rows of so many events into the database of a service that does not run: delivered
    in the last weeks, or waiting since the last hour."""
    span_ms = DAY_MS // 24 if waiting else DAYS * DAY_MS
    values = {
        "from_ms": int(time.time() * 1_000) - span_ms,
        "span_ms": span_ms,
        "rows": rows,
        "channels": len(used),
        "data": b'"%s"' % (b"x" * (BODY_BYTES // 2)),
    }
    assert rows <= span_ms, "two would have the same id"
    statements = (_EVENTS, _WAITING) if waiting else (_EVENTS, _DELIVERED, _ATTEMPTS)
    with closing(sqlite3.connect(data_dir / "tocsin.db", isolation_level=None)) as connection:
        # A crash would spoil the file: then the benchmark is begun anew.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute(_USED)
        connection.executemany(
            "INSERT INTO used VALUES (?, ?, ?, ?)",
            [(at, one.organization_id, one.channel_id, one.type) for at, one in enumerate(used)],
        )
        for statement in statements:
            for first in range(0, rows, ROWS_PER_STATEMENT):
                last = min(first + ROWS_PER_STATEMENT, rows)
                connection.execute(statement, values | {"first": first, "last": last})
        if waiting:
            connection.execute(_DUE, values)
    # What is measured next shall not wait for these pages.
    os.sync()

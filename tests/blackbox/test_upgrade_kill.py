"""kill -9 at any moment of an upgrade: the old schema or the new one, and all that was in it."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from tests.postgres import server, sqlalchemy_url

from tocsin.storage.control import schema
from tocsin.storage.migrations import config
from tocsin.storage.postgres.partitions import make
from tocsin.storage.tables import (
    SCHEMA_VERSION,
    attempts,
    channels,
    deliveries,
    events,
    lanes,
    organizations,
)

pytestmark = pytest.mark.long

T = TypeVar("T")

KILLS = 20
KILLS_POSTGRES = int(os.environ.get("TOCSIN_TEST_UPGRADE_KILLS", "8"))
"""Each takes a database and two connections of its own."""
ROWS = 40
SECONDS_MAX = 60.0
MS = 1_780_000_000_000

# Imports done, it forks for each place that it reads: that one opens the store as the product does.
ZYGOTE = """
import asyncio, os, signal, sys, time
from pathlib import Path
import tocsin.storage.migrations
from tests.patience import patient
from tocsin.storage.postgres import PostgresStore
from tocsin.storage.sqlite import SqliteStore
now_ms = lambda: time.time_ns() // 1_000_000
async def main(place):
    store = PostgresStore(place, wall_ms=now_ms, storage_ms=now_ms) if "://" in place \\
        else SqliteStore(Path(place), wall_ms=now_ms, storage_ms=now_ms)
    async with store:
        pass
patience = patient()
patience.__enter__()
for line in sys.stdin:
    place, kill_after = line.split()
    pid = os.fork()
    if not pid:
        asyncio.run(main(place))
        os._exit(0)
    if kill_after != "never":
        time.sleep(float(kill_after))
        os.kill(pid, signal.SIGKILL)  # it is ours until it is waited for
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Zygote:
    """Opens stores in processes of their own, which can be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.communicate(timeout=SECONDS_MAX)

    def open(self, place: str, kill_after: float | None = None) -> float:
        """Opens a store and closes it; returns how long that took."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        began = time.monotonic()
        process.stdin.write(f"{place} {'never' if kill_after is None else kill_after}\n")
        process.stdin.flush()
        status = int(process.stdout.readline())
        if kill_after is None:
            assert status == 0
        return time.monotonic() - began


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    made = Zygote()
    made.open(str(tmp_path_factory.mktemp("first") / "slow.db"))
    yield made
    made.close()


def fill(connection: Connection) -> None:
    """The first schema, and something in it."""
    command.upgrade(config(connection), "0001")
    assert schema.version(connection) == 1
    connection.execute(
        sa.insert(organizations).values(
            id="a" * 24, name="Acme", slug="acme", version=7, created_at=1, updated_at=2
        )
    )
    connection.execute(
        sa.insert(channels).values(
            id="c" * 24,
            organization_id="a" * 24,
            type="webhook",
            name="a channel",
            event_types='["*"]',
            filter="[]",
            schedule='["5s"]',
            timeout_ms=15000,
            ordered=False,
            enabled=True,
            sealed=b"\x00sealed",
            version=3,
            created_at=1,
            updated_at=1,
        )
    )
    connection.execute(
        sa.insert(lanes).values(
            channel_id="c" * 24, organization_id="a" * 24, version=3, error_count=5, last_error="no"
        )
    )
    if connection.dialect.name == "postgresql":
        make(connection, [MS // 86_400_000])
    for number in range(ROWS):
        one, two = (f"{MS + number:012x}{half:012x}" for half in (0, 1))
        connection.execute(
            sa.insert(events).values(
                id=one,
                organization_id="a" * 24,
                type="a.b",
                occurred_at=MS,
                created_at=MS,
                deliveries=1,
                data=b'"%d"' % number,
            )
        )
        connection.execute(
            sa.insert(deliveries).values(
                id=two,
                event_id=one,
                organization_id="a" * 24,
                channel_id="c" * 24,
                event_type="a.b",
                origin="event",
                status="waiting" if number % 2 else "delivered",
                due_ms=MS,
                node=0,
                claim=1,
                step=0,
                attempt_count=1,
                lost=0,
                created_at=MS,
            )
        )
        connection.execute(
            sa.insert(attempts).values(
                delivery_id=two,
                claim=1,
                organization_id="a" * 24,
                number=1,
                started_at=MS,
                duration_ms=4,
                outcome="retry",
                error="http_status: 500",
                superseded=False,
            )
        )


def columns(connection: Connection) -> dict[str, list[str]]:
    """What the tables that hold something consist of, in this schema and in today's."""
    look = sa.inspect(connection)
    kept = (organizations, channels, lanes, events, deliveries, attempts)
    return {
        table.name: [
            column["name"] for column in look.get_columns(table.name) if column["name"] in table.c
        ]
        for table in kept
    }


def contents(connection: Connection, wanted: dict[str, list[str]]) -> dict[str, list[Any]]:
    return {
        table: sorted(
            tuple(row)
            for row in connection.exec_driver_sql(f"SELECT {', '.join(names)} FROM {table}")
        )
        for table, names in wanted.items()
    }


Run = Callable[[Callable[[Connection], T]], T]


def survive(zygote: Zygote, copies: list[str], run: Callable[[str], Run[Any]]) -> None:
    """Upgrades each copy, killed at some moment; the first one in peace."""
    first = run(copies[0])
    wanted = first(columns)
    before = first(lambda c: contents(c, wanted))
    took = zygote.open(copies[0])
    chance = random.Random(11)
    found: list[int | None] = []
    for place in copies[1:]:
        after = took * chance.random()
        zygote.open(place, kill_after=after)
        look = run(place)
        version = look(schema.version)
        assert version in (1, SCHEMA_VERSION)
        assert look(lambda c: contents(c, wanted)) == before
        # The next start goes on from whatever is there.
        zygote.open(place)
        assert look(schema.version) == SCHEMA_VERSION
        assert look(lambda c: contents(c, wanted)) == before
        found.append(version)
        if version != 1:
            took = after  # the first may have waited for the disk: later is too late from now on
    assert 1 in found, "every kill came too late to show anything"


def test_on_sqlite(zygote: Zygote, tmp_path: Path) -> None:
    def run(place: str) -> Run[Any]:
        def work(of: Callable[[Connection], Any]) -> Any:
            engine = sa.create_engine(f"sqlite:///{place}", poolclass=sa.NullPool)
            with engine.begin() as connection:
                assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
                return of(connection)

        return work

    original = tmp_path / "original.db"
    run(str(original))(fill)
    places = []
    for number in range(KILLS + 1):
        place = tmp_path / f"{number}.db"
        place.write_bytes(original.read_bytes())
        places.append(str(place))
    survive(zygote, places, run)


def test_on_postgresql(zygote: Zygote) -> None:
    def run(place: str) -> Run[Any]:
        async def work(of: Callable[[Connection], Any]) -> Any:
            engine = create_async_engine(sqlalchemy_url(place))
            async with engine.begin() as connection:
                found = await connection.run_sync(of)
            await engine.dispose()
            return found

        return lambda of: asyncio.run(work(of))

    original = server().empty()
    run(server().dsn(original))(fill)
    names = [server().copy(original) for _ in range(KILLS_POSTGRES + 1)]
    survive(zygote, [server().dsn(name) for name in names], run)
    for name in (*names, original):
        server().drop(name)

"""Statistics rolled up in steps, on both databases: the sums stay, whatever comes late."""

from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.service.sight import Sight
from tocsin.storage.control import rolling, statistics
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import channels, metadata

pytestmark = pytest.mark.anyio

ORGANIZATION = OrganizationId("a" * 24)
SIGHT = Sight(ORGANIZATION)
CHANNELS = [ChannelId(letter * 24) for letter in "bcd"]
TODAY = 20_000 * rolling.DAY
NAMES = ("attempts", "failed", "delivered", "exhausted")
AGES = ("minutes", "hours", "days")
HOUR, DAY = rolling.HOUR, rolling.DAY


def minute_row(random: Random, channel: str, minute: int, node: int = 1) -> dict[str, Any]:
    counts = {name: random.randrange(9) for name in NAMES}
    buckets = {f"l{at}": random.randrange(4) for at in (0, 7, 47)}
    place = {"channel_id": channel, "minute": minute, "node": node}
    return {**place, "organization_id": ORGANIZATION, **counts, **buckets}


def insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(sa.insert(metadata.tables["channel_minutes"]), rows)
    for row in rows:
        values = {
            "organization_id": row["channel_id"],
            "project_id": "",
            "minute": row["minute"],
            "node": row["node"],
            "accepted": row["attempts"],
            "unmatched": row["failed"],
        }
        connection.execute(sa.insert(metadata.tables["project_minutes"]).values(values))


def total(connection: Connection) -> dict[str, int]:
    """The sums over all ages."""
    found: dict[str, int] = {}
    for kind, names in (("channel", (*NAMES, "l0", "l7", "l47")), ("project", ("accepted",))):
        for name in names:
            tables = [metadata.tables[f"{kind}_{age}"] for age in AGES]
            sums = [connection.scalar(sa.select(sa.func.sum(table.c[name]))) for table in tables]
            found[name] = sum(int(one or 0) for one in sums)
    return found


def counted(connection: Connection) -> list[int]:
    tables = [metadata.tables[f"channel_{age}"] for age in AGES]
    counts = [connection.scalar(sa.select(sa.func.count()).select_from(t)) for t in tables]
    return [int(count or 0) for count in counts]


def roll(connection: Connection, moves: tuple[rolling.Move, ...], before: int, limit: int) -> int:
    return sum(rolling.step(connection, move, before_minute=before, limit=limit) for move in moves)


@pytest.fixture
async def filled(database: Database) -> Database:
    """Two days of three channels, minutes of two nodes here and there."""

    def fill(connection: Connection) -> None:
        migrate(connection)
        random = Random(4)
        rows = []
        for channel in CHANNELS:
            for minute in random.sample(range(TODAY - 2 * DAY, TODAY), 40):
                rows += [minute_row(random, channel, minute, node) for node in (1, 2)]
            values = {
                "id": channel,
                "organization_id": ORGANIZATION,
                "type": "webhook",
                "name": "n",
                "event_types": "[]",
                "filter": "[]",
                "schedule": "[]",
                "timeout_ms": 1,
                "ordered": False,
                "enabled": True,
                "sealed": b"",
                "version": 1,
                "created_at": 1,
                "updated_at": 1,
            }
            connection.execute(sa.insert(channels).values(values))
        insert(connection, rows)

    await database.run(fill)
    return database


async def test_steps_move_everything_and_lose_nothing(filled: Database) -> None:
    before = await filled.run(total)
    steps = 0
    # Each step is a transaction of its own: whatever dies between two, the sums are right.
    while await filled.run(lambda c: roll(c, rolling.MINUTES, TODAY, 17)):
        steps += 1
        assert await filled.run(total) == before
    assert steps >= 240 // 17
    assert (await filled.run(counted))[0] == 0
    while await filled.run(lambda c: roll(c, rolling.HOURS, TODAY, 17)):
        assert await filled.run(total) == before
    assert await filled.run(counted) == [0, 0, len(CHANNELS) * 2]
    while await filled.run(lambda c: roll(c, rolling.DAYS, TODAY, 4)):
        pass
    assert set((await filled.run(total)).values()) == {0}


async def test_what_is_not_old_stays(filled: Database) -> None:
    recent = TODAY - 600
    newer = metadata.tables["channel_minutes"].c.minute >= recent
    kept = sa.select(sa.func.count()).where(newer)
    count = await filled.run(lambda c: c.scalar(kept))
    await filled.run(lambda c: roll(c, rolling.MINUTES, recent, 1_000))
    assert count
    assert (await filled.run(counted))[0] == count


async def test_what_comes_late_is_added_to_its_hour(filled: Database) -> None:
    await filled.run(lambda c: roll(c, rolling.MINUTES, TODAY, 1_000))
    before = await filled.run(total)
    late = minute_row(Random(1), CHANNELS[0], TODAY - 30, node=3)
    await filled.run(lambda c: insert(c, [late]))
    assert await filled.run(lambda c: roll(c, rolling.MINUTES, TODAY, 1_000)) == 2
    after = await filled.run(total)
    assert after["attempts"] == before["attempts"] + late["attempts"]
    assert after["l7"] == before["l7"] + late["l7"]
    assert (await filled.run(counted))[0] == 0


@pytest.mark.parametrize("size", [HOUR, DAY])
async def test_a_series_is_the_same_however_much_is_rolled_up(filled: Database, size: int) -> None:
    def series(connection: Connection) -> dict[int, statistics.ChannelSums]:
        return statistics.channel_series(
            connection,
            SIGHT,
            CHANNELS,
            since_minute=TODAY - 3 * DAY,
            until_minute=TODAY,
            size=size,
        )

    before = await filled.run(series)
    assert sum(one.attempts for one in before.values()) == (await filled.run(total))["attempts"]
    assert all(start % size == 0 for start in before)
    await filled.run(lambda c: roll(c, rolling.MINUTES, TODAY - DAY - 90, 50))
    assert await filled.run(series) == before
    await filled.run(lambda c: roll(c, rolling.MINUTES, TODAY, 1_000))
    assert await filled.run(series) == before
    if size == DAY:
        await filled.run(lambda c: roll(c, rolling.HOURS, TODAY, 1_000))
        assert await filled.run(series) == before

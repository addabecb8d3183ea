"""Which lanes have failed for long, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database
from tests.storage.control.test_borders import World

from tocsin.storage.control import failing, lanes
from tocsin.storage.control.failing import Failure
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import lanes as lanes_table

pytestmark = pytest.mark.anyio

WORLDS = [World(letter) for letter in "abcde"]
FAILED: tuple[dict[str, Any], ...] = (
    {"failing_since_ms": 50, "failing_streak": 10},
    {"failing_since_ms": 51, "failing_streak": 10},  # not for long enough
    {"failing_since_ms": 50, "failing_streak": 9},  # too few
    {"failing_since_ms": 50, "failing_streak": 10, "parked": "disabled"},
    {"failing_since_ms": 1, "failing_streak": 99},
)


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        for world, values in zip(WORLDS, FAILED, strict=True):
            world.make(connection)
            connection.execute(
                sa.update(lanes_table)
                .where(lanes_table.c.channel_id == world.channel_id)
                .values(values)
            )

    await database.run(fill)
    return database


async def test_a_walk_in_bounded_steps(filled: Database) -> None:
    above: str | None = ""
    found: list[Failure] = []
    looks = 0
    while above is not None:
        some, above = await filled.run(
            lambda c, at=above: failing.look(c, above=at, limit=2, before_ms=50, streak_min=10)  # type: ignore[misc]
        )
        found += some
        looks += 1
    assert looks == 3
    first, last = WORLDS[0], WORLDS[-1]
    assert found == [
        Failure(first.channel_id, first.organization_id, 50, 10),
        Failure(last.channel_id, last.organization_id, 1, 99),
    ]


async def test_the_last_look(filled: Database) -> None:
    world, other = WORLDS[0], WORLDS[1]
    failure = Failure(world.channel_id, world.organization_id, 50, 10)
    assert await filled.run(lambda c: failing.still(c, world.sight, failure))
    assert not await filled.run(lambda c: failing.still(c, other.sight, failure))
    older = Failure(world.channel_id, world.organization_id, 49, 10)
    assert not await filled.run(lambda c: failing.still(c, world.sight, older))
    await filled.run(lambda c: lanes.park(c, world.sight, world.channel_id, version=2))
    assert not await filled.run(lambda c: failing.still(c, world.sight, failure))

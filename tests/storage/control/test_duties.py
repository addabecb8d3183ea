"""Which node does what only one does: a duty is free when its time is up, or its node is gone."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database

from tocsin.storage.control import duties
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import nodes
from tocsin.storage.watch_tables import duties as rows

pytestmark = pytest.mark.anyio

FAR_MS = 2**50
"""After any moment of either clock."""
NOW_MS = 1_000


@pytest.fixture
async def two_nodes(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        both = [{"number": n, "started_at": 1, "lease_until_ms": FAR_MS} for n in (1, 2)]
        connection.execute(sa.insert(nodes), both)

    await database.run(fill)
    return database


async def takes(database: Database, node: int, name: str = "a", **given: Any) -> bool:
    times = {"lasts_ms": 30_000, "now_ms": NOW_MS, **given}
    return await database.run(lambda c: duties.take(c, name, node=node, **times))


async def change(database: Database, statement: Any) -> None:
    await database.run(lambda c: c.execute(statement).rowcount)


async def test_the_first_has_it_and_keeps_it(two_nodes: Database) -> None:
    assert await takes(two_nodes, 1)
    assert not await takes(two_nodes, 2)
    assert await takes(two_nodes, 1)
    assert await takes(two_nodes, 2, "another one")


async def test_it_is_free_when_its_time_is_up(two_nodes: Database) -> None:
    assert await takes(two_nodes, 1)
    await change(two_nodes, sa.update(rows).values(until_ms=NOW_MS))
    assert await takes(two_nodes, 2)
    assert not await takes(two_nodes, 1)


async def test_it_is_free_when_its_node_is_gone(two_nodes: Database) -> None:
    assert await takes(two_nodes, 1, lasts_ms=FAR_MS)
    await change(two_nodes, sa.update(nodes).where(nodes.c.number == 1).values(lease_until_ms=0))
    assert await takes(two_nodes, 2)
    await change(two_nodes, sa.delete(nodes).where(nodes.c.number == 2))
    assert await takes(two_nodes, 3)


async def test_it_is_free_when_it_is_given_up(two_nodes: Database) -> None:
    for name in ("a", "b"):
        assert await takes(two_nodes, 1, name)
    assert await takes(two_nodes, 2, "c")
    await database_gives_up(two_nodes, 1)
    assert await takes(two_nodes, 2, "a")
    assert await takes(two_nodes, 2, "b")
    assert not await takes(two_nodes, 1, "c")


async def database_gives_up(database: Database, node: int) -> None:
    await database.run(lambda c: duties.give_up(c, node=node))

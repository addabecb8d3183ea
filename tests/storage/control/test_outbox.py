"""What is to be told, on both databases: oldest first, with its channel as it is now."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database
from tests.storage.control.test_borders import World, id_of

from tocsin.storage.control import channels, outbox
from tocsin.storage.control.outbox import GivenUp, Pending, Subject
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import lanes
from tocsin.storage.watch_tables import channel_minutes

pytestmark = pytest.mark.anyio

A, B, C = WORLDS = [World(letter) for letter in "abc"]


def subject(world: World) -> Subject:
    return Subject(
        id=world.channel_id,
        organization_id=world.organization_id,
        project_id=world.project_id,
        name="hook",
        type="webhook",
    )


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        for world in WORLDS:
            world.make(connection)

    await database.run(fill)
    return database


async def put(database: Database, world: World, id: str, **values: Any) -> None:
    said: dict[str, Any] = {"kind": "channel.failing", "channel_id": world.channel_id, "at": 5}
    await database.run(
        lambda c: outbox.put(c, world.sight, id=id, body={"n": "•"}, **(said | values))
    )


async def test_the_oldest_first_and_what_was_told_is_gone(filled: Database) -> None:
    await put(filled, B, "2" * 24)
    await put(filled, A, "1" * 24)
    await put(filled, A, "3" * 24, kind="alert", channel_id=None)
    found = await filled.run(lambda c: outbox.pending(c, limit=2))
    assert found == [
        Pending(
            id=number * 24,
            organization_id=world.organization_id,
            kind="channel.failing",
            channel_id=world.channel_id,
            at=5,
            body='{"n":"•"}',
            subject=subject(world),
        )
        for number, world in (("1", A), ("2", B))
    ]
    await filled.run(lambda c: outbox.remove(c, ["2" * 24, "1" * 24, "9" * 24]))
    (last,) = await filled.run(lambda c: outbox.pending(c, limit=2))
    assert (last.kind, last.channel_id, last.subject) == ("alert", None, None)


async def test_a_channel_that_is_gone_or_anothers_is_none(filled: Database) -> None:
    await put(filled, A, "1" * 24)
    await put(filled, A, "2" * 24, channel_id=B.channel_id)
    await put(filled, A, "3" * 24, channel_id="0" * 24)
    await filled.run(lambda c: channels.delete(c, A.sight, A.channel_id, now_ms=5))
    found = await filled.run(lambda c: outbox.pending(c, limit=9))
    assert [row.subject for row in found] == [None, None, None]


async def test_what_was_given_up_in_a_minute(filled: Database) -> None:
    def count(connection: Connection) -> None:
        for world, minute, node, exhausted in (
            (A, 7, 1, 2),
            (A, 7, 2, 3),
            (A, 8, 1, 9),
            (B, 7, 1, 0),
            (B, 8, 1, 1),
            (C, 7, 1, 4),
        ):
            counts = dict.fromkeys(("attempts", "failed", "delivered"), 9)
            row = {
                "channel_id": world.channel_id,
                "minute": minute,
                "node": node,
                "organization_id": world.organization_id,
                "exhausted": exhausted,
            }
            connection.execute(sa.insert(channel_minutes).values(row | counts))
        of_a = lanes.c.channel_id == A.channel_id
        connection.execute(sa.update(lanes).where(of_a).values(last_error="timeout"))
        channels.delete(connection, C.sight, C.channel_id, now_ms=5)

    await filled.run(count)
    found = await filled.run(lambda c: outbox.given_up(c, minute=7, above="", limit=1))
    five = GivenUp(subject=subject(A), minute=7, count=5, last_error="timeout")
    assert found == ([five], A.channel_id)
    # The next one is of a channel that is gone.
    again = A.channel_id
    found = await filled.run(lambda c: outbox.given_up(c, minute=7, above=again, limit=1))
    assert found == ([], C.channel_id)
    found = await filled.run(lambda c: outbox.given_up(c, minute=7, above=id_of("c", 4), limit=1))
    assert found == ([], None)
    both, further = await filled.run(lambda c: outbox.given_up(c, minute=8, above="", limit=9))
    assert [(one.subject.id, one.count) for one in both] == [(A.channel_id, 9), (B.channel_id, 1)]
    assert further is None

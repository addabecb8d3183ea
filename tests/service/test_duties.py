"""Two nodes on one PostgreSQL: what one of them does, the other leaves alone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest
import sqlalchemy as sa
from msgspec import Struct
from tests.postgres import server
from tests.storage.stores import (
    ORGANIZATION,
    make_channel,
    make_organization,
    new_id,
    now_ms,
)

from tocsin.clock import Clock
from tocsin.domain.errors import Unavailable
from tocsin.domain.model import ChannelId
from tocsin.service.changes import Changes
from tocsin.service.duties import SPARE_SECONDS, Duties
from tocsin.service.jobs import JobRunner
from tocsin.service.routing import Routing
from tocsin.service.sight import Sight
from tocsin.storage.control import jobs, work
from tocsin.storage.postgres import PostgresStore
from tocsin.storage.tables import deliveries
from tocsin.storage.watch_tables import duties as duty_rows

pytestmark = pytest.mark.anyio

SIGHT = Sight(ORGANIZATION)
WAITING = 2 * work.ROWS_MAX + 2_000


class Node(Struct):
    dsn: str
    store: PostgresStore
    duties: Duties
    runner: JobRunner


NewNode = Callable[[], Awaitable[Node]]


@pytest.fixture
async def new_node() -> AsyncIterator[NewNode]:
    """Starts nodes on one database, which has an organization."""
    name = server().migrated()
    async with AsyncExitStack() as stack:

        async def start() -> Node:
            dsn = server().dsn(name)
            store = PostgresStore(dsn, wall_ms=now_ms, storage_ms=now_ms)
            await stack.enter_async_context(store)
            clock = Clock()
            changes = Changes(store=store, clock=clock, new_id=new_id, routing=Routing(store))
            runner = JobRunner(changes, wake=lambda due_ms: None)
            return Node(dsn, store, Duties(store, clock), runner)

        yield start
    server().drop(name)


async def nothing() -> None:
    pass


async def does(node: Node, name: str = "a", seconds: float = 1.0) -> bool:
    return await node.duties.do(name, seconds, nothing)


async def test_one_of_two_does_it_until_it_stops(new_node: NewNode) -> None:
    one, other = await new_node(), await new_node()
    assert await does(one)
    assert await does(one)
    assert not await does(other)
    assert await does(other, "b")
    await one.duties.give_up()
    assert await does(other)
    assert not await does(one)
    assert not await does(one, "b")


async def test_a_node_that_is_gone_leaves_it(new_node: NewNode) -> None:
    one, other = await new_node(), await new_node()
    assert await does(one, seconds=3_600)
    assert not await does(other, seconds=3_600)
    await one.store.__aexit__(None, None, None)
    assert await does(other, seconds=3_600)


async def test_it_is_kept_while_the_work_goes_on(new_node: NewNode) -> None:
    node = await new_node()
    until_ms = sa.select(duty_rows.c.until_ms)

    async def long() -> None:
        first = await node.store.read(lambda c: c.scalar(until_ms))
        async with asyncio.timeout(60):
            while await node.store.read(lambda c: c.scalar(until_ms)) == first:
                pass

    # A lease of 1.5 s in all.
    assert await node.duties.do("a", 1.5 - SPARE_SECONDS, long)


async def test_what_goes_wrong_is_told_and_does_not_hang(new_node: NewNode) -> None:
    node = await new_node()

    async def fail() -> None:
        raise Unavailable("The database is not available.")

    with pytest.raises(Unavailable):
        await node.duties.do("a", 1.0, fail)
    running = asyncio.create_task(node.duties.do("a", 1.0, asyncio.Event().wait))
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await running


async def backlog(node: Node, channel_id: ChannelId, count: int) -> str:
    """A job that cancels so many waiting deliveries; returns its id."""
    stamp = now_ms()
    waiting = [
        {
            "id": new_id(),
            "event_id": new_id(),
            "organization_id": ORGANIZATION,
            "channel_id": channel_id,
            "event_type": "a",
            "origin": "event",
            "status": "waiting",
            "due_ms": stamp,
            "node": 0,
            "claim": 0,
            "step": 0,
            "attempt_count": 0,
            "lost": 0,
            "created_at": stamp,
        }
        for _ in range(count)
    ]

    def make(connection: sa.Connection) -> str:
        connection.execute(sa.insert(deliveries), waiting)
        return jobs.create(
            connection,
            SIGHT,
            id=new_id(),
            kind=work.CANCEL_BACKLOG,
            channel_id=channel_id,
            internal=False,
            arguments={"through": new_id()},
            now_ms=stamp,
        ).id

    return await node.store.write(make)


async def told(node: Node, job_id: str) -> tuple[str, int]:
    job = await node.store.read(lambda c: jobs.get(c, SIGHT, job_id))
    return job.status, job.done


async def test_a_job_on_three_nodes_at_once_is_counted_once(new_node: NewNode) -> None:
    nodes = [await new_node() for _ in range(3)]
    await make_organization(nodes[0].store)
    channel_id = await make_channel(nodes[0].store)
    job_id = await backlog(nodes[0], channel_id, WAITING)

    async def run(node: Node) -> None:
        while (await told(node, job_id))[0] == jobs.RUNNING:
            await node.runner.run_once()

    async with asyncio.timeout(120):
        await asyncio.gather(*map(run, nodes))
    assert await told(nodes[0], job_id) == (jobs.DONE, WAITING)


async def test_a_node_paused_in_a_step_holds_up_nothing_else(new_node: NewNode) -> None:
    node = await new_node()
    await make_organization(node.store)
    paused = await backlog(node, await make_channel(node.store), 3)
    free = await backlog(node, await make_channel(node.store), 4)
    in_step, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        """What a stopped node leaves in the database, for as long as that bears it."""
        connection = await asyncpg.connect(node.dsn)
        await connection.execute("BEGIN")
        await connection.fetch("SELECT id FROM jobs WHERE id = $1 FOR UPDATE", paused)
        in_step.set()
        await go_on.wait()
        await connection.close()

    holding = asyncio.create_task(hold())
    await in_step.wait()
    assert await node.runner.run_once() == 1
    assert await told(node, paused) == (jobs.RUNNING, 0)
    assert await told(node, free) == (jobs.DONE, 4)
    go_on.set()
    await holding
    assert await node.runner.run_once() == 1
    assert await told(node, paused) == (jobs.DONE, 3)

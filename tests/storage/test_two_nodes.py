"""Two nodes on one PostgreSQL: what each sees of the other, and clocks that differ."""

import logging
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from tests.postgres import server
from tests.storage.stores import (
    ORGANIZATION,
    claim,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    settlement,
)

from tocsin.clock import Clock
from tocsin.domain.model import DeliveryId, Status
from tocsin.service.sight import Sight
from tocsin.storage.control import deliveries
from tocsin.storage.postgres import PostgresStore
from tocsin.storage.tables import nodes

pytestmark = pytest.mark.anyio

SIGHT = Sight(ORGANIZATION)


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    """A migrated database."""
    name = server().migrated()
    yield server().dsn(name)
    server().drop(name)


def clock_ahead(ms: int) -> Clock:
    """A node's own clock that is ahead by so much."""
    return Clock(wall_ns=lambda: (now_ms() + ms) * 1_000_000)


def on(dsn: str, clock: Clock | None = None) -> PostgresStore:
    """A node with this clock."""
    clock = clock or Clock()
    return PostgresStore(
        dsn, wall_ms=clock.wall_ms, storage_ms=clock.storage_ms, measured=clock.follow
    )


async def seen(store: PostgresStore, delivery_id: DeliveryId) -> Status:
    at = deliveries.Now(storage_ms=now_ms(), wall_ms=now_ms(), nodes=(store.node,))
    return await store.read(lambda c: deliveries.get(c, SIGHT, at, delivery_id).status)


async def listed(store: PostgresStore, status: Status) -> list[str]:
    at = deliveries.Now(storage_ms=now_ms(), wall_ms=now_ms(), nodes=(store.node,))
    page = await store.read(
        lambda c: deliveries.walk(c, SIGHT, at, status=status, limit=10, below=None)
    )
    return [delivery.id for delivery in page.items]


async def test_what_another_live_node_holds_reads_as_being_sent(dsn: str) -> None:
    async with on(dsn) as first, on(dsn) as second:
        await make_organization(first)
        event = new_event(await make_channel(first))
        await first.add([event])
        held = event.deliveries[0].id
        for store in (first, second):
            assert await seen(store, held) is Status.SENDING
            assert await listed(store, Status.SENDING) == [held]
            assert await listed(store, Status.WAITING) == []
        # Its lease has ended: what it holds waits to be freed.
        ended = sa.update(nodes).where(nodes.c.number == first.node).values(lease_until_ms=0)
        await second.write(lambda c: c.execute(ended).rowcount)
        assert await seen(second, held) is Status.WAITING
        assert await listed(second, Status.WAITING) == [held]


@pytest.mark.parametrize(("ahead_ms", "said"), [(10_000, "ahead of"), (-10_000, "behind")])
async def test_a_clock_that_differs_is_told_with_the_figure(
    dsn: str, caplog: pytest.LogCaptureFixture, ahead_ms: int, said: str
) -> None:
    with caplog.at_level(logging.WARNING, "tocsin.storage"):
        async with on(dsn, clock_ahead(ahead_ms)):
            pass
    (told,) = (record.getMessage() for record in caplog.records if "clock" in record.getMessage())
    assert said in told
    # The server is on this machine; its answer may have been some time on its way.
    figure = float(told.split(" s ")[0].split()[-1])
    assert abs(figure - 10) <= 5


async def test_a_node_whose_clock_is_10_s_off_delays_and_hurries_nothing(dsn: str) -> None:
    """Due moments are the database's: what either publishes is due at once for the other, and a
    retry that is due in ten minutes is that for both."""
    clocks = clock_ahead(10_000), clock_ahead(-10_000)
    async with on(dsn, clocks[0]) as ahead, on(dsn, clocks[1]) as behind:
        await make_organization(ahead)
        channel = await make_channel(ahead)
        both = list(zip((ahead, behind), clocks, strict=True))
        for (publisher, its), (taker, other) in (both, both[::-1]):
            event = new_event(channel, claim=False, due_ms=its.storage_ms())
            await publisher.add([event])
            # How far apart the clocks are is measured over a way that takes its time.
            (held,) = await claim(taker, other.storage_ms() + 5_000)
            assert held.id == event.deliveries[0].id
            due_ms = other.storage_ms() + 600_000
            await taker.settle([settlement(held, Status.WAITING, due_ms=due_ms)])
            for store, clock in both:
                assert await claim(store, clock.storage_ms()) == []
                assert abs(due_ms - clock.storage_ms() - 600_000) <= 300_000

"""What only PostgreSQL can do to a store: go away, end a session, be read-only, be shared."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import sqlalchemy as sa
from tests.blackbox.cluster import CHAOS_SECONDS
from tests.postgres import PostgresServer, server
from tests.storage.pooling import pooling
from tests.storage.stores import (
    AnyStore,
    born,
    claim,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    one,
    open_store,
    rows,
    settlement,
)

from tocsin.domain.errors import Unavailable
from tocsin.domain.model import ChannelId, Event, EventId, Status
from tocsin.storage.base import Held, Stored
from tocsin.storage.postgres import PostgresStore, Started, StoreRefused
from tocsin.storage.postgres.nodes import LEASE_MS
from tocsin.storage.postgres.partitions import bound_of, name_of
from tocsin.storage.tables import organizations
from tocsin.telemetry.families import STORE_TRANSACTIONS

pytestmark = pytest.mark.anyio

HEALED_SECONDS_MAX = 60.0
SETTLED_MIN = 13
"""So much each of them has to do, however slow the machine is, to have been in another's way."""
OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[str]:
    """A migrated database with an organization, for several stores at once."""
    name = server().migrated()
    async with opened(name) as store:
        await make_organization(store)
    yield server().dsn(name)
    server().drop(name)


@asynccontextmanager
async def opened(database: str, **options: Any) -> AsyncIterator[PostgresStore]:
    dsn = database if "://" in database else server().dsn(database)
    given: dict[str, Any] = {"wall_ms": now_ms, "storage_ms": now_ms, **options}
    async with PostgresStore(dsn, **given) as store:
        yield store


async def within(work: Callable[[], Awaitable[Any]], seconds: float = HEALED_SECONDS_MAX) -> Any:
    """What it answers, as soon as it is available again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except Unavailable:
            assert time.monotonic() < deadline, "it does not heal"
            await asyncio.sleep(0.05)


async def test_a_store_heals_after_its_sessions_were_ended(database: str) -> None:
    async with opened(database) as store:
        channel = await make_channel(store)
        events = [new_event(channel) for _ in range(3)]
        await store.add(events)
        name = database.rpartition("/")[2]
        server().command(OTHERS, name)
        items = [settlement(born(event)) for event in events]
        assert (await within(lambda: store.settle(items))).superseded == []
        (answer,) = await within(lambda: store.add([new_event(channel)]))
        assert isinstance(answer, Stored)
        assert len(await within(lambda: rows(store, "SELECT * FROM attempts"))) == 3
        assert await within(lambda: store.check_lanes(now_ms())) == 0


async def test_a_server_that_crashes_loses_nothing_and_is_found_again(tmp_path: Path) -> None:
    if not server().own:
        pytest.skip("the server named by TOCSIN_TEST_POSTGRES_DSN is not to be stopped")
    crashing = PostgresServer()
    try:
        name = crashing.migrated()
        async with opened(crashing.dsn(name)) as store:
            await make_organization(store)
            channel = await make_channel(store)
            events = [new_event(channel) for _ in range(5)]
            await store.add(events)
            await asyncio.to_thread(crashing.stop)
            with pytest.raises(Unavailable):
                await store.settle([settlement(born(events[0]))])
            with pytest.raises(Unavailable):
                await store.add([new_event(channel)])
            with pytest.raises(Unavailable):
                await store.read(lambda c: c.execute(sa.text("SELECT 1")).scalar())
            with pytest.raises(Unavailable):
                await store.write(lambda c: c.execute(sa.text("SELECT 1")).scalar())
            await asyncio.to_thread(crashing.start)
            items = [settlement(born(event)) for event in events]
            assert (await within(lambda: store.settle(items))).superseded == []
            found = await within(lambda: rows(store, "SELECT DISTINCT status FROM deliveries"))
            assert found == [{"status": "delivered"}]
    finally:
        crashing.close()


async def test_a_database_that_is_read_only_is_refused(database: str) -> None:
    name = database.rpartition("/")[2]
    server().command(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(StoreRefused, match="read-only"):
        async with opened(database):
            pass


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(StoreRefused, match=r"postgresql://127.0.0.1:1/x") as caught:
        async with opened("postgresql://me:hidden@127.0.0.1:1/x"):
            pass
    assert "hidden" not in str(caught.value)


async def test_commits_are_durable_whatever_the_database_says(database: str) -> None:
    name = database.rpartition("/")[2]
    server().command(f"ALTER DATABASE {name} SET synchronous_commit = off")
    shown: list[str] = []

    class Watched(asyncpg.Connection):
        writing = False

        async def execute(self, query: str, *args: Any, **options: Any) -> str:
            if query.startswith("BEGIN"):
                self.writing = query != "BEGIN"  # what looks at the server writes nothing
            if query == "COMMIT" and self.writing:
                shown.append(str(await self.fetchval("SHOW synchronous_commit")))
            return await super().execute(query, *args, **options)

    for prepared in (True, False):
        async with opened(database, connection_class=Watched, prepared=prepared) as store:
            await store.add([new_event(await make_channel(store))])

            def control(connection: sa.Connection) -> str:
                return str(connection.exec_driver_sql("SHOW synchronous_commit").scalar())

            assert await store.write(control) == "on"
    assert set(shown) == {"on"}


async def test_rows_of_any_day_find_a_partition(database: str) -> None:
    """What is far from today, by a clock that is wrong: made when it comes, not refused."""
    async with opened(database) as store:
        channel = await make_channel(store)
        days = (0, 1, 20_000, 40_000, 2**48 // 86_400_000)
        events = []
        for day in days:
            event = new_event(channel)
            head = bound_of(day)
            event.event = Event(
                id=EventId(head + "0" * 11 + "1"),
                organization_id=event.event.organization_id,
                project_id=None,
                type="a",
                data=b"1",
                occurred_at=1,
                created_at=1,
            )
            events.append(event)
        answers = await store.add(events)
        assert all(isinstance(answer, Stored) for answer in answers)
        found = await rows(store, "SELECT tableoid::regclass::text AS name FROM events ORDER BY id")
        assert [row["name"] for row in found] == [name_of("events", day) for day in days]


async def test_whoever_waits_for_the_turn_goes_together(database: str) -> None:
    async with opened(database) as store:
        channel = await make_channel(store)
        first, second = new_event(channel), new_event(channel)
        await store.turn()  # nothing is under way
        await store.add([first])
        blocker = await asyncpg.connect(database)
        try:
            async with blocker.transaction():
                await blocker.execute("SELECT FROM lanes WHERE channel_id = $1 FOR UPDATE", channel)
                third = asyncio.create_task(store.add([new_event(channel)]))
                for _ in range(10):
                    await asyncio.sleep(0)  # it has begun

                async def settle() -> None:
                    await store.turn()
                    await store.settle([settlement(born(first))])

                async def add() -> None:
                    await store.turn()
                    await store.add([second])

                both = asyncio.gather(settle(), add())
                await asyncio.sleep(0)
                assert not third.done()
            await asyncio.gather(third, both)
        finally:
            await blocker.close()
        # What one transaction has written bears its number.
        attempt = await one(store, "SELECT xmin::text AS number FROM attempts")
        event = await one(
            store, f"SELECT xmin::text AS number FROM events WHERE id = '{second.event.id}'"
        )
        assert attempt["number"] == event["number"]


async def test_two_nodes_claim_nothing_twice(database: str) -> None:
    async with opened(database) as first, opened(database) as second:
        assert first.node != second.node
        channels = [await make_channel(first) for _ in range(4)]
        events = [new_event(*channels, claim=False) for _ in range(100)]
        await first.add(events)
        held: list[str] = []

        async def take(store: PostgresStore) -> None:
            while True:
                claims = await store.claim(
                    now_ms=now_ms() + 10, room=7, bytes_max=10**6, lane_room=5, full=[]
                )
                held.extend(item.id for item in claims.held)
                if not claims.held and claims.next_due_ms is None:
                    return

        async with asyncio.timeout(60):
            await asyncio.gather(take(first), take(second))
        assert len(held) == 400
        assert len(set(held)) == 400


async def test_one_node_serves_an_exclusive_lane(database: str) -> None:
    async with opened(database) as second:
        async with opened(database) as first:
            channel = await make_channel(first)
            await first.write(
                lambda c: c.execute(sa.text("UPDATE lanes SET exclusive = true")).rowcount
            )
            (answer,) = await first.add([new_event(channel)])
            assert isinstance(answer, Stored)
            assert len(answer.claimed) == 1
            assert await second.add([new_event(channel)]) == [Stored([])]
            assert await claim(second) == []
            assert len(await claim(first)) == 1
            await second.add([new_event(channel)])
        # The first has gone in good order: its lane is there to be taken over.
        assert len(await claim(second)) == 1


async def test_the_next_process_of_a_place_takes_over_its_exclusive_lanes_at_once(
    database: str,
) -> None:
    """It knows that the one before it is dead: nobody waits for the end of that one's lease."""
    nodes: list[Started] = []
    async with opened(database, numbered=nodes.append) as killed:
        channel = await make_channel(killed)
        await killed.write(
            lambda c: c.execute(sa.text("UPDATE lanes SET exclusive = true")).rowcount
        )
        await killed.add([new_event(channel)])
        async with opened(database, before=nodes[0]) as store:
            assert len(await claim(store)) == 1
            (answer,) = await store.add([new_event(channel)])
            assert isinstance(answer, Stored)
            assert len(answer.claimed) == 1


async def test_a_place_that_comes_from_another_database_buries_nobody(database: str) -> None:
    """The number in its file is another node's here, which is alive."""
    nodes: list[Started] = []
    async with opened(database, numbered=nodes.append) as alive:
        channel = await make_channel(alive)
        await alive.add([new_event(channel)])
        foreign = Started(nodes[0].number, nodes[0].at - 1)
        async with opened(database, before=foreign) as store:
            assert await claim(store) == []
            there = f"SELECT number FROM nodes WHERE number = {alive.node}"
            assert len(await rows(store, there)) == 1


async def test_what_a_lapsed_node_holds_is_freed_and_counted(database: str) -> None:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(database))
        channel = await make_channel(store)
        events = [new_event(channel) for _ in range(3)]
        await store.add(events)
        await store.settle([settlement(born(events[0]))])
        # As if it had been gone for longer than its lease; it finds out by itself later.
        number = store.node
        end = f"UPDATE nodes SET lease_until_ms = 1 WHERE number = {number}"
        await store.write(lambda c: c.execute(sa.text(end)).rowcount)
        other = await stack.enter_async_context(opened(database))
        held: list[Held] = []
        deadline = time.monotonic() + 2 * HEALED_SECONDS_MAX
        while len(held) < 2:
            assert time.monotonic() < deadline
            held += await claim(other)
            await asyncio.sleep(0.1)
        assert {(item.claim, item.lost) for item in held} == {(2, 1)}
        late = await store.settle([settlement(born(events[1]), Status.WAITING)])
        assert late.superseded == [events[1].deliveries[0].id]


async def test_a_node_whose_lease_was_ended_starts_anew(database: str) -> None:
    lost: list[int] = []
    nodes: list[Started] = []
    async with opened(database, lost=lambda: lost.append(1), numbered=nodes.append) as store:
        channel = await make_channel(store)
        event = new_event(channel)
        await store.add([event])
        number, epoch = store.node, store.epoch
        assert store.lease_until > time.monotonic()
        assert store.lease_until <= time.monotonic() + LEASE_MS / 1000
        end = f"UPDATE nodes SET lease_until_ms = 0 WHERE number = {number}"
        await store.write(lambda c: c.execute(sa.text(end)).rowcount)
        deadline = time.monotonic() + HEALED_SECONDS_MAX
        while store.epoch == epoch:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        assert store.node != number
        assert lost
        assert [node.number for node in nodes] == [number, store.node]
        # Nobody else has taken it meanwhile: what was under way counts.
        assert (await store.settle([settlement(born(event))])).superseded == []


async def test_what_is_freed_wakes_another_node(database: str) -> None:
    woken = asyncio.Event()
    async with opened(database) as first, opened(database, woken=woken.set):
        channel = await make_channel(first)
        deadline = time.monotonic() + HEALED_SECONDS_MAX
        while not woken.is_set():
            assert time.monotonic() < deadline
            await first.add([new_event(channel, claim=False)])
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "seconds", [3, pytest.param(60 if CHAOS_SECONDS else 10, marks=pytest.mark.long)]
)
async def test_two_nodes_on_ten_channels_never_wait_in_a_circle(
    patience: None, database: str, seconds: int
) -> None:
    """Everything at once, in any order of channels: no deadlock is ever counted."""
    name = database.rpartition("/")[2]
    seen = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{name}'"
    async with opened(database) as first, opened(database) as second:
        channels = [await make_channel(first) for _ in range(10)]
        until = time.monotonic() + seconds
        settled = sum(
            await asyncio.gather(
                *(work(store, channels, until) for store in (first, second) for _ in range(4)),
                *(disturb(store, channels, until) for store in (first, second)),
            )
        )
    assert settled >= 8 * SETTLED_MIN
    assert server().command(seen)[0]["deadlocks"] == 0


async def work(store: PostgresStore, channels: list[ChannelId], until: float) -> int:
    """Publish, claim, settle and release, to channels in ever another order."""
    orders = itertools.cycle(itertools.permutations(channels[::3], 4))
    settled = 0
    while time.monotonic() < until or settled < SETTLED_MIN:
        version = (await one_version(store))["version"]
        order = next(orders)
        events = [new_event(*order[at:], claim=at % 2 == 0, version=version) for at in range(4)]
        answers = await store.add(events)
        held = await claim(store, room=50)
        for event, answer in zip(events, answers, strict=True):
            if isinstance(answer, Stored):
                taken = set(answer.claimed)
                held += [born(event, at) for at, d in enumerate(event.deliveries) if d.id in taken]
        items = [settlement(item) for item in reversed(held[: len(held) // 2 + 1])]
        if len(items) > 3:
            items[1] = settlement(held[-1], Status.WAITING) if len(held) > 4 else items[1]
        if items:
            await store.settle(items)
        rest = [(i.id, i.claim, i.channel_id) for i in held[len(held) // 2 + 1 :]]
        if rest:
            await store.release(rest)
        settled += len(items)
    return settled


async def one_version(store: AnyStore) -> dict[str, Any]:
    return await one(store, "SELECT version FROM organizations")


async def disturb(store: PostgresStore, channels: list[ChannelId], until: float) -> int:
    """Control changes: an organization's version, then lanes, as every one of them does it."""
    for channel_id in itertools.cycle(channels):
        if time.monotonic() >= until:
            break

        def change(connection: sa.Connection, channel_id: ChannelId = channel_id) -> None:
            connection.execute(sa.update(organizations).values(version=organizations.c.version + 1))
            connection.execute(
                sa.text("UPDATE lanes SET failing_streak = 0 WHERE channel_id = :c"),
                {"c": channel_id},
            )

        await store.write(change)
        await store.check_lanes(now_ms())
        await asyncio.sleep(0.05)
    return 0


async def test_the_contract_of_a_place_holds_across_lives(tmp_path: Path) -> None:
    """Numbers are never used twice, and partitions are made ahead of the day they are needed."""
    async with open_store("postgres", tmp_path) as store:
        first = store.node
        tomorrow = name_of("events", now_ms() // 86_400_000 + 7)
        found = await one(store, f"SELECT to_regclass('{tomorrow}') IS NOT NULL AS there")
        assert found["there"]
    async with open_store("postgres", tmp_path) as store:
        assert store.node > first


async def test_a_proxy_may_give_each_transaction_another_session(database: str) -> None:
    place = urlsplit(database)
    assert place.hostname is not None
    assert place.port is not None
    async with pooling(place.hostname, place.port) as (proxy, port):
        dsn = database.replace(f":{place.port}", f":{port}")
        async with opened(dsn, prepared=False) as store:
            channel = await make_channel(store)
            for _ in range(5):
                event = new_event(channel)
                await store.add([event])
                await store.settle([settlement(born(event), Status.EXHAUSTED)])
            await store.add([new_event(channel, claim=False)])
            held = await claim(store)
            assert len(held) == 1
            await store.release([(held[0].id, held[0].claim, channel)])
            found = await asyncio.gather(
                *(one(store, "SELECT count(*) AS n FROM attempts") for _ in range(5))
            )
            assert {row["n"] for row in found} == {5}
            # Not one had to be done again because a session did not know a statement.
            ends = [one.labels[0] for one in store.samples() if one.family is STORE_TRANSACTIONS]
            assert ends == ["committed"]
        assert proxy.transactions > 20

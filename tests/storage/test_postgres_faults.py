"""On PostgreSQL, too: a failure at every statement of every hot operation loses and sticks nothing.

The session ends before or after the statement, COMMIT included, as it does when a server crashes.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tests.postgres import server
from tests.storage.stores import (
    born,
    claim,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    one,
    rows,
    settlement,
)
from tests.storage.test_postgres import opened, within

from tocsin.domain.errors import Unavailable
from tocsin.domain.model import ChannelId, Status
from tocsin.storage.base import Duplicate, Stored
from tocsin.storage.postgres import PostgresStore

pytestmark = pytest.mark.anyio

STATEMENTS_MAX = 40
COUNT = 5


class Plan:
    """Which statement of the writer fails, once: the `at`-th from `arm` on, COMMIT counted."""

    left = 0
    after = False
    error: Exception | None = None
    fired: str | None = None

    @classmethod
    def arm(cls, at: int, *, after: bool, error: Exception | None = None) -> None:
        cls.left, cls.after, cls.error, cls.fired = at, after, error, None

    @classmethod
    def disarm(cls) -> None:
        cls.left = 0

    @classmethod
    def meets(cls, query: str) -> bool:
        if not cls.left or "synchronous_commit" in query:
            return False
        cls.left -= 1
        if not cls.left:
            cls.fired = " ".join(query.split())
            return True
        return False


class Faulty(asyncpg.Connection):
    """Ends its session, or raises an item's error, where the plan says; the writer's alone."""

    writing = False

    async def _with_fault(self, query: str, work: Callable[[], Awaitable[Any]]) -> Any:
        if query.startswith("BEGIN"):
            self.writing = query.startswith("BEGIN ISOLATION LEVEL READ COMMITTED")
        if any(words in query for words in ("nodes SET", "INTO nodes", "lease_until_ms FROM")):
            self.writing = False  # it is about the lease, on another connection
        if not self.writing or query.startswith("BEGIN") or not Plan.meets(query):
            return await work()
        if Plan.error is not None:
            raise Plan.error
        if Plan.after:
            await work()
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError("injected")

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._with_fault(query, lambda: super(Faulty, self).execute(query, *args))

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._with_fault(query, lambda: super(Faulty, self).fetch(query, *args))

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._with_fault(query, lambda: super(Faulty, self).fetchval(query, *args))

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._with_fault(query, lambda: super(Faulty, self).fetchrow(query, *args))


@pytest.fixture(scope="module")
async def store() -> AsyncIterator[PostgresStore]:
    name = server().migrated()
    async with opened(name, connection_class=Faulty) as made:
        await make_organization(made)
        yield made
    server().drop(name)


async def at_every_statement(work: Callable[[int], Awaitable[bool]]) -> None:
    """Call `work` with 1, 2, … until it says that its fault was not met any more."""
    for at in range(1, STATEMENTS_MAX):
        try:
            met = await work(at)
        finally:
            Plan.disarm()
        if not met:
            assert at > 3, "the operation has hardly a statement"
            return
    raise AssertionError("there is no end of statements")


async def check_all_held_or_free(
    store: PostgresStore, channels: list[ChannelId], held: set[str]
) -> None:
    """Every waiting delivery is in somebody's hands or can be claimed: none is stuck."""
    again = {item.id for item in await within(lambda: claim(store))}
    assert not again & held
    wanted = ", ".join(f"'{channel}'" for channel in channels)
    waiting = await rows(
        store,
        f"SELECT id FROM deliveries WHERE status = 'waiting' AND channel_id IN ({wanted})",
    )
    assert {row["id"] for row in waiting} == (again | held) & {row["id"] for row in waiting}
    assert {row["id"] for row in waiting} >= held


@pytest.mark.parametrize("after", [False, True])
async def test_a_publish_is_stored_whole_or_refused(store: PostgresStore, after: bool) -> None:
    keys = itertools.count()

    async def work(at: int) -> bool:
        channels = [await make_channel(store) for _ in range(2)]
        key = f"{after}-{next(keys)}"
        events = [new_event(*channels) for _ in range(COUNT)]
        events[2].idempotency_key = key
        events[3].deliveries[0].claim = False
        Plan.arm(at, after=after)
        held: set[str] = set()
        try:
            answers = await store.add(events)
            held = {id for a in answers if isinstance(a, Stored) for id in a.claimed}
        except Unavailable:
            assert Plan.fired is not None
        met = Plan.fired is not None
        Plan.disarm()
        wanted = ", ".join(f"'{event.event.id}'" for event in events)
        left = await rows(store, f"SELECT id FROM events WHERE id IN ({wanted})")
        # Nothing but a commit whose error came late may have left anything.
        stored = not met or (after and Plan.fired == "COMMIT")
        assert len(left) == (COUNT if stored else 0), Plan.fired
        await check_all_held_or_free(store, channels, held)
        (second,) = await within(lambda: store.add([new_event(idempotency_key=key)]))
        assert isinstance(second, Duplicate if stored else Stored)
        return met

    await at_every_statement(work)


async def check_noted(store: PostgresStore, channel: str) -> None:
    """Four attempts were counted once: one delivered, one exhausted, and one of a gone target."""
    of_it = f"WHERE channel_id = '{channel}'"
    names = ("attempts", "failed", "delivered", "exhausted")
    counts = await one(store, f"SELECT {', '.join(names)} FROM channel_minutes {of_it}")
    assert tuple(counts.values()) == (4, 3, 1, 1)
    issue = await one(store, f"SELECT occurrence_count FROM issues {of_it}")
    assert issue["occurrence_count"] == 1
    assert (await one(store, f"SELECT kind FROM outbox {of_it}"))["kind"] == "channel.disabled"


@pytest.mark.parametrize("after", [False, True])
async def test_a_settle_is_done_once_whatever_fails(store: PostgresStore, after: bool) -> None:
    async def work(at: int) -> bool:
        channel = await make_channel(store)
        version = (await one(store, "SELECT version FROM organizations"))["version"]
        events = [new_event(channel, version=version) for _ in range(4)]
        await store.add(events)
        held = [born(event) for event in events]
        items = [settlement(held[0]), settlement(held[1], Status.EXHAUSTED)]
        items.append(settlement(held[2], Status.WAITING, due_ms=now_ms() + 10**7))
        items.append(settlement(held[3], Status.WAITING, park="gone"))
        Plan.arm(at, after=after)
        settled = await within(lambda: store.settle(items))
        met = Plan.fired is not None
        Plan.disarm()
        assert [found for _, found in settled.disabled] == [channel]
        found = await rows(
            store,
            "SELECT status, attempt_count FROM deliveries"
            f" WHERE channel_id = '{channel}' ORDER BY id",
        )
        states = ["delivered", "exhausted", "waiting", "waiting"]
        assert [(row["status"], row["attempt_count"]) for row in found] == [(s, 1) for s in states]
        lane = await one(store, f"SELECT * FROM lanes WHERE channel_id = '{channel}'")
        assert (lane["error_count"], lane["parked"]) == (3, "disabled")
        await check_noted(store, channel)
        return met

    await at_every_statement(work)


@pytest.mark.parametrize("after", [False, True])
async def test_a_claim_that_fails_takes_nothing_away(store: PostgresStore, after: bool) -> None:
    async def work(at: int) -> bool:
        channels = [await make_channel(store) for _ in range(2)]
        version = (await one(store, "SELECT version FROM organizations"))["version"]
        await store.add([new_event(*channels, claim=False, version=version) for _ in range(3)])
        Plan.arm(at, after=after)
        held: set[str] = set()
        try:
            held = {item.id for item in await claim(store)}
        except Unavailable:
            assert Plan.fired is not None
        met = Plan.fired is not None
        Plan.disarm()
        await check_all_held_or_free(store, channels, held)
        return met

    await at_every_statement(work)


@pytest.mark.parametrize("after", [False, True])
async def test_a_release_that_fails_is_done_when_it_comes_again(
    store: PostgresStore, after: bool
) -> None:
    async def work(at: int) -> bool:
        channel = await make_channel(store)
        version = (await one(store, "SELECT version FROM organizations"))["version"]
        await store.add([new_event(channel, claim=False, version=version) for _ in range(3)])
        held = [(i.id, i.claim, i.channel_id) for i in await claim(store)]
        Plan.arm(at, after=after)
        await within(lambda: store.release(held))
        met = Plan.fired is not None
        Plan.disarm()
        again = await claim(store)
        assert {item.id for item in again} == {id for id, _, _ in held}
        assert {item.claim for item in again} == {2}
        return met

    await at_every_statement(work)


async def test_an_error_of_an_item_s_statement_costs_nobody(store: PostgresStore) -> None:
    """It is met once: what is tried again by itself goes through."""

    async def work(at: int) -> bool:
        channel = await make_channel(store)
        version = (await one(store, "SELECT version FROM organizations"))["version"]
        events = [new_event(channel, version=version) for _ in range(3)]
        Plan.arm(at, after=False, error=asyncpg.UniqueViolationError("injected"))
        try:
            answers = await store.add(events)
        except Unavailable:
            assert Plan.fired == "COMMIT"
            return True
        met = Plan.fired is not None
        assert all(isinstance(answer, Stored) for answer in answers)
        return met

    await at_every_statement(work)


@pytest.mark.parametrize("error", [asyncpg.DeadlockDetectedError, asyncpg.SerializationError])
async def test_a_deadlock_is_tried_again_unseen(
    store: PostgresStore, error: type[asyncpg.PostgresError]
) -> None:
    channel = await make_channel(store)
    version = (await one(store, "SELECT version FROM organizations"))["version"]
    Plan.arm(2, after=False, error=error("injected"))
    (answer,) = await store.add([new_event(channel, version=version)])
    assert Plan.fired is not None
    assert isinstance(answer, Stored)


async def test_a_value_of_no_storable_type_is_its_item_s_fault(store: PostgresStore) -> None:
    channel = await make_channel(store)
    version = (await one(store, "SELECT version FROM organizations"))["version"]
    events = [new_event(channel, version=version) for _ in range(3)]
    await store.add(events)
    items = [settlement(born(event)) for event in events]
    odd: Any = object()
    items[1].attempt.status_code = odd
    items[2].attempt.error = "a\x00b"
    assert (await store.settle(items)).superseded == []
    found = await rows(
        store, f"SELECT DISTINCT status FROM deliveries WHERE channel_id = '{channel}'"
    )
    assert [row["status"] for row in found] == ["delivered"]

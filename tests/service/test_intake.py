"""A flood by one organization: it alone is refused, and it alone waits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.engine.parts import running
from tests.storage.stores import (
    ORGANIZATION,
    born,
    make_channel,
    make_organization,
    new_event,
    open_store,
    rows,
    settlement,
)

from tocsin.batching import Batcher
from tocsin.domain.errors import RateLimited, Unavailable
from tocsin.domain.model import OrganizationId
from tocsin.service.intake import RETRY_AFTER_SECONDS, Intake
from tocsin.service.publish import EVENTS_WAITING_MAX
from tocsin.storage.base import Added, NewEvent
from tocsin.storage.control.waiting import waiting_of
from tocsin.storage.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

OTHER = OrganizationId("b" * 24)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store("sqlite", tmp_path) as opened:
        assert isinstance(opened, SqliteStore)
        for organization in (ORGANIZATION, OTHER):
            await make_organization(opened, organization)
        yield opened


async def test_who_has_too_much_waiting_is_refused_and_nobody_else(store: SqliteStore) -> None:
    mine, theirs = await make_channel(store), await make_channel(store, OTHER)
    # Held by a node or free, due or not: it waits.
    await store.add([new_event(mine, claim=n % 2 == 0) for n in range(10)])
    await store.add([new_event(theirs, organization_id=OTHER) for _ in range(9)])
    intake = Intake(10)
    intake.admit(ORGANIZATION)
    await intake.count(store)
    with pytest.raises(RateLimited) as refused:
        intake.admit(ORGANIZATION)
    assert refused.value.retry_after_seconds == RETRY_AFTER_SECONDS
    intake.admit(OTHER)


async def test_it_counts_where_it_might_tell_and_lets_in_again(store: SqliteStore) -> None:
    mine = await make_channel(store)
    intake = Intake(10)
    await intake.count(store)
    events = [new_event(mine) for _ in range(10)]
    await store.add(events)
    intake.stored(ORGANIZATION, 10)
    intake.admit(ORGANIZATION)
    await intake.count(store)
    with pytest.raises(RateLimited):
        intake.admit(ORGANIZATION)
    await store.settle([settlement(born(events[0]))])
    await intake.count(store)
    intake.admit(ORGANIZATION)
    await store.settle([settlement(born(event)) for event in events[1:]])
    await store.add([new_event(mine) for _ in range(9)])
    intake.stored(ORGANIZATION, 9)
    await intake.count(store)
    intake.admit(ORGANIZATION)


async def test_a_flood_is_refused_and_others_go_between(tmp_path: Path) -> None:
    """Far more publishes of one organization than may wait: the other's is neither refused nor
    behind them."""
    async with running(tmp_path) as parts:
        await make_organization(parts.store, OTHER)
        order: list[str] = []
        add, opened = parts.store.add, asyncio.Event()

        async def later(events: Sequence[NewEvent]) -> list[Added | Exception]:
            await opened.wait()
            return await add(events)

        parts.store.add = later  # type: ignore[method-assign]

        async def publish(organization: OrganizationId, count: int) -> str:
            try:
                await parts.publish(count, organization=organization)
            except Unavailable:
                return "refused"
            order.append(organization)
            return "accepted"

        flood = [asyncio.create_task(publish(ORGANIZATION, 1_000)) for _ in range(40)]
        while parts.publisher._batcher.fits(ORGANIZATION, EVENTS_WAITING_MAX):  # noqa: ASYNC110
            await asyncio.sleep(0)
        other = asyncio.create_task(publish(OTHER, 10))
        while OTHER not in parts.publisher._batcher._lines:  # noqa: ASYNC110
            await asyncio.sleep(0)
        opened.set()
        answers = Counter([await task for task in flood])
        assert set(answers) == {"accepted", "refused"}, answers
        assert await other == "accepted"
        assert order.index(OTHER) < 5, "only behind what was on its way"
        found = await rows(parts.store, "SELECT count(*) AS n FROM events")
        assert found == [{"n": answers["accepted"] * 1_000 + 10}]


async def test_the_count_walks_the_index_of_what_is_open(store: SqliteStore) -> None:
    await make_channel(store)

    def plan(connection: sa.Connection) -> str:
        asked: list[str] = []
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.set_trace_callback(asked.append)
        waiting_of(connection, ORGANIZATION, 10)
        raw.set_trace_callback(None)
        (select,) = [text for text in asked if "count" in text]
        return " ".join(row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {select}"))

    details = await store.read(plan)
    assert "INDEX deliveries_open (channel_id=?)" in details, details


class Calls:
    """Calls that last until they are let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = asyncio.Event()

    async def run(self, items: list[str]) -> list[str]:
        self.batches.append(items)
        await self.go.wait()
        return items


async def test_names_share_each_call() -> None:
    calls = Calls()
    batcher: Batcher[str, str] = Batcher(calls.run, weight_max=10)
    first = batcher.submit("first", 1, "flood")
    await asyncio.sleep(0)
    flood = [batcher.submit(f"flood {n}", 1, "flood") for n in range(100)]
    small = [batcher.submit(f"{name} {n}", 1, name) for name in "ab" for n in range(3)]
    calls.go.set()
    await asyncio.gather(first, *small)
    # Nobody waited for the flood: all of theirs was in the next two calls.
    early = {item for batch in calls.batches[1:3] for item in batch}
    assert {"a 0", "a 1", "a 2", "b 0", "b 1", "b 2"} <= early
    assert [await one for one in flood] == [f"flood {n}" for n in range(100)]
    assert batcher.waiting == 0
    assert all(len(batch) <= 10 for batch in calls.batches)


async def test_order_is_kept_under_a_name_and_a_heavy_item_goes_alone() -> None:
    calls = Calls()
    calls.go.set()
    batcher: Batcher[str, str] = Batcher(calls.run, weight_max=10)
    weights = [1, 30, 4, 9, 2, 2]
    done = [batcher.submit(str(n), weight, "one") for n, weight in enumerate(weights)]
    other = batcher.submit("heavy", 50, "two")
    await asyncio.gather(*done, other)
    flat = [item for batch in calls.batches for item in batch]
    assert [item for item in flat if item != "heavy"] == ["0", "1", "2", "3", "4", "5"]
    assert ["1"] in calls.batches
    assert ["heavy"] in calls.batches


async def test_a_flood_fits_no_more_while_others_do() -> None:
    calls = Calls()
    batcher: Batcher[str, str] = Batcher(calls.run, weight_max=10)
    accepted = 0
    while batcher.fits("flood", 1_000):
        batcher.submit("x", 1, "flood")
        accepted += 1
    assert 400 <= accepted <= 600
    for name in map(str, range(20)):
        assert batcher.fits(name, 1_000)
        batcher.submit("x", 1, name)
    assert not batcher.fits("flood", 1_000)
    calls.go.set()
    await batcher.close()
    assert batcher.fits("flood", 1_000)


async def test_a_call_takes_what_has_come_by_its_turn() -> None:
    calls = Calls()
    calls.go.set()
    turn = asyncio.Event()

    async def wait() -> None:
        await turn.wait()

    batcher: Batcher[str, str] = Batcher(calls.run, weight_max=10, turn=wait)
    first = batcher.submit("first")
    for _ in range(5):
        await asyncio.sleep(0)
    assert calls.batches == []
    second = batcher.submit("second")
    turn.set()
    assert (await first, await second) == ("first", "second")
    assert calls.batches == [["first", "second"]]

"""A failure at every statement of every hot operation: nothing kept is lost, nothing is stuck."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.storage.faulty import Plan, item_error, store_error
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
from tocsin.domain.model import ChannelId, Status
from tocsin.storage.base import Duplicate, NewEvent, Stored
from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.tables import lanes

pytestmark = pytest.mark.anyio

FAULTS: dict[str, Callable[[], sqlite3.Error]] = {
    "full": lambda: store_error(sqlite3.SQLITE_FULL),
    "io": lambda: store_error(sqlite3.SQLITE_IOERR | 1 << 8),
    "busy": lambda: store_error(sqlite3.SQLITE_BUSY),
}
STATEMENTS_MAX = 60
COUNT = 9


@asynccontextmanager
async def prepared(folder: Path, plan: Plan) -> AsyncIterator[tuple[SqliteStore, list[ChannelId]]]:
    async with open_store("sqlite", folder, connect=plan.connect) as store:
        await make_organization(store)
        yield store, [await make_channel(store) for _ in range(2)]


def events_of(channels: list[ChannelId]) -> list[NewEvent]:
    found = [new_event(*channels) for _ in range(COUNT)]
    found[2].idempotency_key = "a"
    found[5].idempotency_key = "b"
    found[7].deliveries[0].claim = False
    return found


async def check_all_held_or_free(store: SqliteStore, held: set[str]) -> None:
    """Every waiting delivery is in somebody's hands or can be claimed: none is stuck."""
    again = {item.id for item in await claim(store)}
    assert not again & held
    waiting = await rows(store, "SELECT id FROM deliveries WHERE status = 'waiting'")
    assert {row["id"] for row in waiting} == again | held


async def check_noted(store: AnyStore) -> None:
    """Six attempts were counted once: two delivered, two exhausted, one of a gone target."""
    names = ("attempts", "failed", "delivered", "exhausted")
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    counts = await one(store, f"SELECT {sums} FROM channel_minutes")
    assert [int(counts[name]) for name in names] == [6, 4, 2, 2]
    assert (await one(store, "SELECT occurrence_count FROM issues"))["occurrence_count"] == 2
    assert (await one(store, "SELECT kind FROM outbox"))["kind"] == "channel.disabled"


async def at_every_statement(work: Callable[[int], Awaitable[bool]]) -> None:
    """Call `work` with 1, 2, … until it says that its fault was not met any more."""
    for at in range(1, STATEMENTS_MAX):
        if not await work(at):
            assert at > 4, "the operation has hardly a statement"
            return
    raise AssertionError("there is no end of statements")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_publish_is_stored_whole_or_refused(
    tmp_path: Path, fault: str, after: bool
) -> None:
    plan = Plan()

    async def work(at: int) -> bool:
        async with prepared(tmp_path / str(at), plan) as (store, channels):
            events = events_of(channels)
            plan.arm(at, FAULTS[fault](), after=after)
            held: set[str] = set()
            try:
                answers = await store.add(events)
                held = {id for a in answers if isinstance(a, Stored) for id in a.claimed}
            except Unavailable:
                assert plan.fired is not None
            met = plan.fired is not None
            plan.disarm()
            # Nothing but a commit whose error came late may have left anything.
            left = {row["id"] for row in await rows(store, "SELECT id FROM events")}
            late = after and plan.fired == "COMMIT"
            stored = late or not met
            assert left == ({event.event.id for event in events} if stored else set()), plan.fired
            accepted = "SELECT coalesce(sum(accepted), 0) AS n FROM project_minutes"
            assert (await one(store, accepted))["n"] == len(left)
            await check_all_held_or_free(store, held)
            again = events_of(channels)
            second = await store.add(again)
            assert isinstance(second[2], Duplicate if stored else Stored)
            assert all(isinstance(answer, Stored | Duplicate) for answer in second)
            return met

    await at_every_statement(prepare_folders(tmp_path, work))


def prepare_folders(
    root: Path, work: Callable[[int], Awaitable[bool]]
) -> Callable[[int], Awaitable[bool]]:
    async def made(at: int) -> bool:
        (root / str(at)).mkdir()
        return await work(at)

    return made


async def test_an_error_of_an_item_s_statement_costs_nobody(tmp_path: Path) -> None:
    """It is met once: what is tried again by itself goes through."""
    plan = Plan()

    async def work(at: int) -> bool:
        async with prepared(tmp_path / str(at), plan) as (store, channels):
            plan.arm(at, item_error())
            try:
                answers = await store.add(events_of(channels))
            except Unavailable:
                assert plan.fired == "COMMIT"
                return True
            plan.disarm()
            assert all(isinstance(answer, Stored) for answer in answers)
            held: set[str] = {id for a in answers if isinstance(a, Stored) for id in a.claimed}
            await check_all_held_or_free(store, held)
            return plan.fired is not None

    await at_every_statement(prepare_folders(tmp_path, work))


@pytest.mark.parametrize("fault", [*FAULTS, "item"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_settle_is_done_once_whatever_fails(
    tmp_path: Path, fault: str, after: bool
) -> None:
    """The settler comes again until it is stored: then each is moved and counted exactly once."""
    plan = Plan()

    async def work(at: int) -> bool:
        async with prepared(tmp_path / str(at), plan) as (store, channels):
            events = [new_event(channels[0]) for _ in range(6)]
            await store.add(events)
            held = [born(event) for event in events]
            items = [settlement(item) for item in held[:2]]
            items += [settlement(item, Status.EXHAUSTED) for item in held[2:4]]
            items.append(settlement(held[4], Status.WAITING, due_ms=now_ms() + 10**7))
            items.append(settlement(held[5], Status.WAITING, park="gone"))
            plan.arm(at, FAULTS[fault]() if fault in FAULTS else item_error(), after=after)
            disabled = []
            for _ in range(2):
                try:
                    disabled = (await store.settle(items)).disabled
                    break
                except Unavailable:
                    assert plan.fired is not None
            assert [channel for _, channel in disabled] == [channels[0]]
            found = await rows(store, "SELECT status, attempt_count FROM deliveries ORDER BY id")
            assert [row["status"] for row in found] == [
                *["delivered"] * 2,
                *["exhausted"] * 2,
                *["waiting"] * 2,
            ]
            assert {row["attempt_count"] for row in found} == {1}
            counted = await one(store, "SELECT count(*) AS n, sum(superseded) AS s FROM attempts")
            assert (counted["n"], counted["s"]) == (6, 0)
            await check_noted(store)
            lane = await one(store, f"SELECT * FROM lanes WHERE channel_id = '{channels[0]}'")
            assert (lane["error_count"], lane["parked"]) == (4, "disabled")
            return plan.fired is not None

    await at_every_statement(prepare_folders(tmp_path, work))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_claim_that_fails_takes_nothing_away(
    tmp_path: Path, fault: str, after: bool
) -> None:
    plan = Plan()

    async def work(at: int) -> bool:
        async with prepared(tmp_path / str(at), plan) as (store, channels):
            await store.add([new_event(*channels, claim=False) for _ in range(COUNT)])
            plan.arm(at, FAULTS[fault](), after=after)
            held: set[str] = set()
            try:
                held = {item.id for item in await claim(store)}
            except Unavailable:
                assert plan.fired is not None
            plan.disarm()
            await check_all_held_or_free(store, held)
            return plan.fired is not None

    await at_every_statement(prepare_folders(tmp_path, work))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_release_that_fails_is_done_when_it_comes_again(
    tmp_path: Path, fault: str, after: bool
) -> None:
    plan = Plan()

    async def work(at: int) -> bool:
        async with prepared(tmp_path / str(at), plan) as (store, channels):
            await store.add([new_event(*channels, claim=False) for _ in range(3)])
            held = [(item.id, item.claim, item.channel_id) for item in await claim(store)]
            plan.arm(at, FAULTS[fault](), after=after)
            for _ in range(2):
                try:
                    await store.release(held)
                    break
                except Unavailable:
                    assert plan.fired is not None
            plan.disarm()
            again = await claim(store)
            assert {item.id for item in again} == {id for id, _, _ in held}
            assert {item.claim for item in again} == {2}
            return plan.fired is not None

    await at_every_statement(prepare_folders(tmp_path, work))


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_start_that_fails_loses_nothing_for_the_next(tmp_path: Path, fault: str) -> None:
    plan = Plan()
    ids: list[str] = []
    async with prepared(tmp_path, plan) as (store, channels):
        events = [new_event(*channels) for _ in range(4)]
        await store.add(events)
        ids = [delivery.id for event in events for delivery in event.deliveries]
    began = dict.fromkeys(ids[:2], 1)
    for at in range(1, STATEMENTS_MAX):
        plan.arm(at, FAULTS[fault]())
        try:
            async with open_store("sqlite", tmp_path, connect=plan.connect, began=began):
                pass
        except Unavailable:
            continue
        break
    plan.disarm()
    async with open_store("sqlite", tmp_path, began=began) as store:
        held = await claim(store)
        assert {item.id: item.lost for item in held} == {id: int(id in ids[:2]) for id in ids}


async def test_a_value_of_no_storable_type_is_its_item_s_fault(tmp_path: Path) -> None:
    """Not the store's: it would be tried for ever, and nobody else's attempts recorded."""
    async with prepared(tmp_path, Plan()) as (store, channels):
        events = [new_event(channels[0]) for _ in range(3)]
        await store.add(events)
        items = [settlement(born(event)) for event in events]
        odd: Any = object()
        items[1].attempt.status_code = odd
        assert (await store.settle(items)).superseded == []
        found = await rows(store, "SELECT DISTINCT status FROM deliveries")
        assert [row["status"] for row in found] == ["delivered"]


async def test_what_is_known_is_forgotten_with_a_rollback(tmp_path: Path) -> None:
    """A lane that was open before a change is not taken for open after a failed transaction."""
    plan = Plan()
    async with prepared(tmp_path, plan) as (store, channels):
        channel = channels[0]
        await store.add([new_event(channel)])
        plan.arm(3, store_error(sqlite3.SQLITE_FULL))
        with pytest.raises(Unavailable):
            await store.add([new_event(channel, claim=False)])
        assert plan.fired is not None
        (answer,) = await store.add([new_event(channel, claim=False), new_event(channel)][:1])
        assert answer == Stored([])
        # Something older is free by now: nothing is claimed past it.
        assert await store.add([new_event(channel)]) == [Stored([])]
        held = await claim(store)
        await store.release([(item.id, item.claim, channel) for item in held[:1]])
        assert await store.add([new_event(channel)]) == [Stored([])]
        await store.write(lambda c: c.execute(sa.update(lanes).values(parked="disabled")).rowcount)
        assert await store.add([new_event(channel)]) == [Stored([])]


async def test_a_writer_that_dies_leaves_no_waiter_behind(tmp_path: Path) -> None:
    died: list[BaseException] = []

    class Boom(BaseException):
        pass

    def boom(_: sa.Connection) -> None:
        raise Boom

    async with open_store("sqlite", tmp_path, died=died.append) as store:
        await make_organization(store)
        async with asyncio.timeout(60):
            results = await asyncio.gather(
                store.write(boom), *[store.ping() for _ in range(5)], return_exceptions=True
            )
            assert isinstance(results[0], Unavailable)
            assert all(r is None or isinstance(r, Unavailable) for r in results[1:])
            with pytest.raises(Unavailable):
                await store.ping()
        assert [type(error) for error in died] == [Boom]

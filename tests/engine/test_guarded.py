"""Channels with a cap, a rate or a breaker, and lanes that have become slow."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.engine.parts import Parts, Receiver, running
from tests.storage.stores import ORGANIZATION, one, rows

from tocsin.domain.model import ChannelId, Delivery, WaitingFor
from tocsin.service.sight import Sight
from tocsin.storage.control.deliveries import Now, walk

pytestmark = pytest.mark.anyio

ERROR = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"
MISSING = b"HTTP/1.1 404 Nothing\r\ncontent-length: 0\r\n\r\n"
BREAKER = '{"failures": 3, "cooldown_seconds": 1}'


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as started:
        yield started


async def until(look: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def shown(parts: Parts) -> list[Delivery]:
    """The waiting deliveries as reads show them, oldest first."""
    clock = parts.engine._clock
    now = Now(storage_ms=clock.storage_ms(), wall_ms=clock.wall_ms(), nodes=(parts.store.node,))
    page = await parts.store.read(
        lambda c: walk(c, Sight(ORGANIZATION), now, limit=200, below=None)
    )
    return [item for item in reversed(page.items) if item.finished_at is None]


def change(parts: Parts, **fields: object) -> Callable[[sa.Connection], None]:
    """Settings of the only channel as a PATCH would leave them."""

    def work(connection: sa.Connection) -> None:
        for table, more in (("channels", fields), ("lanes", {})):
            pairs = "".join(f", {name} = :{name}" for name in more)
            connection.execute(sa.text(f"UPDATE {table} SET version = version + 1{pairs}"), more)
        connection.execute(sa.text("UPDATE organizations SET version = version + 1"))

    return work


# A cap


async def test_no_more_are_under_way_than_the_cap(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, max_in_flight=3)
    await parts.publish(10)
    await parts.settled(10)  # so that the slow start is over
    receiver.hang.clear()
    await parts.publish(50)
    await receiver.came(13)
    lane = next(iter(parts.engine.lanes._lanes.values()))
    assert (lane.in_flight, lane.settling) == (3, 0)
    receiver.hang.set()
    await parts.settled(60)
    assert len(receiver.bodies) == 60


async def test_under_way_is_until_the_outcome_is_committed(
    parts: Parts, receiver: Receiver
) -> None:
    """While nothing can be recorded, a capped lane goes no further than its cap."""
    await parts.channel(receiver.url, max_in_flight=2)
    await parts.publish(5)
    await parts.settled(5)
    await parts.idle()
    settle = parts.store.settle
    gate = asyncio.Event()

    async def later(items):  # type: ignore[no-untyped-def]
        await gate.wait()
        return await settle(items)

    parts.store.settle = later  # type: ignore[method-assign]
    await parts.publish(20)
    await receiver.came(7)
    lane = next(iter(parts.engine.lanes._lanes.values()))
    await until(lambda: lane.settling == 2)
    assert (lane.in_flight, len(receiver.bodies)) == (0, 7)
    gate.set()
    await parts.settled(25)


async def test_a_changed_cap_takes_hold(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url)
    await parts.publish(200)
    await parts.settled(200)
    await parts.store.write(change(parts, max_in_flight=2))
    parts.publisher._routing.invalidate(ORGANIZATION)
    receiver.hang.clear()
    await parts.publish(50)
    await receiver.came(201)
    receiver.hang.set()
    await parts.settled(250)
    lane = next(iter(parts.engine.lanes._lanes.values()))
    assert lane.window <= lane.cap == 2


# A rate


async def test_a_rate_is_kept_and_its_burst_is_its_count(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, rate_limit='{"count": 10, "per_seconds": 1}')
    clock = parts.engine._clock
    began = clock.storage_ms()
    await parts.publish(35)
    await parts.settled(35)
    # Whatever this process had saved up (nothing: it has just begun), the rest came at the rate.
    seconds = (clock.storage_ms() - parts.engine.lanes._since_ms) / 1000
    assert seconds >= 3.4, (seconds, began)


async def test_what_waits_for_its_rate_waits_in_the_database_and_says_so(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url, rate_limit='{"count": 1, "per_seconds": 3600}')
    await parts.publish(500)
    lanes = parts.engine.lanes
    await until(lambda: lanes.held == 0 and not parts.engine.worker._released)
    found = await shown(parts)
    assert len(found) == 200
    assert {item.waiting_for for item in found} == {WaitingFor.RATE_LIMIT}
    assert receiver.bodies == []
    claims = 0
    claim = parts.store.claim

    async def counted(**arguments):  # type: ignore[no-untyped-def]
        nonlocal claims
        claims += 1
        return await claim(**arguments)

    parts.store.claim = counted  # type: ignore[method-assign]
    await asyncio.sleep(2)
    assert claims <= 10, "it looks again and again for nothing"


async def test_a_rate_that_is_lifted_lets_everything_go(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, rate_limit='{"count": 1, "per_seconds": 3600}')
    await parts.publish(100)
    await until(lambda: parts.engine.lanes.held == 0)
    await parts.store.write(change(parts, rate_limit=None))
    parts.publisher._routing.invalidate(ORGANIZATION)
    await parts.settled(100)


# A breaker


async def test_failures_of_different_deliveries_open_it(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=("1h",), breaker=BREAKER)
    receiver.reply = ERROR
    await parts.publish(20)
    await parts.attempts(3)
    await parts.idle()
    lane = await parts.lane()
    assert lane["breaker_state"] in ("open", "probing")
    sent = len(receiver.bodies)
    # More than three on a slow machine: it probes once a second from there on.
    assert sent < 15, "what was behind in the lane came back"
    found = await shown(parts)
    kinds = {item.waiting_for for item in found}
    assert WaitingFor.BREAKER in kinds
    # It probes, one at a time, until the target is back; then all goes again, slowly at first.
    await receiver.came(sent + 2)
    receiver.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    await until(lambda: len(receiver.bodies) >= 20)
    await parts.idle()
    lane = await parts.lane()
    assert (lane["breaker_state"], lane["breaker_streak"]) == (None, "")


async def test_one_delivery_that_fails_again_and_again_does_not(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url, schedule=("1s",) * 4, breaker=BREAKER)
    receiver.reply = ERROR
    await parts.publish(1)
    (row,) = await parts.settled(1)
    assert row["attempt_count"] == 5
    lane = await parts.lane()
    assert (lane["breaker_state"], len(lane["breaker_streak"].split())) == (None, 1)


async def test_another_reply_ends_the_streak(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=(), breaker=BREAKER)
    receiver.script = [ERROR, ERROR, MISSING, ERROR, ERROR]
    for _ in range(5):
        await parts.publish(1)
        await parts.idle()
    lane = await parts.lane()
    assert (lane["breaker_state"], len(lane["breaker_streak"].split())) == (None, 2)


async def test_what_never_came_to_the_target_says_nothing(parts: Parts) -> None:
    await parts.channel("http://169.254.169.254/", schedule=(), breaker=BREAKER)
    await parts.publish(5)
    await parts.settled(5)
    lane = await parts.lane()
    assert (lane["breaker_state"], lane["breaker_streak"]) == (None, "")


async def test_an_open_breaker_survives_the_process(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path) as parts:
        breaker = '{"failures": 2, "cooldown_seconds": 3600}'
        await parts.channel(receiver.url, schedule=("1s",), breaker=breaker)
        receiver.reply = ERROR
        await parts.publish(5)
        await parts.attempts(2)
        await parts.idle()
    sent = len(receiver.bodies)
    async with running(tmp_path) as parts:
        await parts.publish(5)
        await parts.idle()
        assert len(receiver.bodies) == sent
        assert (await parts.lane())["breaker_state"] == "open"


# A slow start, and slowness


async def test_in_flight_begins_at_one_and_doubles(parts: Parts, receiver: Receiver) -> None:
    receiver.hang.clear()
    await parts.channel(receiver.url)
    await parts.publish(100)
    await receiver.came(1)
    lane = next(iter(parts.engine.lanes._lanes.values()))
    assert (lane.in_flight, lane.window) == (1, 1)
    receiver.hang.set()
    await parts.settled(100)
    assert lane.window == 64


async def test_fast_lanes_that_begin_to_hang_leave_places(tmp_path: Path) -> None:
    """Twenty channels that answered at once all hang: there is still a place for the others."""
    async with running(tmp_path, in_flight_max=400) as parts, Receiver() as hanging:
        bad: list[ChannelId] = [await parts.channel(hanging.url) for _ in range(20)]
        await parts.publish(100)
        await parts.settled(2_000, 240)
        hanging.hang.clear()
        await parts.publish(100)
        lanes = parts.engine.lanes
        await until(lambda: lanes._lanes[bad[0]].slow)
        assert lanes.in_flight < 400
        async with Receiver() as healthy:
            await parts.channel(healthy.url)
            before = lanes.in_flight
            await parts.publish(20)
            await healthy.came(20)
            assert before < 400
        hanging.hang.set()
        await parts.settled(20 * 220 + 20, 240)
        everything = await rows(parts.store, "SELECT DISTINCT status FROM deliveries")
        assert [row["status"] for row in everything] == ["delivered"]
        assert (await one(parts.store, "SELECT count(*) AS n FROM attempts"))["n"] == 4_420

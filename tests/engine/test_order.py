"""Ordered channels: one at a time, by number, whatever fails or ends in between."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.parts import Parts, Receiver, running
from tests.storage.stores import ORGANIZATION, one, rows

from tocsin.domain.model import Status, WaitingFor
from tocsin.service.sight import Sight
from tocsin.storage.control.deliveries import Now, reopen, walk

pytestmark = pytest.mark.anyio

ERROR = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 204 No Content\r\n\r\n"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as started:
        yield started


def numbers(receiver: Receiver) -> list[int]:
    """The events in the order in which they were tried."""
    return [int(body.split(b'"n":')[1].split(b"}")[0]) for body in receiver.bodies]


async def test_everything_goes_in_the_order_of_publishing(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, ordered=True, breaker=None)
    await parts.publish(300)
    await parts.settled(300)
    assert numbers(receiver) == list(range(300))
    assert (await parts.lane())["last_seq"] == 300


async def test_a_failure_holds_up_what_is_behind_it(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=("1s", "1s"), ordered=True)
    receiver.script = [OK, OK, ERROR, ERROR]
    await parts.publish(30)
    found = await parts.settled(30)
    assert numbers(receiver) == [0, 1, 2, 2, *range(2, 30)]
    assert {row["status"] for row in found} == {"delivered"}


async def test_the_last_failure_lets_the_others_go(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=(), ordered=True)
    receiver.script = [OK, ERROR, OK, ERROR]
    await parts.publish(10)
    found = await parts.settled(10)
    assert numbers(receiver) == list(range(10))
    assert [row["status"] for row in found].count("exhausted") == 2


async def test_never_are_two_under_way(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, ordered=True)
    receiver.hang.clear()
    for _ in range(5):
        await parts.publish(4)
    await receiver.came(1)
    lane = next(iter(parts.engine.lanes._lanes.values()))
    assert (lane.in_flight, len(receiver.bodies)) == (1, 1)
    receiver.hang.set()
    await parts.settled(20)


async def test_what_waits_behind_says_so(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=("1h",), ordered=True)
    receiver.script = [ERROR]
    await parts.publish(3)
    await parts.attempts(1)
    await parts.idle()
    clock = parts.engine._clock
    now = Now(storage_ms=clock.storage_ms(), wall_ms=clock.wall_ms(), nodes=(parts.store.node,))
    page = await parts.store.read(lambda c: walk(c, Sight(ORGANIZATION), now, limit=10, below=None))
    third, second, first = page.items
    assert first.waiting_for is WaitingFor.RETRY
    assert first.next_attempt_at is not None
    assert [second.waiting_for, third.waiting_for] == [WaitingFor.ORDER] * 2
    assert second.next_attempt_at is None


async def test_a_retry_by_hand_joins_the_tail(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=("1h",), ordered=True)
    await parts.publish(1)
    (done,) = await parts.settled(1)
    receiver.script = [ERROR]
    await parts.publish(2)
    await parts.attempts(2)
    await parts.idle()
    clock = parts.engine._clock
    now = Now(storage_ms=clock.storage_ms(), wall_ms=clock.wall_ms(), nodes=(parts.store.node,))
    again = await parts.store.write(lambda c: reopen(c, Sight(ORGANIZATION), now, done["id"]))
    assert again.status is Status.WAITING
    assert again.waiting_for is WaitingFor.ORDER
    found = await rows(parts.store, "SELECT id, seq FROM deliveries ORDER BY seq")
    assert [row["seq"] for row in found] == [2, 3, 4]
    assert found[-1]["id"] == done["id"]


async def test_the_order_survives_the_process(tmp_path: Path, receiver: Receiver) -> None:
    """What a stopped process gave back, or a killed one held, goes by its number."""
    async with running(tmp_path) as parts:
        await parts.channel(receiver.url, schedule=("1s",), ordered=True)
        receiver.script = [OK, OK, OK, ERROR]
        await parts.publish(50)
        await receiver.came(4)
    tried = numbers(receiver)
    async with running(tmp_path) as parts:
        await parts.publish(10)
        await parts.settled(60)
    after = numbers(receiver)[len(tried) :]
    assert tried == list(range(len(tried) - tried.count(3) + 1))[: len(tried)] or 3 in tried
    assert after[: 50 - len(set(tried))] == sorted(after[: 50 - len(set(tried))])
    first_time = list(dict.fromkeys(numbers(receiver)))
    assert first_time[:50] == list(range(50))
    assert numbers(receiver)[-10:] == list(range(10))


async def test_a_channel_that_becomes_ordered_sends_what_waits_first(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url)
    parts.engine.lanes.accepting = False
    await parts.publish(5)

    def becomes(connection):  # type: ignore[no-untyped-def]
        for table, fields in (("channels", ""), ("lanes", ", unnumbered = 1, exclusive = 1")):
            text = f"UPDATE {table} SET ordered = 1, version = 2{fields}"
            connection.exec_driver_sql(text)
        connection.exec_driver_sql("UPDATE organizations SET version = version + 1")

    await parts.store.write(becomes)
    parts.publisher._routing.invalidate(ORGANIZATION)
    await parts.publish(3)
    parts.engine.lanes.accepting = True
    parts.engine.worker.wake(1)
    await parts.settled(8)
    assert numbers(receiver) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert not (await one(parts.store, "SELECT unnumbered FROM lanes"))["unnumbered"]


async def test_a_disabled_one_stands_still(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, ordered=True)
    receiver.script = [OK, OK, b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"]
    await parts.publish(20)
    await parts.attempts(3)
    await parts.idle()
    await asyncio.sleep(0)
    free = await one(
        parts.store, "SELECT count(*) AS n FROM deliveries WHERE status = 'waiting' AND node = 0"
    )
    assert (free["n"], numbers(receiver)) == (18, [0, 1, 2])

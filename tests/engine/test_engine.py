"""The way of an event, from publish to its settled delivery, on a real store and socket."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.engine.parts import Parts, Receiver, running
from tests.storage.stores import ORGANIZATION, one, rows

from tocsin.engine.attempt import DeliveryAttempt
from tocsin.engine.dispatcher import STARTS_PER_TURN_MAX
from tocsin.storage.base import Held
from tocsin.storage.tables import channels, lanes, organizations

pytestmark = pytest.mark.anyio

SERVER_ERROR = b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as started:
        yield started


async def test_a_published_event_arrives_once_and_is_recorded(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url)
    await parts.publish(500)
    await receiver.came(500)
    found = await parts.settled(500)
    assert {row["status"] for row in found} == {"delivered"}
    assert len(receiver.bodies) == 500
    assert len(await parts.attempts(500)) == 500
    await parts.idle()


async def test_a_failure_is_retried_with_its_next_number(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url, schedule=("1s", "1s"))
    receiver.script = [SERVER_ERROR]
    await parts.publish()
    await receiver.came(2)
    await parts.settled(1)
    first, second = await parts.attempts(2)
    assert (first["outcome"], first["status_code"], first["response_body"]) == ("retry", 500, "no")
    assert first["error"] == "http_status: 500"
    assert (second["number"], second["outcome"]) == (2, "delivered")
    assert second["started_at"] - first["started_at"] > 700


async def test_a_schedule_that_is_used_up_ends_as_exhausted(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url, schedule=())
    receiver.reply = SERVER_ERROR
    await parts.publish()
    (row,) = await parts.settled(1)
    assert (row["status"], row["last_status_code"]) == ("exhausted", 500)


async def test_a_resend_is_told_in_its_attempt_only(parts: Parts, receiver: Receiver) -> None:
    """A kept connection had closed: the request went out twice, and the delivery is fine."""
    await parts.channel(receiver.url)
    await parts.publish()
    await parts.settled(1)
    receiver.script = [b""]
    await parts.publish()
    delivered = await parts.settled(2)
    assert len(receiver.bodies) == 3
    first, second = await parts.attempts(2)
    assert first["error"] is None
    assert second["outcome"] == "delivered"
    assert second["error"].startswith("resent: ")
    assert [row["last_error"] for row in delivered] == [None, None]
    assert (await one(parts.store, "SELECT last_error FROM lanes"))["last_error"] is None


async def test_retry_after_holds_the_whole_channel(parts: Parts, receiver: Receiver) -> None:
    await parts.channel(receiver.url)
    receiver.script = [b"HTTP/1.1 429 Slow\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n"]
    await parts.publish()
    (first,) = await parts.attempts(1)
    await parts.publish(20)
    await receiver.came(22)
    rest = (await parts.attempts(22))[1:]
    assert min(row["started_at"] for row in rest) - first["started_at"] >= 1900


async def test_a_gone_target_disables_its_channel_and_parks(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url)
    receiver.reply = b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"
    await parts.publish()
    await parts.attempts(1)
    row = await one(parts.store, "SELECT enabled, disabled_reason FROM channels")
    assert (bool(row["enabled"]), row["disabled_reason"]) == (False, "gone")
    await parts.publish(3)
    assert len(receiver.bodies) == 1
    found = await rows(parts.store, "SELECT status, node, step FROM deliveries")
    assert [tuple(row.values()) for row in found] == [("waiting", 0, 0)] * 4


async def test_a_change_is_exact_from_its_answer_on(parts: Parts, receiver: Receiver) -> None:
    """Deliveries that wait in memory when the URL changes go to the new one."""
    async with Receiver() as new:
        await parts.channel(receiver.url)
        receiver.hang.clear()
        await parts.publish(50)
        await receiver.came(1)

        def disable(connection: sa.Connection) -> None:
            connection.execute(sa.update(channels).values(enabled=False, version=2))
            connection.execute(sa.update(lanes).values(parked="disabled", version=2))
            bump = sa.update(organizations).values(version=organizations.c.version + 1)
            connection.execute(bump)

        await parts.store.write(disable)
        parts.publisher._routing.invalidate(ORGANIZATION)
        started = len(receiver.bodies)
        receiver.hang.set()
        await parts.idle()
        assert len(receiver.bodies) == started
        assert new.bodies == []
        free = await one(
            parts.store,
            "SELECT count(*) AS n FROM deliveries WHERE status = 'waiting' AND node = 0",
        )
        assert free["n"] == 50 - started


async def test_a_stop_is_no_attempt_and_loses_nothing(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path) as parts:
        await parts.channel(receiver.url)
        receiver.hang.clear()
        await parts.publish(30)
        await receiver.came(1)
        asyncio.get_running_loop().call_later(0.3, receiver.hang.set)
    sent = len(receiver.bodies)
    async with running(tmp_path) as parts:
        found = await parts.settled(30)
        assert {row["attempt_count"] for row in found} == {1}
    assert len(receiver.bodies) == 30
    assert sent < 30


async def test_a_broken_channel_type_is_a_counted_attempt(parts: Parts, receiver: Receiver) -> None:
    """Settings that can't be unsealed retry with their own reason and never stop the engine."""
    await parts.channel(receiver.url, schedule=(), sealed=b"nonsense")
    await parts.publish()
    (row,) = await parts.settled(1)
    assert row["last_error"].startswith("unsealing_failed")
    assert receiver.bodies == []


async def test_a_refused_connection_is_retried_as_such(parts: Parts, tmp_path: Path) -> None:
    await parts.channel("http://127.0.0.1:9/", schedule=())
    await parts.publish()
    (row,) = await parts.settled(1)
    assert row["last_error"].startswith("connection_refused")


async def test_a_refused_address_opens_no_socket(parts: Parts) -> None:
    await parts.channel("http://169.254.169.254/latest/meta-data/", schedule=())
    await parts.publish()
    (row,) = await parts.settled(1)
    assert row["last_error"].startswith("address_refused")
    assert "169.254" not in row["last_error"]


async def test_a_target_that_never_answered_holds_one_slot_and_delays_nobody(
    parts: Parts, receiver: Receiver
) -> None:
    async with Receiver() as hanging:
        hanging.hang.clear()
        await parts.channel(hanging.url)
        await parts.publish(200)
        await hanging.came(1)
        await parts.channel(receiver.url)
        await parts.publish(200)
        await receiver.came(200)
        assert len(hanging.bodies) == 1
        hanging.hang.set()
        found = await parts.settled(600)
        assert {row["status"] for row in found} == {"delivered"}
    assert (len(hanging.bodies), len(receiver.bodies)) == (400, 200)


async def test_filling_all_places_leaves_the_event_loop_its_turns(
    parts: Parts, receiver: Receiver
) -> None:
    for _ in range(60):
        await parts.channel(receiver.url)
    await parts.publish()
    await parts.settled(60)
    await parts.idle()
    # Each has two places now, and all of them could be taken at once.
    receiver.hang.clear()
    dispatcher, loop = parts.engine.dispatcher, asyncio.get_running_loop()
    seen = [0]

    def look() -> None:
        seen.append(len(dispatcher._under_way))
        if seen[-1] < 120:
            loop.call_soon(look)

    look()
    await parts.publish(2)
    async with asyncio.timeout(60):
        while seen[-1] < 120:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    receiver.hang.set()
    await parts.settled(180)
    # One look may see the end of a turn and the beginning of the next.
    assert max(after - before for before, after in itertools.pairwise(seen)) <= (
        2 * STARTS_PER_TURN_MAX
    )


async def test_what_was_waiting_at_the_start_is_sent(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path) as parts:
        await parts.channel(receiver.url)
        parts.engine.lanes.accepting = False
        await parts.publish(3_000)
        assert receiver.bodies == []
    async with running(tmp_path) as parts:
        await receiver.came(3_000)
        await parts.settled(3_000)
    assert len(receiver.bodies) == 3_000


class ShortLease:
    """A lease of a node that can't renew it."""

    def __init__(self, seconds: float) -> None:
        self.lease_until = time.monotonic() + seconds
        self.epoch = 1


@pytest.mark.parametrize("left", [3.0, 12.0], ids=["nothing", "a short attempt only"])
async def test_no_send_could_outlast_the_lease(
    parts: Parts, receiver: Receiver, left: float
) -> None:
    """What can't be over before this node's claims may be another's does not begin."""
    await parts.channel(receiver.url, timeout_ms=15_000)
    lease = parts.engine.dispatcher.lease
    parts.engine.dispatcher.lease = ShortLease(left)
    await parts.publish(3)
    async with asyncio.timeout(30):
        while (await one(parts.store, "SELECT count(*) AS n FROM deliveries WHERE node > 0"))["n"]:
            await asyncio.sleep(0.01)
            if left < 5:
                break
    assert not receiver.bodies
    assert parts.engine.dispatcher.attempts == 0
    parts.engine.dispatcher.lease = lease
    parts.engine.worker.wake(0)
    parts.engine._pump()
    await parts.settled(3)
    assert len(receiver.bodies) == 3


async def test_what_was_claimed_before_the_lease_was_lost_is_not_sent(
    parts: Parts, receiver: Receiver
) -> None:
    await parts.channel(receiver.url)
    lease = ShortLease(1_000)
    parts.engine.dispatcher.lease = lease
    await parts.publish()
    await receiver.came(1)
    await parts.settled(1)
    attempt = DeliveryAttempt(parts.engine.dispatcher, None, (await held(parts))[0])
    lease.epoch += 1
    target = await parts.engine.dispatcher.targets.get(attempt.held.channel_id)
    assert target is not None
    assert not await attempt.make(target)
    assert attempt.record is None
    assert len(receiver.bodies) == 1


async def held(parts: Parts) -> list[Held]:
    """One delivery that is claimed and not in the engine's hands."""
    parts.engine.lanes.accepting = False
    parts.engine.dispatcher.stopping = True
    await parts.publish()
    parts.engine.dispatcher.stopping = False
    claims = await parts.store.claim(
        now_ms=1 << 45, room=1, bytes_max=1 << 20, lane_room=1, full=[]
    )
    return claims.held

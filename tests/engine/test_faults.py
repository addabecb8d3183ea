"""What the engine does while the store, a channel type or the process fails."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from tests.engine.parts import SEALER, Parts, Receiver, running
from tests.storage.faulty import Plan, store_error
from tests.storage.stores import ORGANIZATION, make_organization, new_event, one, rows

from tocsin.channels import channel_types
from tocsin.domain.errors import Unavailable
from tocsin.domain.model import Channel, ChannelId, OrganizationId, Origin
from tocsin.domain.outcome import Reason, Retry
from tocsin.engine.attempt import DeliveryAttempt
from tocsin.engine.settler import ANSWER_SECONDS_MAX
from tocsin.engine.targets import Targets
from tocsin.storage.base import Held, NewEvent, Settled, Settlement
from tocsin.storage.control.sending import channel_for_sending
from tocsin.storage.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


class Away(SqliteStore):
    """A store that refuses settles, and answers half of them late, while `away`."""

    away = False
    refused = 0

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        if self.away:
            self.refused += 1
            if self.refused % 2:
                # Stored, but nobody is told: a commit of unknown outcome.
                await super().settle(settlements)
            raise Unavailable("away")
        return await super().settle(settlements)


async def test_storage_trouble_adds_no_sends(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, store_type=Away) as parts:
        store = cast(Away, parts.store)
        await parts.channel(receiver.url)
        await parts.publish(100)
        await parts.settled(100)
        store.away = True
        await parts.publish(300)
        dispatcher = parts.engine.dispatcher
        async with asyncio.timeout(60):
            # What was under way when the store went away comes to its end.
            while parts.engine.settler.healthy or dispatcher._under_way:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        sent = len(receiver.bodies)
        await parts.publish(50)
        await asyncio.sleep(1)
        assert len(receiver.bodies) == sent, "a send began while outcomes can't be stored"
        assert parts.engine.settler.unsettled > 0
        store.away = False
        found = await parts.settled(450)
        assert len(receiver.bodies) == 450, "an outage sends nothing twice"
        assert {row["attempt_count"] for row in found} == {1}
        assert len(await parts.attempts(450)) == 450
        await parts.idle()
        assert parts.engine.settler.unsettled == 0


class Silent(SqliteStore):
    """A store that answers no settle before it is `back`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.back = asyncio.Event()
        self.back.set()

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        await self.back.wait()
        return await super().settle(settlements)


async def test_a_store_that_is_silent_ends_sending_like_one_that_is_away(
    tmp_path: Path, receiver: Receiver
) -> None:
    """What is sent while nobody knows that the store is out of reach is sent again by others."""
    async with running(tmp_path, store_type=Silent) as parts:
        store = cast(Silent, parts.store)
        await parts.channel(receiver.url)
        await parts.publish(20)
        await parts.settled(20)
        store.back.clear()
        began = time.monotonic()
        await parts.publish(20)
        await receiver.came(40)
        async with asyncio.timeout(60):
            while parts.engine.settler.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert time.monotonic() - began >= ANSWER_SECONDS_MAX
        await parts.publish(50)
        await asyncio.sleep(1)
        assert len(receiver.bodies) == 40, "a send began while the store was silent"
        store.back.set()
        found = await parts.settled(90)
        assert len(receiver.bodies) == 90
        assert {row["attempt_count"] for row in found} == {1}


async def test_what_a_refused_publish_left_behind_is_delivered(
    tmp_path: Path, receiver: Receiver
) -> None:
    """A commit of unknown outcome is refused; what it did store must not hang on this node."""
    plan = Plan()
    async with running(tmp_path, connect=plan.connect) as parts:
        await parts.channel(receiver.url)
        await parts.publish()
        await parts.settled(1)
        # BEGIN, events, deliveries, key, COMMIT: the last one is done and fails.
        for at in range(1, 9):
            plan.arm(at, store_error(sqlite3.SQLITE_IOERR), after=True)
            with suppress(Unavailable):
                while plan.fired is None:
                    await parts.publish()
        stored = len(await rows(parts.store, "SELECT id FROM events"))
        await parts.settled(stored)
        assert len(receiver.bodies) == stored


async def test_what_gives_no_outcome_is_a_counted_attempt(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken channel type must not be sent again and again without ever being counted."""
    webhook = channel_types()["webhook"]
    answers: list[Any] = [None, Retry(Reason.TIMEOUT, "", cast(int, "soon")), RuntimeError()]

    def judge(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(webhook, "judge", judge)
    async with running(tmp_path) as parts:
        for count in (1, 2, 3):
            await parts.channel(receiver.url, schedule=(), event_types=f'["a{count}.*"]')
            await parts.publish(type=f"a{count}.x")
            await parts.settled(count)
        found = await rows(parts.store, "SELECT last_error, status FROM deliveries ORDER BY id")
        assert {row["status"] for row in found} == {"exhausted"}
        assert {row["last_error"].split(":")[0] for row in found} == {"internal_error"}
        await parts.idle()
        assert len(receiver.bodies) == 3
        assert len(parts.engine.dispatcher.journal.free) == 2_000


async def test_a_target_read_before_a_change_serves_nobody_after_it() -> None:
    """Whoever asks after the change must not join the reading that began before it."""
    versions = iter([1, 2, 3])
    gates = [asyncio.Event(), asyncio.Event()]
    reads = iter(gates)

    async def load(channel_id: ChannelId) -> Channel | None:
        version, gate = next(versions), next(reads)
        await gate.wait()
        return channel(channel_id, version)

    targets = Targets(load=load, type_of=lambda _: None, sealer=SEALER)
    first = asyncio.ensure_future(targets.get(ChannelId("c" * 24)))
    await asyncio.sleep(0.01)
    targets.forget(ORGANIZATION)
    second = asyncio.ensure_future(targets.get(ChannelId("c" * 24)))
    await asyncio.sleep(0.01)
    gates[0].set()
    await asyncio.sleep(0.01)
    gates[1].set()
    found = [await first, await second]
    assert [target.channel.version for target in found if target] == [2, 2]


def channel(channel_id: ChannelId, version: int) -> Channel:
    return Channel(
        id=channel_id,
        organization_id=ORGANIZATION,
        project_id=None,
        type="webhook",
        name="a",
        description=None,
        event_types=("*",),
        filter=(),
        format=None,
        schedule=(),
        timeout_seconds=5,
        rate_limit=None,
        max_in_flight=None,
        ordered=False,
        breaker=None,
        enabled=True,
        disabled_reason=None,
        sealed=b"",
        version=version,
        created_at=1,
        updated_at=1,
    )


async def probe_of(parts: Parts, channel_id: ChannelId) -> Held:
    """A test as `Tester` stores it, held by this node."""
    event: NewEvent = new_event(channel_id, version=(await version_of(parts)))
    event.origin = Origin.TEST
    await parts.store.add([event])
    return Held(
        event.deliveries[0].id, 1, channel_id, event.event, Origin.TEST, 1, 0, 0, event.due_ms
    )


async def version_of(parts: Parts) -> int:
    return int((await one(parts.store, "SELECT version FROM organizations"))["version"])


async def test_a_test_that_can_t_be_sent_costs_no_room(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path) as parts:
        channel_id = await parts.channel(receiver.url)
        await parts.publish(5)
        await parts.settled(5)
        await parts.idle()
        probe = await probe_of(parts, channel_id)
        parts.engine.settler.healthy = False
        with pytest.raises(Unavailable):
            await parts.engine.probe(probe)
        parts.engine.settler.healthy = True
        await parts.settled(6)
        await parts.idle()
        assert (parts.engine.lanes.held, parts.engine.lanes.bytes) == (0, 0)
        attempt = await parts.engine.probe(await probe_of(parts, channel_id))
        assert attempt.outcome == "delivered"
        assert parts.engine.lanes.held == 0


async def test_many_hanging_channels_of_one_organization_leave_room_for_another(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Whatever they hold, or have in the database, another organization is served at once."""
    async with Receiver() as hanging, running(tmp_path) as parts:
        hanging.hang.clear()
        for _ in range(6):
            await parts.channel(hanging.url, timeout_ms=600_000)
        for _ in range(2):
            await parts.publish(1_000)
        lanes = parts.engine.lanes
        assert lanes.held <= 5_500
        other = OrganizationId("b" * 24)
        await make_organization(parts.store, other)
        await parts.channel(receiver.url, organization=other)
        await parts.publish(200, organization=other)
        # Far from the time that the others hang.
        await receiver.came(200, 120)
        hanging.hang.set()
        await parts.settled(12_200, 240)


async def test_a_reader_that_runs_over_its_time_leaks_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as parts:
        readers = parts.store._readers
        for _ in range(4):
            with pytest.raises(Unavailable):
                await parts.store.read(_interrupted)
        await parts.store.read(lambda c: channel_for_sending(c, ChannelId("c" * 24)))
        assert len(readers._opened) <= 2


def _interrupted(connection: sa.Connection) -> None:
    raise store_error(sqlite3.SQLITE_INTERRUPT)


class Broken:
    """Counts that can't count."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def attempt(self, *_: object) -> None:
        self.asked.set()
        raise ZeroDivisionError


async def test_a_fault_between_reply_and_settle_costs_one_more_send_and_no_place(
    tmp_path: Path, receiver: Receiver
) -> None:
    """What goes wrong in a callback is told, given back and tried again, never forgotten."""
    async with running(tmp_path) as parts:
        await parts.channel(receiver.url)
        dispatcher = parts.engine.dispatcher
        await parts.publish()
        await parts.settled(1)
        counts, broken = dispatcher.counts, Broken()
        dispatcher.counts = broken  # type: ignore[assignment]
        await parts.publish()
        async with asyncio.timeout(60):
            await broken.asked.wait()
        dispatcher.counts = counts
        await parts.settled(2)
        await parts.idle()
        assert len(receiver.bodies) >= 3
        assert parts.engine.lanes.in_flight == 0
        assert len(dispatcher.journal.free) == dispatcher.journal._slots


async def test_what_is_cancelled_before_its_first_step_is_given_back(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with running(tmp_path) as parts:
        await parts.channel(receiver.url)
        dispatcher, lanes = parts.engine.dispatcher, parts.engine.lanes
        dispatcher._pumping = True  # so that nobody else takes what this test does
        await parts.publish()
        async with asyncio.timeout(60):
            # It has its turn when its channel has been read.
            while (taken := lanes.take()) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        dispatcher.stopping = True
        dispatcher._pumping = False
        attempt = DeliveryAttempt(dispatcher, *taken)
        dispatcher._under_way.add(attempt)
        attempt.start()
        attempt.cancel()
        async with asyncio.timeout(60):
            await dispatcher._all_over()
        dispatcher.stopping = False
        parts.engine.worker.wake(1)
        await parts.settled(1)
        assert len(receiver.bodies) == 1

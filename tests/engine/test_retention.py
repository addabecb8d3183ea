"""Retention beside a running engine, the clock put forward: only what is final vanishes, and what
is there and what was removed are together what was published."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.engine.parts import Parts, Receiver, assembled
from tests.storage.stores import (
    DRIVERS,
    AnyStore,
    born,
    make_channel,
    make_organization,
    new_event,
    open_store,
    rows,
    settlement,
)

from tocsin.clock import Clock
from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.engine.journal import SendJournal
from tocsin.service.retention import Retention
from tocsin.storage.control import retention as retained
from tocsin.storage.tables import lanes

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
STEP_MS = 12 * HOUR_MS
STEPS = 10
SECONDS_MAX = 60
OTHER = OrganizationId("b" * 24)
FINAL = {"delivered", "exhausted", "rejected", "cancelled"}
ERROR = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"


class Forward(Clock):
    """The real clock with a wall that is put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms


class World:
    """An engine with a target that takes, one that fails, and a channel that is parked."""

    def __init__(self, store: AnyStore, parts: Parts, clock: Forward) -> None:
        self.store = store
        self.parts = parts
        self.clock = clock
        self.events = self.deliveries = 0
        self.retention = Retention(
            store,
            clock,
            days=2,
            waiting_hours=24,
            published=lambda: self.events,
            wake=parts.engine.wake,
        )

    async def publish(self, count: int) -> None:
        for answer in await self.parts.publish(count):
            self.events += 1
            self.deliveries += answer.deliveries

    async def all(self) -> dict[str, dict[str, Any]]:
        query = "SELECT id, event_id, status, node, channel_id, last_error FROM deliveries"
        return {row["id"]: row for row in await rows(self.store, query)}

    async def balance(self) -> None:
        """What is there, and what was removed."""
        purged = await self.store.read(retained.purged)
        for table, published in (("events", self.events), ("deliveries", self.deliveries)):
            (found,) = await rows(self.store, f"SELECT count(*) AS n FROM {table}")
            assert found["n"] + purged[table] == published, table

    async def round(self) -> list[dict[str, Any]]:
        """One round of the duty; returns the deliveries that vanished, as they were before."""
        before = await self.all()
        await self.retention.run_once()
        after = await self.all()
        await self.balance()
        return [row for id, row in before.items() if id not in after]


@asynccontextmanager
async def world_of(driver: str, folder: Path) -> AsyncIterator[World]:
    clock = Forward()
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(SendJournal(folder / "sending.journal", 2_000))
        store: Any = await stack.enter_async_context(
            open_store(driver, folder, wall_ms=clock.wall_ms, storage_ms=clock.storage_ms)
        )
        journal.start()
        await make_organization(store)
        parts = await stack.enter_async_context(assembled(store, journal, clock))
        good, bad = [await stack.enter_async_context(Receiver()) for _ in range(2)]
        bad.reply = ERROR
        await parts.channel(good.url)
        await parts.channel(bad.url, schedule=())
        parked = await parts.channel(good.url)
        park = sa.update(lanes).where(lanes.c.channel_id == parked).values(parked="disabled")
        await store.write(lambda c: c.execute(park).rowcount)
        yield World(store, parts, clock)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_five_days_in_steps_with_a_retention_of_two(driver: str, tmp_path: Path) -> None:
    async with world_of(driver, tmp_path) as world:
        store = world.store
        # Held by this node all the time, in the hands of nobody who would end it.
        await make_organization(store, OTHER)
        channel: ChannelId = await make_channel(store, OTHER)
        held = new_event(channel, claim=True, organization_id=OTHER)
        await store.add([held])
        world.events += 1
        world.deliveries += 1
        sent = 0
        for _ in range(STEPS):
            await world.publish(3)
            sent += 6
            gone = (await store.read(retained.purged))["attempts"]
            await world.parts.attempts(sent - gone, SECONDS_MAX)
            world.clock.ahead_ms += STEP_MS
            for row in await world.round():
                assert row["status"] in FINAL, row
        there = await world.all()
        assert (await store.read(retained.purged))["deliveries"] >= 3 * 3
        assert {row["last_error"] for row in there.values() if row["status"] == "exhausted"} >= {
            retained.EXPIRED
        }
        # In flight all the time: it is there, with its event, and ends by its attempt.
        assert there[held.deliveries[0].id]["status"] == "waiting"
        assert {row["id"] for row in await rows(store, "SELECT id FROM events")} >= {held.event.id}
        await store.settle([settlement(born(held))])
        world.clock.ahead_ms += 6 * STEP_MS
        await world.round()
        assert await world.all() == {}
        for table in ("events", "attempts"):
            assert await rows(store, f"SELECT * FROM {table} LIMIT 1") == []

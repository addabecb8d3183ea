"""Test sends: one attempt now, past disabled, breaker, rate and order, kept in the log."""

import asyncio
from collections import Counter

from tocsin.domain.envelope import TEST_DATA, TEST_TYPE
from tocsin.domain.errors import RateLimited
from tocsin.domain.model import Attempt, Channel, DeliveryId, Event, EventId, Origin
from tocsin.limits import TokenBuckets
from tocsin.service.changes import Changes
from tocsin.service.ports import Dispatch
from tocsin.service.sight import Sight
from tocsin.storage.base import DataPlane, Held
from tocsin.storage.control import deliveries

AT_ONCE_MAX = 5
PER_MINUTE_MAX = 30
CLOSE_SECONDS = 31.0


class Tester:
    """Sends tests, few at once and per minute for each organization."""

    def __init__(self, *, changes: Changes, dispatch: Dispatch, plane: DataPlane) -> None:
        self._changes = changes
        self._dispatch = dispatch
        self._plane = plane
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Attempt]] = set()
        self._budget = TokenBuckets(PER_MINUTE_MAX, changes.clock.monotonic)

    async def send(self, channel: Channel) -> Attempt:
        """One attempt, recorded; raises RateLimited, and Unavailable while nothing can be sent."""
        organization_id = channel.organization_id
        if self._running[organization_id] >= AT_ONCE_MAX:
            raise RateLimited("Too many tests are running.", 1)
        budget = self._budget.take(organization_id)
        if not budget.allowed:
            raise RateLimited("Too many tests were sent.", budget.retry_after_seconds)
        self._running[organization_id] += 1
        # Once it is stored it is held: it must be sent, or nobody ever would, even if the caller
        # hangs up.
        task = asyncio.get_running_loop().create_task(self._send(channel))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, organization_id))
        return await asyncio.shield(task)

    async def _send(self, channel: Channel) -> Attempt:
        return await self._dispatch.probe(await self._store(channel))

    def _ended(self, task: "asyncio.Task[Attempt]", organization_id: str) -> None:
        self._tasks.discard(task)
        self._running[organization_id] -= 1
        if not self._running[organization_id]:
            del self._running[organization_id]
        if not task.cancelled():
            task.exception()  # whoever waits has it too; nobody may be waiting any more

    async def close(self) -> None:
        """Wait for the tests under way; each ends within its channel's timeout, if the database
        takes it."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=CLOSE_SECONDS)
        for task in set(self._tasks):
            task.cancel()

    async def _store(self, channel: Channel) -> Held:
        clock, new_id = self._changes.clock, self._changes.new_id
        now_ms = clock.wall_ms()
        due_ms = clock.storage_ms()
        event = Event(
            id=EventId(new_id()),
            organization_id=channel.organization_id,
            project_id=channel.project_id,
            type=TEST_TYPE,
            data=TEST_DATA,
            occurred_at=now_ms,
            created_at=now_ms,
        )
        delivery_id = DeliveryId(new_id())
        node = self._plane.node
        await self._changes.store.write(
            lambda c: deliveries.insert_test(
                c,
                Sight(channel.organization_id),
                event,
                delivery_id=delivery_id,
                channel_id=channel.id,
                node=node,
                due_ms=due_ms,
            )
        )
        return Held(
            id=delivery_id,
            claim=1,
            channel_id=channel.id,
            event=event,
            origin=Origin.TEST,
            number=1,
            step=0,
            lost=0,
            due_ms=due_ms,
        )

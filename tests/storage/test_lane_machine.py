"""Any order of what may happen to a lane: what waits is claimable when it is due, and once."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.storage.stores import (
    DRIVERS,
    ORGANIZATION,
    AnyStore,
    make_channel,
    make_organization,
    new_event,
    new_id,
    open_store,
    settlement,
)

from tocsin.domain.model import Breaker, ChannelId, Status
from tocsin.service.sight import Sight
from tocsin.storage.base import Held, Stored
from tocsin.storage.control import lanes
from tocsin.storage.control.channels import channel_of
from tocsin.storage.control.deliveries import Now, reopen
from tocsin.storage.control.jobs import Task, create
from tocsin.storage.control.work import CANCEL_BACKLOG, CANCEL_DELETED, step
from tocsin.storage.sqlite.claiming import BACKLOG_PAUSE_MS
from tocsin.storage.tables import channels as channels_table

EXAMPLES = {"sqlite": 300, "postgres": 60}
if not os.environ.get("TOCSIN_TEST_EVERYTHING"):
    EXAMPLES = {"sqlite": 120, "postgres": 25}
START_MS = 1_800_000_000_000
SIGHT = Sight(ORGANIZATION)
CHANNELS = 3
channel_numbers = st.integers(0, CHANNELS - 1)

BREAKER = Breaker(failures=2, cooldown_seconds=3)

# Of an ordered lane the head counts: first what has no number, then the lowest number.
LATE = """
    SELECT l.channel_id, l.next_due_ms, l.blocked_until_ms, l.backlog_due_ms,
        l.breaker_state, l.breaker_until_ms, (
        SELECT d.due_ms FROM (
            SELECT CASE WHEN o.ordered THEN coalesce(w.seq, -1) ELSE -1 END AS place, w.due_ms
            FROM deliveries AS w JOIN lanes AS o USING (channel_id)
            WHERE w.status = 'waiting' AND w.channel_id = l.channel_id AND w.node = 0
                AND w.id > coalesce(o.cancelled_through, '')) AS d
        ORDER BY d.place, d.due_ms LIMIT 1
    ) AS due_ms FROM lanes AS l WHERE l.parked IS NULL
"""
PASSED_OVER = """
    SELECT d.id FROM deliveries AS d JOIN deliveries AS taken ON taken.channel_id = d.channel_id
    WHERE d.status = 'waiting' AND d.node = 0 AND d.seq IS NOT NULL AND taken.id = '{id}'
        AND d.seq < taken.seq
        AND d.id > (SELECT coalesce(cancelled_through, '') FROM lanes AS l
            WHERE l.channel_id = d.channel_id)
"""


class World:
    """The store under test and its clock, kept from one example to the next."""

    def __init__(self, driver: str) -> None:
        self.now_ms = START_MS
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        clock = {"wall_ms": lambda: self.now_ms, "storage_ms": lambda: self.now_ms}
        self._opened = open_store(driver, Path(self.folder.name), **clock)
        self.store = self.runner.run(self._open())
        self.runner.run(make_organization(self.store))

    async def _open(self) -> AnyStore:
        return await self._opened.__aenter__()

    def close(self) -> None:
        self.runner.run(self._close())
        self.runner.close()
        self.folder.cleanup()

    async def _close(self) -> None:
        await self._opened.__aexit__(None, None, None)


world: World


@pytest.fixture(autouse=True)
def a_world(patience: None, request: pytest.FixtureRequest) -> Iterator[None]:
    global world
    world = World(request.node.callspec.params["driver"])
    yield
    world.close()


class LaneMachine(RuleBasedStateMachine):
    """Everything that moves deliveries or lanes, on three lanes of one organization."""

    @initialize()
    def begin(self) -> None:
        self.channels = [world.runner.run(make_channel(world.store)) for _ in range(CHANNELS)]
        self.versions = dict.fromkeys(self.channels, 1)
        self.ordered: set[ChannelId] = set()
        self.held: list[Held] = []
        self.claims: set[tuple[str, int]] = set()
        self.tasks: list[Task] = []
        self.deleted: set[ChannelId] = set()

    def teardown(self) -> None:
        def clear(connection: sa.Connection) -> None:
            for table in ("lanes", "deliveries", "jobs"):
                connection.execute(sa.text(f"DELETE FROM {table}"))

        self.control(clear)

    def control(self, work: Callable[[sa.Connection], Any]) -> Any:
        return world.runner.run(world.store.write(work))

    def query(self, text: str) -> list[Any]:
        return world.runner.run(world.store.read(lambda c: list(c.execute(sa.text(text)))))

    def take(self, held: list[Held]) -> None:
        for item in held:
            assert item.channel_id not in self.deleted
            assert (item.id, item.claim) not in self.claims, "a claim number came twice"
            self.claims.add((item.id, item.claim))
        mine = {item.id for item in held}
        for channel_id in self.ordered.intersection(item.channel_id for item in held):
            others = [item for item in self.held if item.channel_id == channel_id]
            assert not others, "claimed beside what is held of an ordered lane"
            last = [item.id for item in held if item.channel_id == channel_id][-1]
            assert not self.query(PASSED_OVER.format(id=last)), "not in order"
        assert not mine & {item.id for item in self.held}, "claimed while it is held"
        self.held += held

    def claim(self, room: int = 1_000) -> tuple[list[Held], int | None]:
        claims = world.runner.run(
            world.store.claim(
                now_ms=world.now_ms, room=room, bytes_max=10**6, lane_room=1_000, full=[]
            )
        )
        return claims.held, claims.next_due_ms

    @rule(
        numbers=st.lists(channel_numbers, min_size=1, max_size=3, unique=True), born=st.booleans()
    )
    def publish(self, numbers: list[int], born: bool) -> None:
        wanted = [self.channels[n] for n in numbers if self.channels[n] not in self.deleted]
        ((version,),) = self.query("SELECT version FROM organizations")
        event = new_event(*wanted, claim=born, due_ms=world.now_ms, version=version)
        for delivery in event.deliveries:
            delivery.ordered = delivery.channel_id in self.ordered
        (answer,) = world.runner.run(world.store.add([event]))
        assert isinstance(answer, Stored)
        claimed_in_order = [
            d for d in event.deliveries if d.ordered and d.id in set(answer.claimed)
        ]
        assert not claimed_in_order
        self.take(
            [
                Held(d.id, 1, d.channel_id, event.event, event.origin, 1, 0, 0, event.due_ms)
                for d in event.deliveries
                if d.id in answer.claimed
            ]
        )

    @rule(room=st.sampled_from([1, 3, 1_000]))
    def claim_some(self, room: int) -> None:
        held, next_due_ms = self.claim(room)
        self.take(held)
        assert len(held) <= room
        if next_due_ms is not None and len(held) < room:
            assert next_due_ms > world.now_ms or self.query(
                "SELECT 1 FROM lanes WHERE backlog_before_ms IS NOT NULL OR ordered"
            )

    @rule(ms=st.sampled_from([1, 50, 100, 1_000, 60_000]))
    def wait(self, ms: int) -> None:
        world.now_ms += ms

    @rule(
        data=st.data(),
        status=st.sampled_from([Status.DELIVERED, Status.WAITING, Status.EXHAUSTED]),
        hold_ms=st.sampled_from([0, 0, 5_000]),
        late=st.booleans(),
        gone=st.booleans(),
        status_code=st.sampled_from([500, 404, None]),
    )
    def settle(
        self,
        data: st.DataObject,
        status: Status,
        hold_ms: int,
        late: bool,
        gone: bool,
        status_code: int | None,
    ) -> None:
        if not self.held:
            return
        item = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        version = self.versions[item.channel_id] - late
        made = settlement(
            item,
            status,
            due_ms=world.now_ms + 1_000,
            version=version,
            hold_until_ms=world.now_ms + hold_ms if hold_ms else 0,
            park="gone" if gone and status is Status.WAITING and not hold_ms else None,
            breaker=None if item.channel_id in self.ordered else BREAKER,
        )
        if status is not Status.DELIVERED:
            made.attempt.status_code = status_code
            made.attempt.error = "http_status" if status_code else "tls_failed"
        settled = world.runner.run(world.store.settle([made]))
        assert settled.superseded == []
        for channel_id, until_ms in settled.opened:
            assert channel_id not in self.ordered
            assert until_ms == world.now_ms + BREAKER.cooldown_seconds * 1000
        for _, channel_id in settled.disabled:
            self.versions[channel_id] += 1

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if not self.held:
            return
        item = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        world.runner.run(world.store.release([(item.id, item.claim, item.channel_id)]))

    def open_number(self, number: int) -> ChannelId | None:
        channel_id = self.channels[number]
        return None if channel_id in self.deleted else channel_id

    def bump(self, channel_id: ChannelId) -> int:
        self.versions[channel_id] += 1
        version = self.versions[channel_id]
        self.control(
            lambda c: (
                c.execute(
                    sa.update(channels_table)
                    .where(channels_table.c.id == channel_id)
                    .values(version=version)
                ).rowcount
            )
        )
        return version

    @rule(number=channel_numbers)
    def disable(self, number: int) -> None:
        channel_id = self.open_number(number)
        if channel_id is not None:
            version = self.bump(channel_id)
            self.control(lambda c: lanes.park(c, SIGHT, channel_id, version=version))

    @rule(number=channel_numbers, slowly=st.booleans(), cancel=st.booleans())
    def enable(self, number: int, slowly: bool, cancel: bool) -> None:
        channel_id = self.open_number(number)
        if channel_id is None:
            return
        version, through, now_ms = self.bump(channel_id), new_id(), world.now_ms

        def work(c: sa.Connection) -> None:
            lanes.open(
                c,
                SIGHT,
                channel_id,
                version=version,
                backlog_through=through if slowly else None,
                now_ms=now_ms,
            )
            if cancel:
                lanes.cancel_backlog(c, SIGHT, channel_id, through=through)
                self.tasks.append(self.job(c, CANCEL_BACKLOG, channel_id, through=through))

        self.control(work)

    def job(self, c: sa.Connection, kind: str, channel_id: ChannelId, **arguments: Any) -> Task:
        return create(
            c,
            SIGHT,
            id=new_id(),
            kind=kind,
            channel_id=channel_id,
            internal=True,
            arguments=arguments,
            now_ms=world.now_ms,
        )

    @rule(number=channel_numbers)
    def change(self, number: int) -> None:
        channel_id = self.open_number(number)
        if channel_id is not None:
            version = self.bump(channel_id)
            self.control(lambda c: lanes.change(c, SIGHT, channel_id, version=version, reset=True))

    @rule(number=channel_numbers)
    def turn_order(self, number: int) -> None:
        """A person makes a channel ordered, or takes that back; its breaker goes with it."""
        channel_id = self.open_number(number)
        if channel_id is None:
            return
        version = self.bump(channel_id)
        self.ordered ^= {channel_id}
        ordered = channel_id in self.ordered

        def work(c: sa.Connection) -> None:
            row = c.execute(
                sa.update(channels_table)
                .where(channels_table.c.id == channel_id)
                .values(ordered=ordered)
                .returning(channels_table)
            ).one()
            lanes.describe(c, SIGHT, channel_of(row))
            lanes.close_breaker(c, SIGHT, channel_id)
            lanes.change(c, SIGHT, channel_id, version=version, reset=False)

        self.control(work)

    @rule(number=channel_numbers)
    def delete(self, number: int) -> None:
        channel_id = self.open_number(number)
        if channel_id is None or len(self.deleted) == CHANNELS - 1:
            return
        self.deleted.add(channel_id)

        def work(c: sa.Connection) -> None:
            lanes.close(c, SIGHT, [channel_id])
            self.tasks.append(self.job(c, CANCEL_DELETED, channel_id))

        self.control(work)

    @rule()
    def run_a_job(self) -> None:
        if self.tasks:
            task = self.tasks[0]
            now_ms = world.now_ms
            if self.control(lambda c: step(c, task, now_ms=now_ms)).finished:
                self.tasks.pop(0)

    @rule()
    def retry_one(self) -> None:
        """As the API does: only what is final, and not on a deleted channel."""
        final = self.query(
            "SELECT d.id FROM deliveries AS d JOIN lanes AS l USING (channel_id)"
            " WHERE d.status IN ('delivered', 'exhausted') AND l.parked IS DISTINCT FROM 'deleted'"
            " AND l.cancelled_through IS NULL ORDER BY d.id LIMIT 1"
        )
        if final:
            now = Now(storage_ms=world.now_ms, wall_ms=world.now_ms, nodes=(world.store.node,))
            self.control(lambda c: reopen(c, SIGHT, now, final[0][0]))

    @rule()
    def check_lanes(self) -> None:
        """The janitor finds nothing to repair, whatever happened before."""
        assert world.runner.run(world.store.check_lanes(world.now_ms)) == 0

    @invariant()
    def nothing_is_due_later_than_it_should(self) -> None:
        if not hasattr(self, "channels"):
            return
        for row in self.query(LATE):
            if row.due_ms is None:
                continue
            right_ms = max(row.due_ms, row.blocked_until_ms, row.backlog_due_ms)
            assert row.next_due_ms is not None, "a wake-up is lost"
            assert row.next_due_ms <= right_ms
            assert row.next_due_ms >= row.blocked_until_ms
            assert row.breaker_state is None or row.blocked_until_ms >= row.breaker_until_ms

    @rule()
    def drain(self) -> None:
        """Claiming whenever something falls due gets everything that waits in open lanes."""
        for _ in range(400):
            held, next_due_ms = self.claim()
            self.take(held)
            # Ordered lanes go on when nothing is held, and breakers close with a success.
            taken, self.held = self.held, []
            if taken:
                done = [
                    settlement(item, due_ms=world.now_ms, version=self.versions[item.channel_id])
                    for item in taken
                ]
                world.runner.run(world.store.settle(done))
            elif next_due_ms is None:
                break
            if next_due_ms is None:
                continue
            world.now_ms = max(world.now_ms, next_due_ms)
        else:
            raise AssertionError(f"no end of claiming every {BACKLOG_PAUSE_MS} ms")
        assert not self.query(
            "SELECT d.id FROM deliveries AS d JOIN lanes AS l USING (channel_id)"
            " WHERE d.status = 'waiting' AND d.node = 0 AND l.parked IS NULL"
            " AND d.id > coalesce(l.cancelled_through, '')"
        )


def run_machine(examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        LaneMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("driver", ["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def test_no_wake_up_is_lost(driver: str) -> None:
    run_machine(examples=15, steps=30)


@pytest.mark.long
@pytest.mark.parametrize("driver", DRIVERS)
def test_no_wake_up_is_lost_in_many_orders(driver: str) -> None:
    run_machine(examples=EXAMPLES[driver], steps=60)

"""What was decided to be told becomes one event each, on both databases, whatever happens between
its publishing and the removal of its row."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.service.parts import OPERATOR, MovableClock
from tests.storage.stores import (
    DRIVERS,
    ORGANIZATION,
    AnyStore,
    born,
    make_channel,
    make_organization,
    new_event,
    new_id,
    now_ms,
    one,
    open_store,
    rows,
    settlement,
)

from tocsin.domain.errors import RateLimited, Unavailable
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId, Status
from tocsin.service.exhausted import FIRST_MINUTES, LATE_MINUTES, MINUTE_MS, Exhausted, event_id
from tocsin.service.intake import Intake
from tocsin.service.outbox import ROWS_PER_STEP, Outbox
from tocsin.service.publish import EventDraft, Publisher
from tocsin.service.routing import Routing
from tocsin.service.sight import Sight
from tocsin.storage.base import Held
from tocsin.storage.control import outbox
from tocsin.storage.tables import channels, organizations, projects
from tocsin.storage.watch_tables import channel_minutes

pytestmark = pytest.mark.anyio

PROJECT, OTHER = ProjectId("1" * 24), ProjectId("2" * 24)
SIGHT = Sight(ORGANIZATION)


class NoHands:
    """A node that leaves everything to others."""

    def __init__(self) -> None:
        self.woken = 0

    def reserve(self, wanted: Any) -> list[bool]:
        return [False] * len(wanted)

    def unreserve(self, granted: Any) -> None:
        pass

    def offer(self, held: Any) -> None:
        pass

    def wake(self, due_ms: int) -> None:
        self.woken += 1

    def forget(self, organization_id: Any) -> None:
        pass

    async def probe(self, held: Held) -> Any:
        raise AssertionError


class Failing:
    """A store of which some writes fail, before or after they are done."""

    def __init__(self, store: AnyStore) -> None:
        self._store = store
        self.fails = 0
        self.after = False

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        return await self._store.read(work)

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        if self.after:
            await self._store.write(work)
        if self.fails:
            self.fails -= 1
            raise Unavailable("killed")
        return await self._store.write(work)


class Node:
    """One node's outbox, on a store that others may use as well."""

    def __init__(self, store: AnyStore) -> None:
        self.store = store
        self.failing = Failing(store)
        self.clock = MovableClock()
        self.intake = Intake(1)
        self.hands = NoHands()
        self.routing = Routing(store)
        self.publisher = Publisher(
            store=store,
            routing=self.routing,
            dispatch=self.hands,
            clock=self.clock,
            ids=IdMaker(store.node, store.floor_ms),
            idempotency_hours=24,
            intake=self.intake,
        )
        self.outbox = Outbox(self.failing, self.publisher)
        self.exhausted = Exhausted(self.failing, self.publisher)


@pytest.fixture(params=DRIVERS)
async def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def node(driver: str, tmp_path: Path) -> AsyncIterator[Node]:
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        for id, slug in ((PROJECT, "one"), (OTHER, "two")):
            row = {"id": id, "organization_id": ORGANIZATION, "name": slug, "slug": slug}
            row |= {"created_at": 1, "updated_at": 1}  # type: ignore[dict-item]
            await store.write(lambda c, r=row: c.execute(sa.insert(projects).values(r)).rowcount)  # type: ignore[misc]
        made = Node(store)
        yield made
        await made.publisher.close()


async def channel(
    store: AnyStore, *patterns: str, project_id: str | None = PROJECT, **values: Any
) -> ChannelId:
    """A channel of the project that hears these."""
    id = await make_channel(store)
    told = {"event_types": json.dumps(patterns or ["*"]), "project_id": project_id} | values

    def change(connection: Connection) -> None:
        connection.execute(sa.update(channels).where(channels.c.id == id).values(told))
        mine = organizations.c.id == ORGANIZATION
        bump = sa.update(organizations).where(mine)
        connection.execute(bump.values(version=organizations.c.version + 1))

    await store.write(change)
    return id


async def note(
    store: AnyStore,
    kind: str,
    channel_id: str | None,
    body: dict[str, Any] | None = None,
    sight: Sight = SIGHT,
    **values: Any,
) -> str:
    """A row as settling leaves it."""
    id = new_id()
    given: dict[str, Any] = {"id": id, "at": 1_234_567, "body": body or {}} | values
    await store.write(lambda c: outbox.put(c, sight, kind=kind, channel_id=channel_id, **given))
    return id


def alert(*channel_ids: str, type: str = "alert.triggered", **data: Any) -> dict[str, Any]:
    rule = {"id": "d" * 24, "name": "dlq", "rule_type": "dlq"}
    said = {"alert_rule": rule, "trigger_reason": "x", "trigger_data": {"n": 1}}
    said |= {"source_id": None, "destination_id": None} | data
    return {"type": type, "project_id": PROJECT, "channel_ids": channel_ids, "data": said}


async def events(store: AnyStore) -> list[dict[str, Any]]:
    found = await rows(store, "SELECT * FROM events ORDER BY id")
    return [row | {"data": json.loads(bytes(row["data"]))} for row in found]


async def deliveries(store: AnyStore) -> list[tuple[str, str, str]]:
    found = await rows(store, "SELECT * FROM deliveries ORDER BY event_id, channel_id")
    return [(row["event_id"], row["channel_id"], row["origin"]) for row in found]


async def left(store: AnyStore) -> int:
    return int((await one(store, "SELECT count(*) AS n FROM outbox"))["n"])


async def test_an_operational_event_goes_to_who_asked_for_it(node: Node) -> None:
    store = node.store
    sick = await channel(store, "*")
    wanting = sorted(
        [
            await channel(store, "tocsin.*"),
            await channel(store, "tocsin.channel.failing", project_id=None),
        ]
    )
    await channel(store, "tocsin.channel.recovered")
    await channel(store, "tocsin.*", project_id=OTHER)
    await channel(store, "tocsin.*", filter='[{"field": "channel.type", "op": "eq", "value": "x"}]')
    body = {"failures": 5, "last_error": "timeout", "last_status_code": None}
    id = await note(store, "channel.failing", sick, body)
    assert await node.outbox.run_once() == 1
    (event,) = await events(store)
    assert (event["id"], event["type"]) == (id, "tocsin.channel.failing")
    assert (event["project_id"], event["occurred_at"]) == (PROJECT, 1_234_567)
    assert event["deliveries"] == 2
    assert event["data"] == {
        "channel": {"id": sick, "name": "a channel", "type": "webhook"},
        **body,
    }
    assert await deliveries(store) == [(id, one, "operational") for one in wanting]
    assert await left(store) == 0
    assert node.hands.woken
    assert await node.outbox.run_once() == 0


async def test_what_nobody_asked_for_leaves_no_trace(node: Node) -> None:
    store = node.store
    sick = await channel(store, "*")
    whole = await channel(store, "tocsin.*", project_id=None)
    gone = await channel(store, "tocsin.*")
    await note(store, "channel.failing", gone)
    await note(store, "alert", None, alert(gone, whole) | {"project_id": "9" * 24})
    await note(store, "alert", None, alert(gone, "8" * 24))
    await note(store, "channel.failing", "7" * 24, sight=Sight(OrganizationId("e" * 24)))
    await note(store, "channel.recovered", sick, sight=Sight(OrganizationId("e" * 24)))
    end = sa.update(channels).where(channels.c.id.in_((gone, whole))).values(deleted_at=5)
    await store.write(lambda c: c.execute(end).rowcount)
    await channel(store)  # the version moves on
    await note(store, "channel.disabled", sick, {"reason": "gone"})
    assert await node.outbox.run_once() == 0
    assert await left(store) == 0
    for table in ("events", "deliveries", "idempotency"):
        assert await rows(store, f"SELECT * FROM {table}") == []


async def test_an_alert_goes_to_exactly_its_channels(node: Node) -> None:
    store = node.store
    named = sorted(
        [
            await channel(store, "nothing"),
            await channel(store, "tocsin.*", filter='[{"field": "x", "op": "eq", "value": 1}]'),
        ]
    )
    await channel(store, "*", "alert.*")
    foreign = await channel(store, "*", project_id=OTHER)
    gone = "9" * 24
    id = await note(store, "alert", None, alert(*named, named[0], foreign, gone))
    resolved = await note(
        store,
        "alert",
        None,
        alert(named[0], type="alert.resolved", resolved_at="2026-11-20T09:30:00.000Z"),
    )
    assert await node.outbox.run_once() == 2
    first, second = await events(store)
    assert (first["id"], first["type"]) == (id, "alert.triggered")
    assert first["data"] == alert()["data"]
    assert (second["id"], second["type"]) == (resolved, "alert.resolved")
    assert await deliveries(store) == [
        *((id, one, "alert") for one in named),
        (resolved, named[0], "alert"),
    ]


async def test_a_bad_row_is_put_aside_and_delays_no_other(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    store = node.store
    sick = await channel(store, "tocsin.*")
    bad = [
        await note(store, "alert", None, {"type": "alert.triggered"}),
        await note(store, "alert", None, alert(sick, type="not a type")),
        await note(store, "channel.unheard_of", sick),
        await note(store, "channel.failing", sick),
        await note(store, "alert", None, alert(sick) | {"data": 7}),
    ]
    broken = sa.text(f"UPDATE outbox SET body = '[' WHERE id = '{bad[3]}'")
    await store.write(lambda c: c.execute(broken).rowcount)
    good = [await note(store, "channel.failing", sick) for _ in range(ROWS_PER_STEP)]
    assert await node.outbox.run_once() == len(good)
    assert [event["id"] for event in await events(store)] == good
    assert await left(store) == 0
    for id in bad:
        assert id in caplog.text


@pytest.mark.parametrize("after", [False, True])
async def test_killed_between_publish_and_removal(node: Node, after: bool) -> None:
    """By whoever comes next it is told once, not again."""
    store = node.store
    sick = await channel(store, "tocsin.*")
    ids = [await note(store, "channel.failing", sick) for _ in range(3)]
    node.failing.fails, node.failing.after = 1, after
    with pytest.raises(Unavailable):
        await node.outbox.run_once()
    assert await left(store) == (0 if after else 3)
    assert len(await events(store)) == 3
    again = Node(store)
    await again.outbox.run_once()
    assert await left(store) == 0
    assert [event["id"] for event in await events(store)] == ids
    assert len(await deliveries(store)) == 3
    await again.publisher.close()


async def test_told_once_even_when_its_key_is_forgotten(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """A node that was paused for days between reading a row and publishing it."""
    store = node.store
    sick = await channel(store, "tocsin.*")
    id = await note(store, "channel.failing", sick)
    node.failing.fails = 1
    with pytest.raises(Unavailable):
        await node.outbox.run_once()
    await store.forget_keys(now_ms() + 1_000, 9)
    assert await left(store) == 1
    assert await node.outbox.run_once() == 0
    assert await left(store) == 0
    assert [event["id"] for event in await events(store)] == [id]
    assert len(await deliveries(store)) == 1
    assert id in caplog.text


async def test_two_nodes_tell_once(node: Node, driver: str, tmp_path: Path) -> None:
    store = node.store
    sick = await channel(store, "tocsin.*")
    async with AsyncExitStack() as stack:
        # One file has one process, which may have two outboxes all the same.
        second = store
        if driver == "postgres":
            second = await stack.enter_async_context(open_store(driver, tmp_path))
        other = Node(second)
        for _ in range(5):
            for _ in range(20):
                await note(store, "channel.failing", sick)
            await asyncio.gather(node.outbox.run_once(), other.outbox.run_once())
        await other.publisher.close()
    assert await left(store) == 0
    assert len(await events(store)) == 100
    assert len(await deliveries(store)) == 100


async def test_it_is_no_publish_of_the_tenants(node: Node) -> None:
    """No quota refuses it, and nothing counts it among what was accepted."""
    store = node.store
    sick = await channel(store, "*", "tocsin.*")
    draft = EventDraft(type="a.b", data=b"1", project=PROJECT)
    await node.publisher.accept(OPERATOR, SIGHT, [draft])
    await node.intake.count(store)
    with pytest.raises(RateLimited):
        await node.publisher.accept(OPERATOR, SIGHT, [draft])
    before = await rows(store, "SELECT accepted FROM project_minutes")
    await note(store, "channel.failing", sick)
    assert await node.outbox.run_once() == 1
    counts = node.publisher.counts
    assert (counts.accepted, counts.duplicate, counts.deliveries) == (1, 0, 2)
    assert await rows(store, "SELECT accepted FROM project_minutes") == before


async def given_up(store: AnyStore, channel_id: str, minute: int, *counts: int) -> None:
    """What nodes have counted of a minute."""
    for number, count in enumerate(counts, 1):
        row = {
            "channel_id": channel_id,
            "minute": minute,
            "node": number,
            "organization_id": ORGANIZATION,
            "exhausted": count,
            **dict.fromkeys(("attempts", "failed", "delivered"), count),
        }
        await store.write(lambda c, r=row: c.execute(sa.insert(channel_minutes).values(r)).rowcount)  # type: ignore[misc]


async def test_what_was_given_up_is_told_once_a_minute(node: Node) -> None:
    store = node.store
    sick = await channel(store, "*")
    well = await channel(store, "tocsin.*")
    minute = now_ms() // MINUTE_MS - 3
    await given_up(store, sick, minute, 4_000, 1_000)
    await given_up(store, well, minute, 0)
    await given_up(store, sick, minute - FIRST_MINUTES - 1, 1)  # too long ago
    over = (minute + 1) * MINUTE_MS
    assert await node.exhausted.run_once(over + 4_999) == 0
    assert await node.exhausted.run_once(over + 5_000) == 1
    (event,) = await events(store)
    assert (event["type"], event["project_id"]) == ("tocsin.delivery.exhausted", PROJECT)
    assert (event["id"], event["occurred_at"]) == (event_id(sick, minute), minute * MINUTE_MS)
    told = event["data"]
    assert told.pop("minute").endswith(":00.000Z")
    name = {"id": sick, "name": "a channel", "type": "webhook"}
    assert told == {"channel": name, "count": 5_000, "last_error": None}
    assert await deliveries(store) == [(event["id"], well, "operational")]
    # Neither this one nor any other node tells it again, nor of what came late for it.
    await store.write(lambda c: c.execute(sa.update(channel_minutes).values(exhausted=9)).rowcount)
    other = Node(store)
    for each in (node, other):
        for later in (5_000, 9_000, 65_000):
            await each.exhausted.run_once(over + later)
    assert {one["id"] for one in await events(store)} == {event["id"], event_id(well, minute)}
    # What was recorded late for a minute that nobody told of is told.
    await given_up(store, sick, minute + 1, 1)
    assert await node.exhausted.run_once(over + 65_000) == 0
    assert await node.exhausted.run_once(over + 65_000 + MINUTE_MS * (LATE_MINUTES - 1)) == 1
    await other.publisher.close()


async def test_a_failure_in_between_is_made_up_for(node: Node) -> None:
    store = node.store
    sick = await channel(store, "tocsin.*")
    minute = now_ms() // MINUTE_MS - 3
    await given_up(store, sick, minute, 1)
    over = (minute + 1) * MINUTE_MS + 5_000

    async def away(work: Callable[[Connection], Any]) -> Any:
        raise Unavailable("away")

    reading, node.failing.read = node.failing.read, away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await node.exhausted.run_once(over)
    node.failing.read = reading  # type: ignore[method-assign]
    assert await node.exhausted.run_once(over) == 1
    # A clock that was set back tells nothing twice.
    assert await node.exhausted.run_once(over - 2 * MINUTE_MS) == 0
    assert await node.exhausted.run_once(over + MINUTE_MS) == 0
    assert len(await events(store)) == 1


async def test_5000_given_up_in_a_minute_are_two_events(node: Node) -> None:
    store = node.store
    sick = [await channel(store, "build.*") for _ in range(2)]
    await channel(store, "tocsin.*")
    version = (await one(store, "SELECT version FROM organizations"))["version"]
    at = now_ms() // MINUTE_MS * MINUTE_MS
    for _ in range(10):
        made = [
            new_event(*sick, data=b"1", project_id=PROJECT, version=version) for _ in range(250)
        ]
        await store.add(made)
        held = [born(event, each) for event in made for each in range(len(sick))]
        await store.settle([settlement(each, Status.EXHAUSTED, finished_at=at) for each in held])
        await node.outbox.run_once()
    for seconds in (70, 130, 190):
        await node.exhausted.run_once(at + seconds * 1_000)
    told = await events(store)
    told = [event for event in told if event["type"].startswith("tocsin.")]
    kinds = [(event["type"], event["data"]["channel"]["id"]) for event in told]
    wanted = ("tocsin.channel.failing", "tocsin.delivery.exhausted")
    assert sorted(kinds) == sorted((kind, one) for kind in wanted for one in sick)
    counts = [event["data"].get("count") for event in told if event["type"] == wanted[1]]
    assert counts == [2_500, 2_500]

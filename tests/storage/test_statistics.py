"""What settling and publishing leave for those who watch, on both databases: counts that are always
right, issues, and what is to be told."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from tests.storage.stores import (
    DRIVERS,
    ORGANIZATION,
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

from tocsin.domain.latency import bucket_of
from tocsin.domain.model import Breaker, ChannelId, Origin, Status, Unmatched
from tocsin.storage.base import Held, Settled, Settlement
from tocsin.storage.control import statistics
from tocsin.storage.tables import channels, lanes

pytestmark = pytest.mark.anyio

PROJECT = "b" * 24
LATER = 60_000


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    async with open_store(request.param, tmp_path) as opened:
        await make_organization(opened)
        yield opened


async def sums(store: AnyStore) -> dict[ChannelId, statistics.ChannelSums]:
    return await store.read(
        lambda c: statistics.channel_sums(c, since_minute=0, until_minute=2**31 - 1, latency=True)
    )


async def held(store: AnyStore, channel: ChannelId, count: int, **fields: Any) -> list[Held]:
    events = [new_event(channel, **fields) for _ in range(count)]
    await store.add(events)
    return [born(event) for event in events]


async def notes(store: AnyStore) -> list[tuple[str, dict[str, Any]]]:
    found = await rows(store, "SELECT kind, body FROM outbox ORDER BY id")
    return [(row["kind"], msgspec.json.decode(row["body"])) for row in found]


async def fail(store: AnyStore, items: list[Held], **fields: Any) -> Settled:
    return await store.settle([settlement(item, Status.EXHAUSTED, **fields) for item in items])


class Model:
    """The counts as they should be."""

    def __init__(self) -> None:
        self.counts: dict[ChannelId, Counter[str]] = defaultdict(Counter)

    def count(self, item: Settlement) -> None:
        if item.origin is not Origin.EVENT:
            return
        counts = self.counts[item.channel_id]
        counts["attempts"] += 1
        counts["delivered"] += item.status is Status.DELIVERED
        counts["failed"] += item.status is not Status.DELIVERED
        counts["exhausted"] += item.status is Status.EXHAUSTED
        counts[f"l{bucket_of(item.attempt.duration_ms)}"] += 1

    def check(self, found: dict[ChannelId, statistics.ChannelSums]) -> None:
        assert set(found) == set(self.counts)
        for channel_id, counts in self.counts.items():
            one = found[channel_id]
            assert one.organization_id == ORGANIZATION
            names = ("attempts", "delivered", "failed", "exhausted")
            assert [getattr(one, name) for name in names] == [counts[name] for name in names]
            assert list(one.latency) == [counts[f"l{at}"] for at in range(len(one.latency))]


async def test_sums_are_right_whatever_a_batch_holds(store: AnyStore) -> None:
    """Batches with repeats, with what is superseded, what can't be recorded, and tests."""
    random = Random(9)
    some = [await make_channel(store) for _ in range(4)]
    model = Model()
    before: list[Settlement] = []
    for _ in range(12):
        events = [new_event(random.choice(some)) for _ in range(random.randrange(1, 9))]
        await store.add(events)
        batch = []
        for event in events:
            ends = random.choice((Status.DELIVERED, Status.EXHAUSTED, Status.REJECTED))
            item = settlement(born(event), ends)
            item.attempt.duration_ms = random.choice((0, 3, 40, 900, 29_999, 10**7))
            item.finished_at -= random.choice((0, 60_000, 86_400_000))
            if random.random() < 0.2:
                item.origin = random.choice((Origin.TEST, Origin.ALERT, Origin.OPERATIONAL))
            if random.random() < 0.1:
                item.attempt.response_body = "\ud800"  # the batch is split until it is alone
            elif random.random() < 0.2:
                item.claim += 1  # as it would be after the claim was lost
                batch.append(item)
                continue
            model.count(item)
            batch.append(item)
        batch += random.sample(before, min(len(before), random.randrange(3)))
        before += batch
        random.shuffle(batch)
        await store.settle(batch)
    model.check(await sums(store))


async def test_one_row_holds_a_minute_of_a_channel(store: AnyStore) -> None:
    channel = await make_channel(store)
    items = [settlement(item) for item in await held(store, channel, 6)]
    for at, item in enumerate(items):
        item.finished_at = 60_000 * (1_000 + at // 3) + at
    await store.settle(items[:2])
    await store.settle(items[2:])
    found = await rows(store, "SELECT minute, node, attempts FROM channel_minutes ORDER BY minute")
    assert [(row["minute"], row["attempts"]) for row in found] == [(1_000, 3), (1_001, 3)]
    assert {row["node"] for row in found} == {store.node}


async def test_two_nodes_add_up(tmp_path: Path) -> None:
    async with open_store("postgres", tmp_path) as one_node:
        await make_organization(one_node)
        channel = await make_channel(one_node)
        async with open_store("postgres", tmp_path, before=None) as other:
            for store, count in ((one_node, 3), (other, 4)):
                items = await held(store, channel, count)
                await store.settle([settlement(item) for item in items])
            found = await rows(one_node, "SELECT node, attempts FROM channel_minutes")
            assert {row["node"] for row in found} == {one_node.node, other.node}
            assert (await sums(other))[channel].attempts == 7
            accepted = await other.read(
                lambda c: statistics.project_sums(c, since_minute=0, until_minute=2**31 - 1)
            )
            assert accepted[(ORGANIZATION, None)].accepted == 7


async def test_what_is_accepted_is_counted_by_project(store: AnyStore) -> None:
    channel = await make_channel(store)
    keyed: dict[str, Any] = {"idempotency_key": "k"}
    await store.add(
        [
            new_event(channel),
            new_event(channel, **keyed),
            new_event(channel, **keyed),
            new_event(unmatched=Unmatched.NO_TYPE),
            new_event(channel, project_id=PROJECT),
            new_event(channel, project_id=PROJECT, origin=Origin.OPERATIONAL),
            new_event(channel, version=0),
        ]
    )
    await store.add([new_event(channel, **keyed), new_event(channel, project_id=PROJECT)])
    found = await store.read(
        lambda c: statistics.project_sums(c, since_minute=0, until_minute=2**31 - 1)
    )
    assert {place: (one.accepted, one.unmatched) for place, one in found.items()} == {
        (ORGANIZATION, None): (3, 1),
        (ORGANIZATION, PROJECT): (2, 0),
    }


async def test_five_different_failures_in_a_row_are_told_once(store: AnyStore) -> None:
    channel = await make_channel(store)
    items = await held(store, channel, 6)
    for _ in range(3):  # the same four again and again, whoever counts them as new
        waiting = [settlement(item, Status.WAITING, due_ms=now_ms()) for item in items[:4]]
        assert not (await store.settle(waiting)).noted
        items[:4] = sorted(await claim(store, now_ms() + LATER), key=lambda item: item.id)
    lane = await one(store, "SELECT failing_streak, failing_told FROM lanes")
    assert (lane["failing_streak"], bool(lane["failing_told"])) == (4, False)
    assert (await fail(store, items[4:5])).noted
    assert not (await fail(store, items[5:])).noted
    body = {"failures": 5, "last_error": "http_status: 500", "last_status_code": 500}
    assert await notes(store) == [("channel.failing", body)]


async def test_the_first_success_after_it_is_told_even_with_other_settings(store: AnyStore) -> None:
    channel = await make_channel(store)
    await fail(store, await held(store, channel, 5))
    changed = {"version": 2, "failing_streak": 0, "failing_deliveries": None}
    await store.write(lambda c: c.execute(sa.update(lanes).values(changed)).rowcount)
    [old, new, next_one] = await held(store, channel, 3)
    assert not (await store.settle([settlement(old)])).noted
    assert (await store.settle([settlement(new, version=2)])).noted
    assert not (await store.settle([settlement(next_one, version=2)])).noted
    assert [kind for kind, _ in await notes(store)] == ["channel.failing", "channel.recovered"]


async def test_many_successes_between_tell_nothing(store: AnyStore) -> None:
    channel = await make_channel(store)
    for _ in range(4):
        items = await held(store, channel, 5)
        await fail(store, items[:4])
        assert not (await store.settle([settlement(items[4])])).noted
    assert await notes(store) == []


async def test_a_gone_target_is_told_unless_a_notice_found_out(store: AnyStore) -> None:
    first, second = await make_channel(store), await make_channel(store)
    told = ((first, 1, Origin.EVENT), (second, 2, Origin.OPERATIONAL))
    for channel, version, origin in told:  # each raises the organization's version
        [item] = await held(store, channel, 1, version=version)
        gone = settlement(item, Status.WAITING, park="gone", origin=origin)
        assert (await store.settle([gone])).disabled == [(ORGANIZATION, channel)]
        # The outcome of a commit may not be known: then it comes again, and is told no more.
        await store.settle([gone])
    found = await rows(store, "SELECT channel_id, kind, body, organization_id, at FROM outbox")
    assert [(row["channel_id"], row["kind"], row["body"]) for row in found] == [
        (first, "channel.disabled", '{"reason":"gone"}')
    ]


async def test_notices_that_fail_count_for_nothing(store: AnyStore) -> None:
    channel = await make_channel(store)
    for origin in (Origin.ALERT, Origin.OPERATIONAL, Origin.TEST):
        items = await held(store, channel, 6)
        settled = await fail(store, items, origin=origin, breaker=Breaker(failures=1))
        assert (settled.noted, settled.opened) == (False, [])
    assert await notes(store) == []
    assert await rows(store, "SELECT * FROM issues") == []
    assert await sums(store) == {}


async def test_issues_are_one_for_each_kind_of_error(store: AnyStore) -> None:
    channel = await make_channel(store)
    values = {"project_id": PROJECT}
    await store.write(lambda c: c.execute(sa.update(channels).values(values)).rowcount)
    items = await held(store, channel, 6)
    mixed = [settlement(item, Status.EXHAUSTED) for item in items[:3]]
    mixed[1].attempt.status_code, mixed[1].attempt.error = None, "timeout"
    rejected = settlement(items[3], Status.REJECTED)
    await store.settle([*mixed, rejected])
    found = {row["fingerprint"]: row for row in await rows(store, "SELECT * FROM issues")}
    assert {kind: row["occurrence_count"] for kind, row in found.items()} == {
        "http_500": 2,
        "timeout": 1,
    }
    row = found["http_500"]
    assert len(row["id"]) == 24
    assert (row["status"], row["project_id"], row["channel_id"]) == ("open", PROJECT, channel)
    assert (row["last_delivery_id"], row["last_attempt_number"]) == (items[2].id, 1)
    assert (row["last_event_id"], row["last_status_code"]) == (items[2].event.id, 500)
    assert row["title"] == "The target answers HTTP 500"

    await _acknowledge(store, "acknowledged")
    await fail(store, items[4:5])
    row = (await rows(store, "SELECT * FROM issues WHERE fingerprint = 'http_500'"))[0]
    assert (row["status"], row["occurrence_count"], row["opened_at"]) == ("acknowledged", 3, 1)
    await _acknowledge(store, "resolved")
    await fail(store, items[5:])
    row = (await rows(store, "SELECT * FROM issues WHERE fingerprint = 'http_500'"))[0]
    assert (row["status"], row["occurrence_count"], row["resolved_at"]) == ("open", 4, None)
    assert row["opened_at"] > 1
    assert row["id"] == found["http_500"]["id"]


async def _acknowledge(store: AnyStore, status: str) -> None:
    change = sa.text("UPDATE issues SET status = :status, opened_at = 1, resolved_at = 2")
    await store.write(lambda c: c.execute(change, {"status": status}).rowcount)


async def test_a_breaker_that_opens_is_an_issue(store: AnyStore) -> None:
    channel = await make_channel(store)
    items = await held(store, channel, 3)
    waiting = [
        settlement(item, Status.WAITING, due_ms=now_ms(), breaker=Breaker(failures=3))
        for item in items
    ]
    assert (await store.settle(waiting)).opened
    row = await one(store, "SELECT * FROM issues")
    assert (row["fingerprint"], row["occurrence_count"]) == ("breaker_open", 1)
    assert (row["last_delivery_id"], row["last_error"]) == (items[2].id, "http_status: 500")

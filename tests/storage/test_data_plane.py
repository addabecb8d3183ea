"""What every driver's data plane must do; a second driver adds a parameter."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

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

from tocsin.domain.model import Status
from tocsin.storage.base import Duplicate, Stale, Stored
from tocsin.storage.sqlite import claiming
from tocsin.storage.tables import lanes, organizations

pytestmark = pytest.mark.anyio

LATER = 10_000_000


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    async with open_store(request.param, tmp_path) as opened:
        await make_organization(opened)
        yield opened


async def test_an_event_is_claimed_at_birth_and_settled(store: AnyStore) -> None:
    channel = await make_channel(store)
    event = new_event(channel)
    (answer,) = await store.add([event])
    assert answer == Stored([event.deliveries[0].id])
    assert await claim(store) == []
    settled = await store.settle([settlement(born(event))])
    assert settled.superseded == []
    delivery = await one(store, "SELECT * FROM deliveries")
    assert (delivery["status"], delivery["attempt_count"], delivery["node"]) == ("delivered", 1, 0)
    assert (await one(store, "SELECT * FROM attempts"))["status_code"] == 204
    lane = await one(store, "SELECT * FROM lanes")
    assert lane["last_sent_at"] is not None
    assert lane["next_due_ms"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"parked": "disabled"},
        {"blocked_until_ms": 2**45},
        {"next_due_ms": 1},
    ],
)
async def test_a_lane_that_is_not_open_gives_nothing_at_birth(
    store: AnyStore, change: dict[str, object]
) -> None:
    channel = await make_channel(store)
    await store.write(lambda c: c.execute(sa.update(lanes).values(change)).rowcount)
    (answer,) = await store.add([new_event(channel)])
    assert answer == Stored([])
    assert (await one(store, "SELECT node FROM deliveries"))["node"] == 0


async def test_free_deliveries_are_claimed_oldest_first_and_once(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel, claim=False) for _ in range(5)]
    await store.add(events)
    first = await claim(store, room=3)
    assert [held.id for held in first] == [event.deliveries[0].id for event in events[:3]]
    rest = await claim(store)
    assert [held.id for held in rest] == [event.deliveries[0].id for event in events[3:]]
    assert await claim(store) == []
    assert (await one(store, "SELECT next_due_ms FROM lanes"))["next_due_ms"] is None


async def test_a_claim_gives_the_data_byte_for_byte(store: AnyStore) -> None:
    channel = await make_channel(store)
    texts = [
        '"\\u0000 \\ud83d\\ude00 \U0001f600 \u2028 \x7f \\" \\\\"',
        ' {\n\t"a" : [1.50, 1e5, 123456789012345678901234567890] }\r\n',
        "null",
    ]
    await store.add([new_event(channel, claim=False, data=text.encode()) for text in texts])
    assert [held.event.data for held in await claim(store)] == [text.encode() for text in texts]


async def test_a_claim_says_when_to_come_again(store: AnyStore) -> None:
    channel = await make_channel(store)
    due_ms = now_ms() + 60_000
    await store.add([new_event(channel, claim=False, due_ms=due_ms)])
    claims = await store.claim(now_ms=now_ms(), room=9, bytes_max=9, lane_room=9, full=[])
    assert (claims.held, claims.next_due_ms) == ([], due_ms)
    claims = await store.claim(now_ms=now_ms(), room=9, bytes_max=9, lane_room=9, full=[channel])
    assert claims.next_due_ms is None
    assert len(await claim(store, due_ms)) == 1


async def test_a_retry_comes_back_with_its_next_number(store: AnyStore) -> None:
    channel = await make_channel(store)
    event = new_event(channel)
    await store.add([event])
    due_ms = now_ms() + 600_000
    await store.settle([settlement(born(event), Status.WAITING, due_ms=due_ms)])
    assert await claim(store) == []
    (again,) = await claim(store, due_ms)
    assert (again.claim, again.number, again.step) == (2, 2, 1)
    await store.settle([settlement(again)])
    numbers = await rows(store, "SELECT number, outcome FROM attempts ORDER BY claim")
    assert [tuple(row.values()) for row in numbers] == [(1, "retry"), (2, "delivered")]


async def test_a_settlement_whose_claim_is_gone_is_kept_as_superseded(store: AnyStore) -> None:
    channel = await make_channel(store)
    event, other = new_event(channel), new_event(channel)
    await store.add([event, other])
    held = born(event)
    await store.release([(held.id, held.claim, channel)])
    (again,) = await claim(store)
    late = settlement(held, Status.WAITING)
    settled = await store.settle([late, settlement(born(other))])
    assert settled.superseded == [held.id]
    states = await rows(store, "SELECT status, attempt_count FROM deliveries ORDER BY id")
    assert [tuple(row.values()) for row in states] == [("waiting", 0), ("delivered", 1)]
    assert (await store.settle([settlement(again)])).superseded == []
    kept = await rows(store, "SELECT superseded FROM attempts ORDER BY delivery_id, claim LIMIT 2")
    assert [bool(row["superseded"]) for row in kept] == [True, False]


async def test_a_late_success_ends_a_delivery_that_is_not_final(store: AnyStore) -> None:
    channel = await make_channel(store)
    event = new_event(channel)
    await store.add([event])
    held = born(event)
    await store.release([(held.id, held.claim, channel)])
    assert (await store.settle([settlement(held)])).superseded == [held.id]
    assert (await one(store, "SELECT status FROM deliveries"))["status"] == "delivered"
    assert await claim(store) == []


async def test_settling_twice_is_settling_once(store: AnyStore) -> None:
    """After a commit whose outcome was unknown the settler comes again."""
    channel = await make_channel(store)
    event = new_event(channel)
    await store.add([event])
    for _ in range(2):
        assert (await store.settle([settlement(born(event))])).superseded == []
    assert len(await rows(store, "SELECT * FROM attempts")) == 1
    assert (await one(store, "SELECT * FROM deliveries"))["attempt_count"] == 1


async def test_an_event_matched_on_old_routes_is_stale(store: AnyStore) -> None:
    channel = await make_channel(store)
    await store.write(lambda c: c.execute(sa.update(organizations).values(version=2)).rowcount)
    answers = await store.add([new_event(channel), new_event(channel, version=2)])
    assert isinstance(answers[0], Stale)
    assert isinstance(answers[1], Stored)
    assert len(await rows(store, "SELECT * FROM events")) == 1


async def test_an_idempotency_key_counts_once_even_in_one_batch(store: AnyStore) -> None:
    channel = await make_channel(store)
    keyed: dict[str, Any] = {"idempotency_key": "k", "digest": b"1"}
    first = new_event(channel, **keyed)
    answers = await store.add(
        [first, new_event(channel, **keyed), new_event(channel, idempotency_key="k", digest=b"2")]
    )
    assert isinstance(answers[0], Stored)
    assert [(a.event_id, a.mismatch) for a in answers[1:] if isinstance(a, Duplicate)] == [
        (first.event.id, False),
        (first.event.id, True),
    ]
    (elsewhere,) = await store.add([new_event(channel, project_id="b" * 24, **keyed)])
    assert isinstance(elsewhere, Stored)
    (expired,) = await store.add([new_event(channel, key_expired_before=now_ms() + 1, **keyed)])
    assert isinstance(expired, Stored)


async def test_no_item_fails_another_s_commit(store: AnyStore) -> None:
    channel = await make_channel(store)
    good = [new_event(channel) for _ in range(20)]
    bad = new_event(channel)
    bad.event = good[3].event  # its id is taken: the whole statement fails
    answers = await store.add([*good[:10], bad, *good[10:]])
    assert [isinstance(answer, Stored) for answer in answers].count(True) == 20
    assert isinstance(answers[10], Exception)
    assert len(await rows(store, "SELECT * FROM deliveries")) == 20


async def test_an_attempt_that_cannot_be_recorded_is_settled_with_less(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel) for _ in range(5)]
    await store.add(events)
    items = [settlement(born(event)) for event in events]
    items[2].attempt.status_code = 2**70
    items[3].attempt.response_body = "\ud800"
    assert (await store.settle(items)).superseded == []
    errors = await rows(store, "SELECT error FROM attempts WHERE error IS NOT NULL")
    assert [row["error"].split(":")[0] for row in errors] == ["unrecordable"] * 2
    states = await rows(store, "SELECT DISTINCT status FROM deliveries")
    assert [row["status"] for row in states] == ["delivered"]


async def test_tracking_counts_failures_since_the_last_success(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel) for _ in range(6)]
    await store.add(events)
    held = [born(event) for event in events]
    bad = [settlement(item, Status.EXHAUSTED) for item in held]
    await store.settle([bad[0], settlement(held[1]), bad[2], bad[3]])
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["error_count"], lane["last_error"]) == (2, "http_status: 500")
    await store.settle([bad[4]])
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["error_count"], lane["failing_streak"]) == (3, 3)
    await store.settle([settlement(held[5])])
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["error_count"], lane["last_error"], lane["failing_streak"]) == (0, None, 0)


async def test_a_hold_keeps_the_whole_channel_until_it_has_passed(store: AnyStore) -> None:
    channel = await make_channel(store)
    first, second = new_event(channel), new_event(channel, claim=False)
    await store.add([first])
    until_ms = now_ms() + LATER
    held = settlement(born(first), Status.WAITING, due_ms=until_ms, hold_until_ms=until_ms)
    await store.settle([held])
    assert await store.add([second]) == [Stored([])]
    assert await claim(store) == []
    assert len(await claim(store, until_ms)) == 2


async def test_a_gone_target_disables_the_channel_with_what_waits(store: AnyStore) -> None:
    channel = await make_channel(store)
    first, second = new_event(channel), new_event(channel)
    await store.add([first, second])
    gone = settlement(born(first), Status.WAITING, park="gone")
    settled = await store.settle([gone])
    assert settled.disabled == [(ORGANIZATION, channel)]
    await store.release([(second.deliveries[0].id, 1, channel)])
    assert await claim(store, now_ms() + LATER) == []
    row = await one(store, "SELECT enabled, disabled_reason, version FROM channels")
    assert (bool(row["enabled"]), row["disabled_reason"], row["version"]) == (False, "gone", 2)
    assert (await one(store, "SELECT version FROM organizations"))["version"] == 2
    # After a commit of unknown outcome it comes again: told again, changed no more.
    assert (await store.settle([gone])).disabled == [(ORGANIZATION, channel)]
    assert (await one(store, "SELECT version FROM channels"))["version"] == 2


async def test_a_park_by_an_attempt_with_old_settings_does_nothing(store: AnyStore) -> None:
    channel = await make_channel(store)
    event = new_event(channel)
    await store.add([event])
    await store.write(lambda c: c.execute(sa.update(lanes).values(version=2)).rowcount)
    settled = await store.settle([settlement(born(event), Status.WAITING, park="gone")])
    assert settled.disabled == []
    assert (await one(store, "SELECT parked, failing_streak FROM lanes")) == {
        "parked": None,
        "failing_streak": 0,
    }


async def test_what_comes_free_on_a_deleted_lane_is_cancelled(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel) for _ in range(3)]
    await store.add(events)
    await store.write(lambda c: c.execute(sa.update(lanes).values(parked="deleted")).rowcount)
    await store.settle([settlement(born(events[0]), Status.WAITING)])
    await store.release([(events[1].deliveries[0].id, 1, channel)])
    await store.settle([settlement(born(events[2]))])
    states = await rows(store, "SELECT status FROM deliveries ORDER BY id")
    assert [row["status"] for row in states] == ["cancelled", "cancelled", "delivered"]


async def test_a_backlog_drains_slowly_beside_new_deliveries(store: AnyStore) -> None:
    channel = await make_channel(store)
    old = [new_event(channel, claim=False) for _ in range(12)]
    await store.add(old)
    start = now_ms() + 1
    backlog = {"backlog_through": new_event().event.id, "backlog_before_ms": start}
    await store.write(lambda c: c.execute(sa.update(lanes).values(backlog)).rowcount)
    assert len(await claim(store, start)) == 5
    assert await claim(store, start) == []
    (fresh,) = await store.add([new_event(channel, due_ms=start)])
    assert isinstance(fresh, Stored)
    assert len(fresh.claimed) == 1
    assert [len(await claim(store, start + at)) for at in (100, 200, 300)] == [5, 2, 0]
    assert (await one(store, "SELECT backlog_through FROM lanes"))["backlog_through"] is None


async def test_a_lane_with_a_wrong_due_moment_is_repaired(store: AnyStore) -> None:
    channels = [await make_channel(store) for _ in range(3)]
    await store.add([new_event(*channels, claim=False)])
    await store.write(lambda c: c.execute(sa.update(lanes).values(next_due_ms=None)).rowcount)
    assert await claim(store) == []
    assert await store.check_lanes(now_ms()) == 3
    assert len(await claim(store)) == 3
    assert await store.check_lanes(now_ms()) == 0


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_a_dead_process_held_is_free_at_the_next_start(
    driver: str, tmp_path: Path
) -> None:
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        events = [new_event(channel) for _ in range(4)]
        await store.add(events)
        ids = [event.deliveries[0].id for event in events]
        node = store.node
    began = {ids[0]: 1, ids[1]: 7}
    async with open_store(driver, tmp_path, began=began) as store:
        assert store.node == node + 1
        assert store.floor_ms > 0
        held = await claim(store)
        assert [(item.id, item.claim, item.lost) for item in held] == [
            (ids[0], 2, 1),
            (ids[1], 2, 0),
            (ids[2], 2, 0),
            (ids[3], 2, 0),
        ]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_delivery_that_ends_five_nodes_ends_itself(driver: str, tmp_path: Path) -> None:
    began: dict[str, int] = {}
    row: dict[str, Any] = {}
    issues: list[dict[str, Any]] = []
    counted: dict[str, Any] = {}
    for life in range(6):
        async with open_store(driver, tmp_path, began=began) as store:
            if life == 0:
                await make_organization(store)
                await store.add([new_event(await make_channel(store))])
            else:
                held = await claim(store)
                assert [item.lost for item in held] == ([life] if life < 5 else [])
            row = await one(store, "SELECT * FROM deliveries")
            began = {row["id"]: row["claim"]}
            issues = await rows(store, "SELECT * FROM issues")
            assert len(issues) == (life == 5)
            query = "SELECT sum(exhausted) AS ended, sum(attempts) AS tried FROM channel_minutes"
            counted = await one(store, query)
    assert row["status"] == "exhausted"
    assert row["last_error"].startswith("lost_with_its_node")
    # It is told like any other end, though there was no attempt whose settle could tell it.
    assert (int(counted["ended"]), int(counted["tried"])) == (1, 0)
    told = [(i["fingerprint"], i["status"], i["last_delivery_id"]) for i in issues]
    assert told == [("lost_with_its_node", "open", row["id"])]
    assert issues[0]["last_event_id"] == row["event_id"]
    assert issues[0]["last_error"] == row["last_error"]


async def test_what_was_held_is_found_without_walking_what_waits(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        plan = await rows(store, f"EXPLAIN QUERY PLAN {claiming._LOST.replace('?', '5')}")
        assert "(channel_id=? AND node>?)" in plan[-1]["detail"], plan


async def test_a_cancelled_waiter_does_not_disturb_the_batch(store: AnyStore) -> None:
    channel = await make_channel(store)
    waiter = asyncio.ensure_future(store.add([new_event(channel)]))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await store.add([new_event(channel)])
    assert len(await rows(store, "SELECT * FROM events")) == 2

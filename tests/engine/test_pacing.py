"""A lane that fails at once and without a reply, again and again, pauses between its attempts."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.parts import Parts, Receiver, running
from tests.engine.test_lanes import Now, held, lanes, organization

from tocsin.domain.model import ChannelId
from tocsin.engine.lane import Policy
from tocsin.engine.lanes import Lanes
from tocsin.engine.pacing import FREE, PACED_HELD, PAUSE_MS_MAX, PAUSE_MS_MIN, Pacing
from tocsin.storage.base import Held

pytestmark = pytest.mark.anyio

GROWING = 7
"""So many pauses are shorter than the longest."""
DEAD = "http://169.254.169.254/"


# The pause itself


def test_the_first_few_make_no_difference_and_then_each_pause_is_longer() -> None:
    pacing, now_ms, pauses = Pacing(), 5_000, []
    for _ in range(FREE + GROWING + 3):
        pacing.failed(0, now_ms)
        pauses.append(pacing.pause_ms)
        now_ms = max(now_ms, pacing.until_ms)
    growing = [PAUSE_MS_MIN * 2**n for n in range(GROWING)]
    assert pauses == [0] * FREE + growing + [PAUSE_MS_MAX] * 3
    assert now_ms == 5_000 + sum(pauses)


def test_what_fails_together_counts_until_there_is_a_pause() -> None:
    """A target that starts anew fails all that is under way to it, and is back in a moment."""
    pacing = Pacing()
    for _ in range(64):
        pacing.failed(3, 5_000)
    assert (pacing.pause_ms, pacing.until_ms) == (PAUSE_MS_MIN, 5_000 + PAUSE_MS_MIN)


def test_what_takes_long_by_itself_needs_no_pause() -> None:
    pacing = Pacing()
    for _ in range(50):
        pacing.failed(PAUSE_MS_MAX, 5_000)
    assert (pacing.pause_ms, pacing.until_ms) == (0, 0)


# In the lanes


class Node:
    """Lanes of which the channel `dead` fails at once, by a clock that only moves here."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.now = Now()
        self.released: list[Held] = []
        self.claimable = 0
        self.lanes: Lanes = lanes(
            self.now,
            policy_of=lambda channel_id: policy or Policy(),
            give_back=self._give_back,
            claimable=self._claim,
        )

    def _give_back(self, items: object) -> None:
        for item in items:  # type: ignore[attr-defined]
            self.released.append(item)
            self.lanes.gave_back(item.channel_id, len(item.event.data))

    def _claim(self) -> None:
        self.claimable += 1

    def offer(self, channel: str, count: int, owner: int = 1) -> list[Held]:
        items = [held(channel, owner) for _ in range(count)]
        refused = self.lanes.offer(items, reserved=False)
        for item in refused:
            self.lanes.gave_back(item.channel_id, len(item.event.data))
        return refused

    def work(self) -> list[Held]:
        """Send all that has a turn now, each with its outcome at once; returns it."""
        sent: list[Held] = []
        while taken := self.lanes.take():
            lane, item = taken
            sent.append(item)
            well = item.channel_id != "dead"
            if not well:
                self.lanes.failed(lane, 0)
            self.lanes.sent(lane, success=well)
            self.lanes.left(item.channel_id, len(item.event.data))
        return sent

    def later(self, ms: int) -> list[Held]:
        """What is sent in that time."""
        sent = self.work()
        for _ in range(ms // 10):
            self.now.ms += 10
            self.lanes.wake()
            sent += self.work()
        return sent


def test_it_goes_on_once_per_pause_and_holds_what_it_can_send_soon() -> None:
    node = Node()
    node.offer("dead", 200)
    assert len(node.later(0)) == FREE + 1
    assert len(node.released) == 200 - (FREE + 1) - PACED_HELD
    assert node.lanes.held == PACED_HELD
    came = []
    for _ in range(60):
        came.append(len(node.later(1_000)))
        node.offer("dead", PACED_HELD - node.lanes.held)
    assert came[0] == GROWING - 1
    assert all(count == 1 for count in came[2:])


def test_the_oldest_stay() -> None:
    node = Node()
    items = [held("dead") for _ in range(40)]
    node.lanes.offer(items, reserved=False)
    assert [item.id for item in node.later(30_000)] == [
        item.id for item in items[: FREE + 1 + PACED_HELD]
    ]
    assert [item.id for item in node.released] == [
        item.id for item in items[FREE + 1 + PACED_HELD :]
    ]


def test_it_is_left_out_of_claims_until_half_of_that_is_gone() -> None:
    node = Node()
    node.offer("dead", 200)
    node.later(0)
    want = (organization(1), ChannelId("dead"), 2)
    assert node.lanes.reserve([want]) == [False], "what is new waits in the database"
    assert node.lanes.narrow() == ([ChannelId("dead")], {})
    assert len(node.offer("dead", 5)) == 5, "what a claim had found before it paused goes back"
    while node.lanes.held * 2 > PACED_HELD:
        assert node.claimable == 0
        node.later(10)
    assert node.claimable == 1
    assert node.lanes.narrow() == ([], {ChannelId("dead"): PACED_HELD - node.lanes.held})
    assert node.lanes.reserve([want]) == [True]


def test_others_go_on_meanwhile() -> None:
    node = Node()
    node.offer("dead", 200)
    node.later(5_000)
    for owner in (1, 2):
        node.offer("well", 500, owner)
        assert len([item for item in node.work() if item.channel_id == "well"]) == 500


@pytest.mark.parametrize("reply", ["delivered", "refused"])
def test_a_reply_ends_it_at_once(reply: str) -> None:
    """Whatever it says: the target is there."""
    node = Node()
    node.offer("dead", 100)
    node.later(1_000)
    node.now.ms += PAUSE_MS_MAX
    node.lanes.wake()
    node.lanes.narrow()
    taken = node.lanes.take()
    assert taken is not None
    lane, item = taken
    assert node.lanes.take() is None, "one at a time"
    if reply == "refused":
        node.lanes.failed(lane, None)
    node.lanes.sent(lane, success=reply == "delivered")
    node.lanes.left(item.channel_id, 2)
    assert not lane.paced
    assert node.lanes.reserve([(organization(1), ChannelId("dead"), 2)] * 100) == [True] * 100
    assert node.lanes.take() is not None


def test_a_change_of_the_channel_ends_it() -> None:
    """It may be another target now."""
    node = Node()
    node.offer("dead", 100)
    node.later(1_000)
    assert node.lanes.take() is None
    node.lanes.forget(organization(1))
    node.lanes.learn(ChannelId("dead"), Policy(version=2))
    assert node.lanes.take() is not None


def test_what_fails_long_after_the_last_is_tried_at_once() -> None:
    node = Node()
    for _ in range(50):
        node.offer("dead", 1)
        assert len(node.work()) == 1
        node.later(PAUSE_MS_MAX)


# In the engine


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as started:
        yield started


def most(began: float) -> int:
    """How many attempts there may be since then."""
    return FREE + GROWING + 2 + int(time.monotonic() - began)


async def test_a_dead_channel_costs_next_to_nothing_until_its_target_is_there(
    parts: Parts,
) -> None:
    async with Receiver() as receiver:
        url = receiver.url
    port = int(url.split(":")[2].split("/")[0])
    await parts.channel(url, schedule=("1s",) * 20, breaker=None)
    began = time.monotonic()
    await parts.publish(300)
    found = await parts.attempts(FREE + 4)
    assert len(found) <= most(began)
    assert {row["error"].partition(":")[0] for row in found} == {"connection_refused"}
    lanes = parts.engine.lanes
    async with asyncio.timeout(60):
        while lanes.held > PACED_HELD + 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with Receiver(port) as receiver:
        done = await parts.settled(300)
        assert {row["status"] for row in done} == {"delivered"}
        assert len(set(receiver.bodies)) == 300


async def test_no_more_is_done_for_a_target_that_is_refused(parts: Parts) -> None:
    """Nothing slows this down but the pause: not the network, and no breaker."""
    await parts.channel(DEAD, schedule=())
    began = time.monotonic()
    await parts.publish(500)
    await parts.settled(FREE + GROWING + 1)
    found = await parts.attempts(0)
    assert len(found) <= most(began)
    async with Receiver() as receiver:
        await parts.channel(receiver.url, event_types='["well"]')
        await parts.publish(50, type="well")
        await receiver.came(50)


async def test_an_ordered_channel_keeps_its_order(parts: Parts) -> None:
    await parts.channel(DEAD, schedule=(), ordered=True, breaker=None)
    await parts.publish(FREE + GROWING)
    await parts.settled(FREE + GROWING)
    found = await parts.attempts(0)
    assert [row["delivery_id"] for row in found] == sorted(row["delivery_id"] for row in found)

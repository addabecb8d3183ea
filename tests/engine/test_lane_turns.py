"""Whose turn it is: organizations first, then their channels; and what holds after any events."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.parts import Parts, Receiver, running
from tests.engine.test_lanes import Now, held, organization

from tocsin.domain.model import ChannelId, RateLimit
from tocsin.engine.lane import PLAIN, SLOW_LANE_MAX, Lane, Policy
from tocsin.engine.lanes import Lanes
from tocsin.storage.base import Held

pytestmark = pytest.mark.anyio

CHANNELS = ("a", "b", "c", "d")
OWNERS = {"a": 1, "b": 1, "c": 2, "d": 3}
TICK_MS = 250


def test_organizations_take_turns_and_so_do_their_channels() -> None:
    found = Lanes(channel_in_flight_max=64, now_ms=Now())
    found.offer([held(name, 1) for name in "abc" for _ in range(100)], reserved=False)
    found.offer([held("x", 2) for _ in range(100)], reserved=False)
    came: Counter[str] = Counter()
    for _ in range(120):
        taken = found.take()
        assert taken is not None
        came[taken[1].channel_id] += 1
        found.sent(taken[0], success=True, settling=False)
    assert came == {"x": 60, "a": 20, "b": 20, "c": 20}


def test_slow_lanes_get_no_more_once_they_hold_half() -> None:
    """What hung while it was fast is under way; all else that they take stays within half."""
    now = Now()
    found = Lanes(channel_in_flight_max=64, now_ms=now, slots=100)
    names = [f"bad.{number}" for number in range(20)]
    found.offer(
        [held(name, at) for at, name in enumerate(names) for _ in range(90)], reserved=False
    )
    under_way: deque[Lane] = deque()

    def take() -> None:
        while taken := found.take():
            under_way.append(taken[0])

    for _ in range(300):  # fast at first, so that none is small any more
        take()
        found.sent(under_way.popleft(), success=True, settling=False)
    take()
    for _ in range(24):
        now.ms += TICK_MS
        found.tick()
    lanes = found.every()
    assert {lane.slow for lane in lanes if lane.in_flight} == {True}
    assert found.in_flight < 100, "there is a place left"
    assert max(lane.in_flight for lane in lanes) <= SLOW_LANE_MAX
    while found.in_flight > 50:
        found.sent(under_way.popleft(), success=False)
        assert found.take() is None, "they have their half"
    found.sent(under_way.popleft(), success=False)
    take()
    assert found.in_flight == 50
    found.offer([held("well", 99)], reserved=False)
    taken = found.take()
    assert taken is not None
    assert taken[1].channel_id == "well"


def grown(now: Now) -> Lanes:
    """A lane whose target has answered so often that as many as may be are under way at once."""
    found = Lanes(channel_in_flight_max=8, now_ms=now)
    found.offer([held("a") for _ in range(30)], reserved=False)
    for _ in range(30):
        taken = found.take()
        assert taken is not None
        found.sent(taken[0], success=True, settling=False)
    (lane,) = found.every()
    assert lane.window == 8
    return found


def waves(found: Lanes) -> list[int]:
    """How many start at once, each time that all before have been delivered."""
    found.offer([held("a") for _ in range(40)], reserved=False)
    seen: list[int] = []
    while True:
        started = []
        while taken := found.take():
            started.append(taken[0])
        if not started:
            return seen
        seen.append(len(started))
        for lane in started:
            found.sent(lane, success=True, settling=False)


def test_a_lane_begins_with_one_after_its_breaker_was_open() -> None:
    now = Now()
    found = grown(now)
    found.trip(ChannelId("a"), now.ms + 1_000)
    assert len(found.offer([held("a")], reserved=False)) == 1
    now.ms += 1_000
    assert waves(found)[:4] == [1, 2, 8, 8]


def test_a_lane_begins_with_one_after_a_change_such_as_enabling() -> None:
    found = grown(Now())
    found.learn(ChannelId("a"), Policy(version=1))
    found.learn(ChannelId("a"), Policy(version=2))
    assert waves(found)[:3] == [1, 2, 8]


# What holds whatever happens


class World:
    """Lanes, and what somebody who counts by himself knows of them."""

    def __init__(self) -> None:
        self.now = Now()
        self.policies: dict[str, Policy] = dict.fromkeys(CHANNELS, PLAIN)
        self.lanes = Lanes(
            channel_in_flight_max=8,
            now_ms=self.now,
            slots=80,
            policy_of=lambda channel_id: self.policies[channel_id],
            give_back=lambda items: self.released(items),
        )
        self.under_way: list[tuple[Lane, Held]] = []
        self.settling: list[Held] = []
        self.done = 0
        self.offered = 0

    def released(self, items: Sequence[Held]) -> None:
        for item in items:
            self.lanes.gave_back(item.channel_id, len(item.event.data))
            self.offered -= 1

    def offer(self, channel: str, count: int) -> None:
        for _ in range(count):
            item = held(channel, OWNERS[channel])
            want = (organization(OWNERS[channel]), ChannelId(channel), len(item.event.data))
            if self.lanes.reserve([want]) == [True]:
                self.offered += 1
                self.released(self.lanes.offer([item], reserved=True))

    def take(self, count: int) -> None:
        for _ in range(count):
            if self.lanes.in_flight >= 80 or (taken := self.lanes.take()) is None:
                return
            lane, item = taken
            assert lane.in_flight <= lane.limit, "no more than it may"
            assert lane.policy is not None
            assert lane.pacing is None or lane.pacing.until_ms <= self.now.ms, "not in a pause"
            if lane.policy.ordered:
                assert lane.in_flight + lane.settling == 1, "never two of an ordered lane"
            if lane.policy.cap is not None:
                assert lane.in_flight + lane.settling <= lane.policy.cap
            self.under_way.append((lane, item))

    def end(self, at: int, how: str) -> None:
        if self.under_way:
            lane, item = self.under_way.pop(at % len(self.under_way))
            if how == "nothing":
                self.released([item])
            elif how != "delivered":
                self.lanes.failed(lane, 0 if how == "in vain" else None)
            self.lanes.sent(lane, success=how == "delivered", settling=how != "nothing")
            if how != "nothing":
                self.settling.append(item)

    def dies(self, channel: str, count: int) -> None:
        """Its next attempts fail at once."""
        for _ in range(count):
            self.take(1)
            if self.under_way and self.under_way[-1][1].channel_id == channel:
                self.end(-1, "in vain")
                self.settle()

    def settle(self) -> None:
        done, self.settling = self.settling, []
        for item in done:
            self.done += 1
            self.lanes.left(item.channel_id, len(item.event.data))

    def later(self, ms: int) -> None:
        self.now.ms += ms
        self.lanes.tick()
        self.lanes.wake()

    def drop(self, channel: str) -> None:
        self.released(self.lanes.drop(ChannelId(channel)))

    def trip(self, channel: str, ms: int) -> None:
        self.released(self.lanes.trip(ChannelId(channel), self.now.ms + ms))

    def change(self, channel: str, **fields: object) -> None:
        """As a PATCH does: forgotten, then read again."""
        version = self.policies[channel].version + 1
        self.policies[channel] = Policy(version=version, **fields)  # type: ignore[arg-type]
        for channel_id in self.lanes.forget(organization(OWNERS[channel])):
            self.released(self.lanes.learn(channel_id, self.policies[channel_id]))

    def check(self) -> None:
        lanes = self.lanes.every()
        flying = Counter(item.channel_id for _, item in self.under_way)
        assert self.lanes.in_flight == len(self.under_way)
        assert self.lanes._slow_in_flight == sum(x.in_flight for x in lanes if x.slow)
        assert self.lanes.held == sum(lane.held for lane in lanes) == self.offered - self.done
        for lane in lanes:
            assert lane.in_flight == flying[lane.channel_id]
            held = len(lane.queue) + lane.in_flight + lane.settling
            assert lane.held == held, lane.channel_id
            assert lane.limit <= lane.window <= lane.cap
        for share in self.lanes._shares.values():
            mine = [lane for lane in lanes if lane.share is share]
            assert share.in_flight == sum(lane.in_flight for lane in mine)
            assert share.held == sum(lane.held for lane in mine)
            assert share.bytes == sum(lane.bytes for lane in mine)

    def drain(self) -> None:
        """Everything has its turn in the end, and nothing is left behind."""
        for _ in range(2_000):
            self.take(80)
            while self.under_way:
                self.end(0, "delivered")
            self.settle()
            self.check()
            if not self.lanes.held:
                return
            self.later(TICK_MS)
        raise AssertionError("something never has its turn")


_CHANNEL = st.sampled_from(CHANNELS)
_FIELDS = st.sampled_from(
    [
        {},
        {"cap": 1},
        {"cap": 3},
        {"ordered": True},
        {"rate": RateLimit(count=5, per_seconds=1)},
        {"rate": RateLimit(count=100, per_seconds=1), "cap": 2},
    ]
)
_STEPS = st.one_of(
    st.tuples(st.just("offer"), _CHANNEL, st.integers(1, 30)),
    st.tuples(st.just("take"), st.integers(1, 40)),
    st.tuples(
        st.just("end"),
        st.integers(0, 80),
        st.sampled_from(["delivered", "delivered", "failed", "in vain", "nothing"]),
    ),
    st.tuples(st.just("dies"), _CHANNEL, st.integers(1, 20)),
    st.tuples(st.just("settle")),
    st.tuples(st.just("later"), st.sampled_from([TICK_MS, 1_000, 5_000])),
    st.tuples(st.just("drop"), _CHANNEL),
    st.tuples(st.just("trip"), _CHANNEL, st.integers(0, 3_000)),
    st.tuples(st.just("change"), _CHANNEL, _FIELDS),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(_STEPS, min_size=5, max_size=60))
def test_nothing_is_lost_or_counted_twice(steps: list[tuple[object, ...]]) -> None:
    world = World()
    for name, *arguments in steps:
        if name == "change":
            channel, fields = arguments
            world.change(channel, **fields)  # type: ignore[arg-type]
        else:
            step: Callable[..., None] = getattr(world, str(name))
            step(*arguments)
        world.check()
    world.drain()


# Old work beside new


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with running(tmp_path) as started:
        yield started


async def test_new_work_does_not_starve_a_retry(parts: Parts) -> None:
    """However much is published to the same channel and to others, a retry goes when it is due."""
    async with Receiver() as receiver:
        await parts.channel(receiver.url)
        await parts.channel(receiver.url)
        receiver.script = [b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"] * 2
        await parts.publish(1)
        await parts.attempts(2)
        over = asyncio.Event()

        async def flood() -> None:
            while not over.is_set():
                await parts.publish(200)

        flooding = asyncio.create_task(flood())
        try:
            query = "attempts WHERE number = 2 AND outcome = 'delivered'"
            await parts._counted(query, 2, 60)
        finally:
            over.set()
            await flooding

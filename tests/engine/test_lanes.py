"""Room and turns in memory: one organization's flood leaves room, and turns, for the next."""

import itertools
from typing import Any

import pytest

from tocsin.domain.model import ChannelId, DeliveryId, Event, EventId, OrganizationId, Origin
from tocsin.engine.holdings import (
    CLAIM_OF_HELD,
    HELD_BYTES_MAX,
    HELD_MAX,
    HELD_MIN,
    LANE_OF_HELD,
    SHARE_OF_HELD,
)
from tocsin.engine.lanes import Lanes
from tocsin.storage.base import Held

_numbers = itertools.count(1)


class Now:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000

    def __call__(self) -> int:
        return self.ms


def lanes(now: Now | None = None, **options: Any) -> Lanes:
    return Lanes(channel_in_flight_max=64, now_ms=now or Now(), **options)


def organization(number: int) -> OrganizationId:
    return OrganizationId(f"{number:024x}")


def held(channel: str, owner: int = 1, *, lost: int = 0, data: bytes = b"{}") -> Held:
    number = f"{next(_numbers):024x}"
    event = Event(
        id=EventId(number),
        organization_id=organization(owner),
        project_id=None,
        type="a",
        data=data,
        occurred_at=1,
        created_at=1,
    )
    return Held(DeliveryId(number), 1, ChannelId(channel), event, Origin.EVENT, 1, 0, lost, 1)


def fill(found: Lanes, owner: int, channels: int, size: int = 2) -> int:
    """Reserve all that an organization can get for its channels; returns how much that is."""
    got = 0
    for n in range(channels):
        want = (organization(owner), ChannelId(f"{owner}.{n}"), size)
        while found.reserve([want]) == [True]:
            got += 1
    return got


def test_one_organization_never_holds_all_room() -> None:
    found = lanes()
    assert fill(found, 1, 50) <= HELD_MAX // 2
    assert fill(found, 2, 50) >= HELD_MAX // 5
    for owner in range(3, 90):
        assert fill(found, owner, 50) >= HELD_MAX * SHARE_OF_HELD, owner
    assert found.room >= HELD_MAX * CLAIM_OF_HELD
    for owner in range(90, 500):
        fill(found, owner, 2)
    assert found.held <= 2 * HELD_MAX
    assert found.room == 0


@pytest.mark.parametrize(("slots", "most"), [(1, HELD_MIN), (100, 1_000), (5_000, HELD_MAX)])
def test_a_node_holds_what_its_places_can_send_soon(slots: int, most: int) -> None:
    found = lanes(slots=slots)
    assert found.room == most
    owners = [fill(found, owner, 50) for owner in range(1, 20)]
    assert most // 2 <= sum(owners) <= 2 * most
    assert min(owners) > 0, "there is always room for one more organization"
    assert found.room == most * CLAIM_OF_HELD
    for owner in range(20, 300):
        fill(found, owner, 1)
    assert found.held <= 2 * most
    assert found.room == 0


def test_one_organization_never_holds_all_bytes() -> None:
    found = lanes()
    size = 256 * 1024
    assert fill(found, 1, 10, size) * size <= HELD_BYTES_MAX // 2 + 10 * size
    assert fill(found, 2, 10, size) > 10
    assert fill(found, 3, 1, 2) > 1_000


def test_one_lane_leaves_room_for_its_organization_s_others() -> None:
    found = lanes()
    assert 1_000 < fill(found, 1, 1) <= HELD_MAX * LANE_OF_HELD
    (granted,) = found.reserve([(organization(1), ChannelId("another"), 2)])
    assert granted


def test_who_holds_its_share_is_not_claimed_from() -> None:
    found = lanes()
    fill(found, 1, 50)
    assert found.over() == [organization(1)]
    (granted,) = found.reserve([(organization(2), ChannelId("2.0"), 2)])
    assert granted
    assert ChannelId("2.0") not in found.full()
    assert ChannelId("1.0") in found.full()


def test_room_is_given_back_to_the_last() -> None:
    found = lanes()
    want = (organization(1), ChannelId("a"), 7)
    found.unreserve([want for granted in found.reserve([want] * 100) if granted])
    items = [held("a") for _ in range(10)]
    found.offer(items, reserved=False)
    assert found.drop_all() == items
    for item in items:
        found.gave_back(item.channel_id, len(item.event.data))
    assert (found.held, found.bytes, found.over()) == (0, 0, [])
    found.prune()
    assert found.lane(ChannelId("a")) is None


def test_what_may_end_the_process_is_in_flight_alone() -> None:
    now = Now()
    found = lanes(now)
    plain = [held(f"plain.{n}") for n in range(3)]
    poison = [held("poison", lost=2) for _ in range(2)]
    found.offer([plain[0]], reserved=False)
    first = found.take()
    assert first is not None
    found.offer([*poison, *plain[1:]], reserved=False)
    assert found.take() is None, "it waits until nothing else is in flight"
    found.sent(first[0], success=True)
    alone = found.take()
    assert alone is not None
    assert alone[1] is poison[0]
    assert found.take() is None, "nothing starts beside it"
    now.ms += 5_000
    found.sent(alone[0], success=False)
    # The others have their turn, as long as it had, before the next one.
    took = [found.take(), found.take()]
    assert [t[1] for t in took if t] == plain[1:]
    for t in took:
        assert t is not None
        found.sent(t[0], success=True)
    assert found.take() is None
    now.ms += 5_000
    again = found.take()
    assert again is not None
    assert again[1] is poison[1]


def test_a_hold_takes_also_what_waits_to_be_alone() -> None:
    found = lanes()
    item = held("a", lost=3)
    found.offer([item], reserved=False)
    assert found.hold(ChannelId("a"), 10**9) == [item]
    assert found.take() is None


def test_no_room_is_kept_for_what_can_only_come_by_a_claim() -> None:
    found = lanes()
    want = (organization(1), ChannelId("1.0"), 2)
    found.look_behind([held("1.0"), held("1.0"), held("1.1")], 2, [])
    assert found.reserve([want]) == [False]
    assert found.reserve([(organization(1), ChannelId("1.1"), 2)]) == [True]
    # What a claim has left out may still have more.
    found.look_behind([], 2, [ChannelId("1.0")])
    assert found.reserve([want]) == [False]
    found.look_behind([held("1.0")], 2, [])
    assert found.reserve([want]) == [True]


def test_what_is_being_settled_takes_its_room_once() -> None:
    found = lanes()
    while ChannelId("1.0") not in found.full():
        assert found.reserve([(organization(1), ChannelId("1.0"), 2)]) == [True]
    lane = found.lane(ChannelId("1.0"))
    assert lane is not None
    lane.settling = 1
    assert ChannelId("1.0") not in found.full()
    while found.reserve([(organization(1), ChannelId("1.0"), 2)]) == [True]:
        pass
    lane.settling = lane.held
    assert ChannelId("1.0") in found.full()

"""What every driver does with lanes that are served one by one: ordered ones, open breakers."""

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

from tocsin.domain.breaking import PROBE_DEADLINE_MS
from tocsin.domain.model import Breaker, ChannelId, DeliveryId, Origin, Status
from tocsin.service.sight import Sight
from tocsin.storage.base import Held, NewEvent, Stored
from tocsin.storage.control import lanes as lane_calls
from tocsin.storage.tables import channels, lanes

pytestmark = pytest.mark.anyio

SIGHT = Sight(ORGANIZATION)
BREAKER = Breaker(failures=3, cooldown_seconds=30)
LATER_MS = 3_600_000


@pytest.fixture(params=DRIVERS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    async with open_store(request.param, tmp_path) as opened:
        await make_organization(opened)
        yield opened


async def make_ordered(store: AnyStore) -> ChannelId:
    channel_id = await make_channel(store)

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.update(channels).values(ordered=True))
        connection.execute(sa.update(lanes).values(ordered=True, exclusive=True))

    await store.write(work)
    return channel_id


def ordered(channel_id: ChannelId, **fields: Any) -> NewEvent:
    """An event whose delivery is to be numbered."""
    event = new_event(channel_id, **fields)
    for delivery in event.deliveries:
        delivery.ordered = True
    return event


def ids(held: list[Held]) -> list[DeliveryId]:
    return [item.id for item in held]


def made(*events: NewEvent) -> list[DeliveryId]:
    return [event.deliveries[0].id for event in events]


def failed(item: Held, **fields: Any) -> Any:
    """A 503, to be tried again in an hour."""
    return settlement(
        item,
        Status.WAITING,
        due_ms=now_ms() + LATER_MS,
        breaker=BREAKER,
        **fields,
    )


# Order


async def test_numbers_are_given_in_the_transaction(store: AnyStore) -> None:
    channel = await make_ordered(store)
    plain = await make_channel(store)
    events = [ordered(channel) for _ in range(3)]
    answers = await store.add([events[0], new_event(plain), events[1]])
    assert [len(answer.claimed) for answer in answers if isinstance(answer, Stored)] == [0, 1, 0]
    await store.add([events[2]])
    found = await rows(store, "SELECT id, seq FROM deliveries WHERE seq IS NOT NULL ORDER BY seq")
    assert [(row["id"], row["seq"]) for row in found] == list(
        zip(made(*events), (1, 2, 3), strict=True)
    )
    lane = await one(store, f"SELECT last_seq FROM lanes WHERE channel_id = '{channel}'")
    assert lane["last_seq"] == 3


async def test_nothing_is_claimed_while_something_is_held(store: AnyStore) -> None:
    channel = await make_ordered(store)
    events = [ordered(channel) for _ in range(3)]
    await store.add(events[:2])
    held = await claim(store)
    assert ids(held) == made(*events[:2])
    await store.add(events[2:])
    assert await claim(store) == []
    await store.settle([settlement(held[0])])
    assert await claim(store) == []
    await store.settle([settlement(held[1])])
    assert ids(await claim(store)) == made(events[2])


async def test_a_head_that_waits_keeps_the_rest(store: AnyStore) -> None:
    channel = await make_ordered(store)
    events = [ordered(channel) for _ in range(4)]
    await store.add(events[:3])
    first, second, third = await claim(store)
    await store.settle([failed(first)])
    await store.release([(item.id, item.claim, item.channel_id) for item in (third, second)])
    assert await claim(store) == []
    due_ms = (await one(store, "SELECT next_due_ms FROM lanes"))["next_due_ms"]
    assert due_ms > now_ms() + LATER_MS // 2
    await store.add(events[3:])
    lane = await one(store, "SELECT next_due_ms FROM lanes")
    assert lane["next_due_ms"] == due_ms, "what comes behind does not hurry it"
    assert await store.check_lanes(now_ms()) == 0
    # It has failed before, so it goes by itself; then all the others.
    (again,) = await claim(store, due_ms)
    assert again.id == first.id
    await store.settle([settlement(again)])
    assert ids(await claim(store, due_ms)) == made(*events[1:])


async def test_what_is_released_is_taken_up_in_order(store: AnyStore) -> None:
    channel = await make_ordered(store)
    events = [ordered(channel) for _ in range(5)]
    await store.add(events)
    held = await claim(store, lane_room=3)
    assert ids(held) == made(*events[:3])
    await store.release([(item.id, item.claim, item.channel_id) for item in held[::-1]])
    assert ids(await claim(store)) == made(*events)


async def test_what_had_no_number_goes_first_one_by_one(store: AnyStore) -> None:
    channel = await make_channel(store)
    old = [new_event(channel, claim=False) for _ in range(2)]
    await store.add(old)
    await store.write(
        lambda c: (
            c.execute(
                sa.update(lanes).values(ordered=True, exclusive=True, unnumbered=True)
            ).rowcount
        )
    )
    new = [ordered(channel) for _ in range(2)]
    await store.add(new)
    for event in old:
        held = await claim(store)
        assert ids(held) == made(event)
        await store.settle([settlement(held[0])])
    assert ids(await claim(store)) == made(*new)
    assert not (await one(store, "SELECT unnumbered FROM lanes"))["unnumbered"]


async def test_what_had_no_number_is_due_again_when_it_is_given_back(store: AnyStore) -> None:
    channel = await make_channel(store)
    first = new_event(channel, claim=False)
    await store.add([first])
    (held,) = await claim(store)
    await store.write(
        lambda c: (
            c.execute(
                sa.update(lanes).values(ordered=True, exclusive=True, unnumbered=True)
            ).rowcount
        )
    )
    await store.add([ordered(channel, due_ms=now_ms() + LATER_MS)])
    await store.release([(held.id, held.claim, held.channel_id)])
    assert ids(await claim(store)) == made(first)


async def test_a_lane_in_rooms_has_its_own_room(store: AnyStore) -> None:
    channels_made = [await make_channel(store) for _ in range(2)]
    await store.add([new_event(*channels_made, claim=False) for _ in range(10)])
    held = await claim(store, rooms={channels_made[0]: 3})
    assert [sum(item.channel_id == c for item in held) for c in channels_made] == [3, 10]


# Breaker


async def opened(store: AnyStore, channel: ChannelId, failures: int = 3, more: int = 0) -> int:
    """Let so many different deliveries fail, `more` waiting behind; when the first probe may go."""
    events = [new_event(channel) for _ in range(failures)]
    await store.add(events)
    await store.add([new_event(channel, claim=False) for _ in range(more)])
    settled = await store.settle([failed(born(event)) for event in events])
    ((opened_channel, until_ms),) = settled.opened
    assert opened_channel == channel
    return until_ms


async def test_it_opens_and_nothing_is_claimed(store: AnyStore) -> None:
    channel = await make_channel(store)
    until_ms = await opened(store, channel, more=5)
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["breaker_state"], lane["breaker_until_ms"]) == ("open", until_ms)
    assert (lane["next_due_ms"], lane["blocked_until_ms"]) == (until_ms, until_ms)
    assert await claim(store, until_ms - 1) == []
    (answer,) = await store.add([new_event(channel)])
    assert isinstance(answer, Stored)
    assert answer.claimed == []


async def test_one_probe_at_a_time_with_a_deadline(store: AnyStore) -> None:
    channel = await make_channel(store)
    until_ms = await opened(store, channel, more=5)
    (probe,) = await claim(store, until_ms)
    assert probe.number == 1, "one with the fewest attempts"
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["breaker_state"], lane["breaker_probe"]) == ("probing", probe.id)
    assert await claim(store, until_ms + PROBE_DEADLINE_MS - 1) == []
    (other,) = await claim(store, until_ms + PROBE_DEADLINE_MS)
    assert other.id != probe.id


async def test_a_probe_that_fails_has_the_next_one_wait(store: AnyStore) -> None:
    channel = await make_channel(store)
    until_ms = await opened(store, channel, more=5)
    (probe,) = await claim(store, until_ms)
    settled = await store.settle([failed(probe)])
    assert settled.opened == []
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["breaker_state"], lane["breaker_probe"]) == ("open", None)
    cooldown_ms = BREAKER.cooldown_seconds * 1000
    assert now_ms() < lane["breaker_until_ms"] <= now_ms() + cooldown_ms
    assert lane["next_due_ms"] == lane["breaker_until_ms"] == lane["blocked_until_ms"]


@pytest.mark.parametrize("status_code", [204, 404])
async def test_a_reply_closes_it(store: AnyStore, status_code: int) -> None:
    channel = await make_channel(store)
    until_ms = await opened(store, channel, more=5)
    (probe,) = await claim(store, until_ms)
    if status_code == 204:
        made_of_it = settlement(probe)
    else:
        made_of_it = failed(probe)
        made_of_it.attempt.status_code = status_code
    await store.settle([made_of_it])
    lane = await one(store, "SELECT * FROM lanes")
    state = (lane["breaker_state"], lane["breaker_probe"], lane["breaker_streak"])
    assert state == (None, None, "")
    assert len(await claim(store)) == 4


async def test_a_straggler_that_fails_does_not_count(store: AnyStore) -> None:
    channel = await make_channel(store)
    straggler = new_event(channel)
    await store.add([straggler])
    until_ms = await opened(store, channel)
    await store.settle([failed(born(straggler))])
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["breaker_state"], lane["breaker_until_ms"]) == ("open", until_ms)


async def test_an_older_version_moves_nothing(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel) for _ in range(4)]
    await store.add(events)
    old = [failed(born(event), version=0) for event in events]
    assert (await store.settle(old)).opened == []
    assert (await one(store, "SELECT breaker_streak FROM lanes"))["breaker_streak"] == ""


async def test_other_origins_move_nothing(store: AnyStore) -> None:
    channel = await make_channel(store)
    events = [new_event(channel) for _ in range(4)]
    await store.add(events)
    settled = await store.settle([failed(born(e), origin=Origin.OPERATIONAL) for e in events])
    assert settled.opened == []
    assert (await one(store, "SELECT breaker_streak FROM lanes"))["breaker_streak"] == ""


async def test_new_settings_close_it(store: AnyStore) -> None:
    channel = await make_channel(store)
    await opened(store, channel, more=2)
    await store.write(lambda c: lane_calls.change(c, SIGHT, channel, version=2, reset=True))
    lane = await one(store, "SELECT * FROM lanes")
    assert (lane["breaker_state"], lane["blocked_until_ms"]) == (None, 0)
    assert len(await claim(store)) == 2

"""Channels with nothing but failures for too long are disabled; on a clock that is driven."""

import json

import pytest
from tests.service.parts import OPERATOR, Parts
from tests.service.test_log import publish
from tests.storage.stores import claim, now_ms, one, rows, settlement

from tocsin.domain.model import Channel, ChannelId, Status, WaitingFor
from tocsin.service.channels import ChannelPatch
from tocsin.service.failing import FAILING, FAILURES_MIN, HOUR_MS, Failing
from tocsin.service.sight import Page, Sight

pytestmark = pytest.mark.anyio

HOURS = 120


class Failures:
    """A channel and what its target answers."""

    def __init__(self, parts: Parts, sight: Sight, channel_id: ChannelId) -> None:
        self.parts, self.sight, self.channel_id = parts, sight, channel_id
        self.failing = Failing(parts.changes, hours=HOURS)

    async def fail(self, count: int, *, status: Status = Status.EXHAUSTED) -> None:
        """So many attempts now, by the driven clock, of as many deliveries."""
        for _ in range(count):
            await publish(self.parts, self.sight, self.channel_id, claim=False)
        held = await claim(self.parts.store)
        assert len(held) == count
        version = (await self.channel()).version
        at = now_ms() + self.parts.clock.ahead_ms
        await self.parts.store.settle(
            [settlement(one, status, finished_at=at, version=version) for one in held]
        )

    async def channel(self) -> Channel:
        return (await self.parts.channels.get(OPERATOR, self.sight, self.channel_id)).channel


@pytest.fixture
async def target(parts: Parts) -> Failures:
    sight = await parts.organization()
    return Failures(parts, sight, (await parts.channel(sight, breaker=None)).channel.id)


async def test_after_so_many_hours_of_nothing_but_failures(target: Failures) -> None:
    parts = target.parts
    await target.fail(FAILURES_MIN)
    assert await target.failing.run_once() == 0
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    # So old, but nothing says that it still fails.
    assert await target.failing.run_once() == 0
    assert await target.failing.run_once() == 0
    assert (await target.channel()).enabled
    await target.fail(1)
    assert await target.failing.run_once() == 1
    assert target.failing.disabled[()] == 1
    channel = await target.channel()
    assert (channel.enabled, channel.disabled_reason) == (False, FAILING)
    lane = await one(parts.store, "SELECT parked, version, next_due_ms FROM lanes")
    assert lane == {"parked": "disabled", "version": channel.version, "next_due_ms": None}
    event = await publish(parts, target.sight, target.channel_id, claim=False)
    shown, _ = await parts.log.delivery(OPERATOR, target.sight, event.deliveries[0].id)
    assert (shown.status, shown.waiting_for) == (Status.WAITING, WaitingFor.CHANNEL_DISABLED)
    assert await target.failing.run_once() == 0
    (entry, *_) = (await parts.directory.audit(OPERATOR, target.sight, Page())).items
    assert (entry.actor_kind, entry.actor_name, entry.action) == (
        "system",
        "tocsin",
        "channel.update",
    )
    assert entry.target_id == target.channel_id
    assert entry.changes["disabled_reason"] == FAILING
    assert entry.changes["failures"] == FAILURES_MIN + 1


async def test_it_is_told_once_and_a_persons_change_is_not(target: Failures) -> None:
    parts = target.parts
    await target.fail(FAILURES_MIN)
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    await target.failing.run_once()
    await target.fail(1)
    assert await target.failing.run_once() == 1
    assert await target.failing.run_once() == 0
    disabled = "SELECT * FROM outbox WHERE kind = 'channel.disabled'"
    row = await one(parts.store, disabled)
    assert (row["channel_id"], row["organization_id"]) == (
        target.channel_id,
        target.sight.organization_id,
    )
    body = json.loads(row["body"])
    assert body.pop("failing_since").endswith("Z")
    assert body == {"reason": FAILING, "failures": FAILURES_MIN + 1}
    for enabled in (True, False):
        await parts.channels.update(
            OPERATOR, target.sight, target.channel_id, ChannelPatch(enabled=enabled)
        )
    assert await one(parts.store, disabled) == row


async def test_enabling_it_starts_afresh(target: Failures) -> None:
    parts = target.parts
    await target.fail(FAILURES_MIN)
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    await target.failing.run_once()
    await target.fail(1)
    assert await target.failing.run_once() == 1
    first = await publish(parts, target.sight, target.channel_id, claim=False)
    state = await parts.channels.update(
        OPERATOR, target.sight, target.channel_id, ChannelPatch(enabled=True)
    )
    assert (state.channel.enabled, state.channel.disabled_reason) == (True, None)
    lane = await one(parts.store, "SELECT failing_streak, failing_since_ms FROM lanes")
    assert lane == {"failing_streak": 0, "failing_since_ms": None}
    (held,) = await claim(parts.store, at_ms=parts.clock.storage_ms())
    assert held.id == first.deliveries[0].id
    at, version = parts.clock.wall_ms(), state.channel.version
    again = settlement(held, Status.EXHAUSTED, finished_at=at, version=version)
    await parts.store.settle([again])
    await target.fail(FAILURES_MIN)
    await target.failing.run_once()
    await target.fail(1)
    assert await target.failing.run_once() == 0


async def test_few_failures_or_a_success_keep_it(target: Failures) -> None:
    parts = target.parts
    await target.fail(FAILURES_MIN - 2)
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    await target.failing.run_once()
    await target.fail(1)
    assert await target.failing.run_once() == 0  # nine of them
    await target.fail(1)
    assert await target.failing.run_once() == 0  # ten: from now on one more is enough
    await target.fail(1, status=Status.DELIVERED)
    await target.fail(FAILURES_MIN)
    assert await target.failing.run_once() == 0
    assert (await target.channel()).enabled


async def test_a_success_in_the_last_moment_keeps_it(target: Failures) -> None:
    parts = target.parts
    await target.fail(FAILURES_MIN)
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    await target.failing.run_once()
    await target.fail(1)
    found, _ = await target.failing._look("", now_ms() + parts.clock.ahead_ms)
    await target.fail(1, status=Status.DELIVERED)
    assert not await target.failing.disable(found[0])
    await parts.channels.delete(OPERATOR, target.sight, target.channel_id)
    assert not await target.failing.disable(found[0])


async def test_zero_hours_is_off(target: Failures) -> None:
    parts = target.parts
    off = Failing(parts.changes, hours=0)
    await target.fail(FAILURES_MIN)
    parts.clock.ahead_ms = 10 * HOURS * HOUR_MS
    for _ in range(3):
        assert await off.run_once() == 0
        await target.fail(1)
    assert len(await rows(parts.store, "SELECT 1 FROM channels WHERE enabled")) == 1


async def test_every_lane_is_looked_at(target: Failures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.service.failing.LANES_PER_STEP", 2)
    parts = target.parts
    for _ in range(4):
        await parts.channel(target.sight)
    last = Failures(parts, target.sight, (await parts.channel(target.sight)).channel.id)
    await last.fail(FAILURES_MIN)
    parts.clock.ahead_ms = HOURS * HOUR_MS + 60_000
    await last.failing.run_once()
    await last.fail(1)
    assert await last.failing.run_once() == 1
    assert not (await last.channel()).enabled

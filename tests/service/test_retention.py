"""Retention as the use cases show it: what is purged can't be sent, and what is small goes too."""

from typing import Any

import pytest
import sqlalchemy as sa
from tests.service.parts import OPERATOR, Parts
from tests.service.test_log import publish
from tests.service.test_recover import EVER, failed
from tests.storage.stores import ORGANIZATION, born, new_id, now_ms, one, rows, settlement

from tocsin.config import load
from tocsin.domain.errors import EventPurged, NotFound
from tocsin.domain.model import Status
from tocsin.domain.text import iso
from tocsin.service.recover import RecoverDraft
from tocsin.service.retention import DAY_MS, Retention
from tocsin.service.sight import Page
from tocsin.storage.control import retention as retained
from tocsin.storage.watch_tables import alert_history, issues

pytestmark = pytest.mark.anyio


def retention(parts: Parts, days: int = 30) -> Retention:
    return Retention(
        parts.store,
        parts.clock,
        days=days,
        waiting_hours=14 * 24,
        published=lambda: 0,
        wake=parts.hands.wake,
    )


@pytest.mark.parametrize(
    ("days", "most", "hours"),
    [(30, 14, 14 * 24), (30, 40, 29 * 24), (7, 14, 6 * 24), (2, 14, 24), (1, 14, 12), (1, 1, 12)],
)
def test_a_delivery_ends_before_it_would_be_removed(days: int, most: int, hours: int) -> None:
    given = load({"retention_days": days, "delivery_days_max": most})
    assert given.delivery_hours_max == hours


async def test_what_is_past_its_retention_is_not_sent_again(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    delivery_id = event.deliveries[0].id
    await parts.store.settle([settlement(born(event), Status.EXHAUSTED)])
    # About to be removed: nothing may bring it back to life between here and there.
    await parts.store.write(lambda c: retained.set_horizon(c, new_id()))
    with pytest.raises(EventPurged):
        await parts.log.retry(OPERATOR, sight, delivery_id)
    # Retention was made longer: what is still there can be sent again.
    await parts.store.write(lambda c: retained.set_horizon(c, "0" * 24))
    again = await parts.log.retry(OPERATOR, sight, delivery_id)
    assert again.status is Status.WAITING


async def test_recover_passes_over_what_is_purged(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    await failed(parts, sight, channel.id, 2)
    await parts.store.write(lambda c: retained.set_horizon(c, new_id()))
    kept = await failed(parts, sight, channel.id, 1)
    job = await parts.log.recover(OPERATOR, sight, channel.id, RecoverDraft(since=EVER))
    await parts.runner.run_once()
    job = await parts.log.job(OPERATOR, sight, job.id)
    assert (job.status, job.total, job.done) == ("done", 1, 1)
    waiting = await rows(parts.store, "SELECT id FROM deliveries WHERE status = 'waiting'")
    assert [row["id"] for row in waiting] == kept


async def test_a_span_that_is_purged_is_not_recovered(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    until = now_ms() + 1_000
    await failed(parts, sight, channel.id, 1)
    parts.clock.ahead_ms += 31 * DAY_MS
    await retention(parts).run_once()
    draft = RecoverDraft(since=EVER, until=iso(until))
    with pytest.raises(EventPurged):
        await parts.log.recover(OPERATOR, sight, channel.id, draft)


async def test_what_is_purged_is_not_found_and_lists_go_on(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    ids = await failed(parts, sight, channel.id, 5)
    parts.clock.ahead_ms += 31 * DAY_MS
    first = await parts.log.deliveries(OPERATOR, sight, Page(limit=2))
    await retention(parts).run_once()
    rest = await parts.log.deliveries(OPERATOR, sight, Page(limit=2, below=first.next))
    assert (rest.items, rest.next) == ([], None)
    for read in (parts.log.delivery, parts.log.retry):
        with pytest.raises(NotFound):
            await read(OPERATOR, sight, ids[0])
    assert (await parts.log.events(OPERATOR, sight, Page())).items == []
    purged = await parts.store.read(retained.purged)
    assert purged == {"events": 5, "deliveries": 5, "attempts": 5}


async def test_what_has_waited_too_long_ends_visibly(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight, enabled=False)).channel
    event = await publish(parts, sight, channel.id, claim=False)
    delivery_id = event.deliveries[0].id
    duty = retention(parts)
    parts.clock.ahead_ms += 13 * DAY_MS
    assert await duty.expire() == 0
    parts.clock.ahead_ms += 2 * DAY_MS
    assert await duty.expire() == 1
    found, _ = await parts.log.delivery(OPERATOR, sight, delivery_id)
    assert (found.status, found.last_error) == (Status.EXHAUSTED, retained.EXPIRED)
    assert [(s.labels, s.value) for s in duty.samples()] == [(("exhausted",), 1)]
    # It is there for another two weeks, and may be sent again.
    again = await parts.log.retry(OPERATOR, sight, delivery_id)
    assert again.status is Status.WAITING
    assert await duty.expire() == 0


async def test_what_ended_long_ago_goes_with_the_log(parts: Parts) -> None:
    sight = await parts.organization()
    gone = (await parts.channel(sight)).channel
    event = await publish(parts, sight, gone.id)
    await parts.store.settle([settlement(born(event))])
    await parts.channels.delete(OPERATOR, sight, gone.id)
    await parts.runner.run_once()
    kept = (await parts.channel(sight)).channel
    await parts.log.recover(OPERATOR, sight, kept.id, RecoverDraft(since=EVER))
    await parts.runner.run_once()
    await parts.store.write(_leave_traces)
    parts.clock.ahead_ms += 20 * DAY_MS
    await retention(parts).run_once()
    assert len(await rows(parts.store, "SELECT id FROM jobs")) == 2
    assert len(await rows(parts.store, "SELECT id FROM channels")) == 2
    parts.clock.ahead_ms += 11 * DAY_MS
    await retention(parts).run_once()
    assert await rows(parts.store, "SELECT id FROM jobs") == []
    assert (await one(parts.store, "SELECT id FROM channels"))["id"] == kept.id
    assert (await one(parts.store, "SELECT channel_id FROM lanes"))["channel_id"] == kept.id
    assert (await one(parts.store, "SELECT status FROM issues"))["status"] == "open"
    assert await rows(parts.store, "SELECT * FROM alert_history") == []


def _leave_traces(c: sa.Connection) -> None:
    stamp = now_ms()
    issue: dict[str, Any] = {
        "organization_id": ORGANIZATION,
        "channel_id": "c" * 24,
        "title": "it fails",
        "occurrence_count": 1,
        "first_seen_at": stamp,
        "last_seen_at": stamp,
        "opened_at": stamp,
        "created_at": stamp,
        "updated_at": stamp,
    }
    for status, ended in (("open", None), ("resolved", stamp)):
        row = issue | {"id": new_id(), "fingerprint": status, "status": status}
        c.execute(sa.insert(issues).values(**row, resolved_at=ended))
    c.execute(
        sa.insert(alert_history).values(
            id=new_id(),
            organization_id=ORGANIZATION,
            project_id="p" * 24,
            alert_rule_id="r" * 24,
            trigger_reason="too many",
            trigger_data="{}",
            channels_notified="[]",
            created_at=stamp,
        )
    )

"""The log, retries, jobs and tests, as the use cases show them."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from tests.service.parts import OPERATOR, Parts, caller
from tests.storage.stores import born, claim, new_event, now_ms, one, settlement

from tocsin.domain.errors import (
    Conflict,
    EventPurged,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
)
from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Origin,
    ProjectId,
    Role,
    Status,
    WaitingFor,
)
from tocsin.service.channels import ChannelPatch
from tocsin.service.sight import Page, Sight
from tocsin.storage.base import NewEvent
from tocsin.storage.control import jobs, organizations, work
from tocsin.storage.tables import deliveries, events, lanes

pytestmark = pytest.mark.anyio

FINAL = (Status.DELIVERED, Status.EXHAUSTED, Status.REJECTED)


async def publish(
    parts: Parts,
    sight: Sight,
    *channel_ids: ChannelId,
    claim: bool = True,
    project_id: ProjectId | None = None,
    due_ms: int | None = None,
) -> NewEvent:
    """Store an event past the use case."""
    version = await parts.store.read(lambda c: organizations.version(c, sight))
    event = new_event(
        *channel_ids,
        claim=claim,
        organization_id=sight.organization_id,
        project_id=project_id,
        version=version,
        due_ms=due_ms,
    )
    await parts.store.add([event])
    return event


async def test_a_delivery_from_sending_to_delivered(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    delivery_id = event.deliveries[0].id
    shown, attempts = await parts.log.delivery(OPERATOR, sight, delivery_id.upper())
    assert (shown.status, shown.waiting_for, shown.next_attempt_at) == (Status.SENDING, None, None)
    assert attempts == []
    await parts.store.settle([settlement(born(event))])
    shown, attempts = await parts.log.delivery(OPERATOR, sight, delivery_id)
    assert (shown.status, shown.attempt_count, shown.last_status_code) == ("delivered", 1, 204)
    assert [(a.number, a.outcome, a.superseded) for a in attempts] == [(1, "delivered", False)]
    stored, found = await parts.log.event(OPERATOR, sight, event.event.id)
    assert stored.event == event.event
    assert (stored.deliveries, stored.unmatched, stored.idempotency_key) == (1, None, None)
    assert found == [shown]


async def test_what_a_delivery_waits_for(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id, claim=False, due_ms=now_ms() + 50_000)

    async def shown() -> tuple[Status, WaitingFor | None, bool]:
        (found,) = (await parts.log.deliveries(OPERATOR, sight, Page())).items
        return found.status, found.waiting_for, found.next_attempt_at is not None

    assert await shown() == (Status.WAITING, WaitingFor.RETRY, True)
    parts.clock.ahead_ms = 60_000
    assert await shown() == (Status.WAITING, None, True)
    hold = now_ms() + 500_000
    await parts.store.write(
        lambda c: c.execute(sa.update(lanes).values(blocked_until_ms=hold)).rowcount
    )
    assert await shown() == (Status.WAITING, WaitingFor.RATE_LIMIT, True)
    await parts.store.write(
        lambda c: c.execute(sa.update(lanes).values(breaker_state="open")).rowcount
    )
    assert await shown() == (Status.WAITING, WaitingFor.BREAKER, True)
    await parts.channels.update(OPERATOR, sight, channel.id, ChannelPatch(enabled=False))
    assert await shown() == (Status.WAITING, WaitingFor.CHANNEL_DISABLED, False)
    await parts.store.write(
        lambda c: c.execute(sa.update(lanes).values(cancelled_through="f" * 24)).rowcount
    )
    assert await shown() == (Status.CANCELLED, None, False)
    with pytest.raises(Conflict):
        await parts.log.retry(OPERATOR, sight, event.deliveries[0].id)
    await parts.store.write(
        lambda c: (
            c.execute(sa.update(lanes).values(cancelled_through=None, parked="deleted")).rowcount
        )
    )
    assert await shown() == (Status.CANCELLED, None, False)


async def test_filters(parts: Parts) -> None:
    sight = await parts.organization()
    project = await parts.project(sight)
    first = (await parts.channel(sight)).channel
    second = (await parts.channel(sight, project="app")).channel
    a = await publish(parts, sight, first.id)
    b = await publish(parts, sight, first.id, second.id, project_id=project.id)
    await parts.store.settle([settlement(born(a))])

    async def ids(**filters: object) -> list[str]:
        found = await parts.log.deliveries(OPERATOR, sight, Page(), **filters)  # type: ignore[arg-type]
        return [delivery.id for delivery in found.items]

    ids_of = [a.deliveries[0].id, *(d.id for d in b.deliveries)]
    assert await ids() == ids_of[::-1]
    assert await ids(channel=first.id) == [ids_of[1], ids_of[0]]
    assert await ids(channel="0" * 24) == []
    assert await ids(project="app") == [ids_of[2], ids_of[1]]
    assert await ids(status=Status.DELIVERED) == [ids_of[0]]
    assert await ids(status=Status.SENDING) == [ids_of[2], ids_of[1]]
    assert await ids(status=Status.WAITING) == []
    assert await ids(status=Status.CANCELLED) == []
    assert await ids(event_type="build.created") == ids_of[::-1]
    assert await ids(event_type="other") == []
    assert await ids(after=a.event.created_at) == ids_of[::-1]
    assert await ids(before=a.event.created_at) == []
    assert await ids(after=b.event.created_at + 1) == []
    with pytest.raises(Invalid):
        await ids(channel="x")
    with pytest.raises(Invalid):
        await ids(project="nothing")

    async def event_ids(**filters: object) -> list[str]:
        found = await parts.log.events(OPERATOR, sight, Page(), **filters)  # type: ignore[arg-type]
        return [stored.event.id for stored in found.items]

    assert await event_ids() == [b.event.id, a.event.id]
    assert await event_ids(project=project.id) == [b.event.id]
    assert await event_ids(type="build.created", before=b.event.created_at + 1) == [
        b.event.id,
        a.event.id,
    ]
    assert await event_ids(type="other") == []
    page = await parts.log.events(OPERATOR, sight, Page(limit=1))
    rest = await parts.log.events(OPERATOR, sight, Page(limit=1, below=page.next))
    assert [p.items[0].event.id for p in (page, rest)] == [b.event.id, a.event.id]
    assert rest.next is None


async def test_a_bound_key_sees_its_events_but_not_what_others_answered(parts: Parts) -> None:
    sight = await parts.organization()
    project = await parts.project(sight)
    wide = (await parts.channel(sight)).channel
    own = (await parts.channel(sight, project="app")).channel
    hidden = await publish(parts, sight, wide.id)
    event = await publish(parts, sight, wide.id, own.id, project_id=project.id)
    for at in (0, 1):
        await parts.store.settle([settlement(born(event, at), Status.EXHAUSTED)])
    bound = caller(sight, Role.VIEWER, project_id=project.id)
    narrow = Sight(sight.organization_id, project.id)
    listed = await parts.log.deliveries(bound, narrow, Page())
    assert len(listed.items) == 2
    with pytest.raises(NotFound):
        await parts.log.event(bound, narrow, hidden.event.id)
    with pytest.raises(NotFound):
        await parts.log.delivery(bound, narrow, hidden.deliveries[0].id)
    bodies = [
        (await parts.log.delivery(bound, narrow, delivery.id))[1][0].response_body
        for delivery in event.deliveries
    ]
    assert bodies == [None, "no"]


@pytest.mark.parametrize("status", FINAL)
async def test_a_finished_delivery_is_sent_again(parts: Parts, status: Status) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    delivery_id = event.deliveries[0].id
    await parts.store.settle([settlement(born(event), status)])
    parts.hands.woken.clear()
    again = await parts.log.retry(OPERATOR, sight, delivery_id)
    assert (again.status, again.attempt_count, again.finished_at) == (Status.WAITING, 1, None)
    assert len(parts.hands.woken) == 1
    with pytest.raises(Conflict):
        await parts.log.retry(OPERATOR, sight, delivery_id)
    (held,) = await claim(parts.store)
    assert (held.id, held.claim, held.number, held.step) == (delivery_id, 2, 2, 0)
    with pytest.raises(Conflict):
        await parts.log.retry(OPERATOR, sight, delivery_id)
    entry = (await parts.directory.audit(OPERATOR, sight, Page())).items[0]
    assert (entry.action, entry.target_id) == ("delivery.retry", delivery_id)


async def test_what_can_not_be_sent_again(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    delivery_id = event.deliveries[0].id
    await parts.store.settle([settlement(born(event))])
    viewer = caller(sight, Role.VIEWER)
    with pytest.raises(Forbidden):
        await parts.log.retry(viewer, sight, delivery_id)
    with pytest.raises(NotFound):
        await parts.log.retry(viewer, sight, "0" * 24)
    await parts.store.write(
        lambda c: c.execute(sa.delete(events).where(events.c.id == event.event.id)).rowcount
    )
    with pytest.raises(EventPurged):
        await parts.log.retry(OPERATOR, sight, delivery_id)
    await parts.channels.delete(OPERATOR, sight, channel.id)
    with pytest.raises(Conflict) as caught:
        await parts.log.retry(OPERATOR, sight, delivery_id)
    assert not isinstance(caught.value, EventPurged)


async def test_a_retry_of_a_disabled_channel_waits_for_it(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    await parts.store.settle([settlement(born(event), Status.EXHAUSTED)])
    await parts.channels.update(OPERATOR, sight, channel.id, ChannelPatch(enabled=False))
    again = await parts.log.retry(OPERATOR, sight, event.deliveries[0].id)
    assert (again.status, again.waiting_for) == (Status.WAITING, WaitingFor.CHANNEL_DISABLED)
    assert (await one(parts.store, "SELECT next_due_ms FROM lanes"))["next_due_ms"] is None


# Jobs


async def test_internal_jobs_are_nobodys_to_see_or_stop(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    await parts.channels.delete(OPERATOR, sight, channel.id)
    job_id = (await one(parts.store, "SELECT id FROM jobs"))["id"]
    assert (await parts.log.jobs(OPERATOR, sight, Page())).items == []
    with pytest.raises(NotFound):
        await parts.log.job(OPERATOR, sight, job_id)
    with pytest.raises(NotFound):
        await parts.log.cancel_job(OPERATOR, sight, job_id)
    # The one that was being sent keeps the job running until it is settled.
    assert await parts.runner.run_once() == 0
    assert (await one(parts.store, "SELECT status FROM jobs"))["status"] == "running"
    retry = settlement(born(event), Status.WAITING)
    await parts.store.settle([retry])
    await parts.runner.run_once()
    assert (await one(parts.store, "SELECT status FROM jobs"))["status"] == "done"
    assert (await one(parts.store, "SELECT status FROM deliveries"))["status"] == "cancelled"


async def test_jobs_of_people_are_listed_and_stopped(parts: Parts) -> None:
    sight = await parts.organization()
    task = await parts.store.write(
        lambda c: jobs.create(
            c,
            sight,
            id="1" * 24,
            kind="cancel_backlog",
            channel_id="2" * 24,
            internal=False,
            arguments={"through": "3" * 24},
            now_ms=1,
        )
    )
    (listed,) = (await parts.log.jobs(OPERATOR, sight, Page())).items
    assert (listed.id, listed.status, listed.done) == (task.id, "running", 0)
    assert await parts.log.job(OPERATOR, sight, task.id) == listed
    stopped = await parts.log.cancel_job(OPERATOR, sight, task.id)
    assert stopped.status == "cancelled"
    with pytest.raises(Conflict):
        await parts.log.cancel_job(OPERATOR, sight, task.id)


async def test_a_job_that_can_not_be_done_fails_alone(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    sight = await parts.organization()
    for id, kind in (("1" * 24, "no such kind"), ("2" * 24, work.CANCEL_DELETED)):
        await parts.store.write(
            lambda c, id=id, kind=kind: jobs.create(  # type: ignore[misc]
                c,
                sight,
                id=id,
                kind=kind,
                channel_id="3" * 24,
                internal=True,
                arguments={},
                now_ms=1,
            )
        )
    await parts.runner.run_once()
    assert "1" * 24 in caplog.text
    states = await parts.store.read(
        lambda c: list(c.execute(sa.text("SELECT status FROM jobs ORDER BY id")).scalars())
    )
    assert states == ["failed", "done"]


async def test_all_data_of_a_deleted_organization_goes(parts: Parts) -> None:
    kept = await parts.organization("Kept")
    kept_channel = (await parts.channel(kept)).channel
    await publish(parts, kept, kept_channel.id)
    before = await parts.store.read(counts)
    sight = await parts.organization("Acme")
    await parts.project(sight)
    channel = (await parts.channel(sight, project="app")).channel
    await parts.keys.create(OPERATOR, sight, name="k")
    event = await publish(parts, sight, channel.id)
    await parts.store.settle([settlement(born(event))])
    await publish(parts, sight, channel.id, claim=False)
    await parts.directory.delete_organization(OPERATOR, sight, confirm="acme")
    assert await claim(parts.store) == []
    assert await parts.runner.run_once() == 0
    parts.clock.ahead_ms = 61_000
    for _ in range(30):
        await parts.runner.run_once()
    state = await one(parts.store, "SELECT status FROM jobs")
    assert state["status"] == "done"
    after = await parts.store.read(counts)
    tombstone, job = 1, 1
    assert after == before | {
        "organizations": before["organizations"] + tombstone,
        "jobs": before["jobs"] + job,
    }


def counts(connection: sa.Connection) -> dict[str, int]:
    tables = (
        "organizations projects keys channels jobs audit lanes events deliveries attempts"
        " idempotency"
    )
    return {
        table: connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar() or 0
        for table in tables.split()
    }


# Tests


async def test_a_test_is_one_attempt_whatever_the_state_of_the_channel(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight, enabled=False)).channel
    delivered, attempt = await parts.channels.test(OPERATOR, sight, channel.id)
    assert delivered
    assert attempt.outcome == "delivered"
    (held,) = parts.hands.probed
    assert (held.origin, held.claim, held.number) == (Origin.TEST, 1, 1)
    assert held.event.type == "tocsin.test"
    shown, attempts = await parts.log.delivery(OPERATOR, sight, held.id)
    assert (shown.status, shown.origin, len(attempts)) == ("delivered", "test", 1)
    with pytest.raises(Conflict):
        await parts.log.retry(OPERATOR, sight, DeliveryId(held.id))
    parts.hands.outcome = "retry"
    delivered, _ = await parts.channels.test(OPERATOR, sight, channel.id)
    assert not delivered


async def test_a_test_is_sent_although_its_caller_hangs_up(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    write = parts.store.write
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def slow(work: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await write(work)

    parts.store.write = slow  # type: ignore[method-assign]
    testing = asyncio.create_task(parts.channels.test(OPERATOR, sight, channel.id))
    await reached.wait()
    testing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await testing
    go_on.set()
    await parts.tester.close()
    (listed,) = (await parts.log.deliveries(OPERATOR, sight, Page())).items
    assert listed.status == "delivered"


async def test_tests_are_limited_for_each_organization(parts: Parts) -> None:
    sight = await parts.organization()
    other = await parts.organization("Other")
    channel = (await parts.channel(sight)).channel
    parts.hands.open.clear()
    six = [
        asyncio.ensure_future(parts.channels.test(OPERATOR, sight, channel.id)) for _ in range(6)
    ]
    await asyncio.wait(six, timeout=60, return_when=asyncio.FIRST_COMPLETED)
    parts.hands.open.set()
    results = await asyncio.gather(*six, return_exceptions=True)
    assert sum(isinstance(result, RateLimited) for result in results) == 1

    async def send(count: int) -> None:
        for _ in range(count):
            await parts.channels.test(OPERATOR, sight, channel.id)

    await send(25)
    with pytest.raises(RateLimited) as caught:
        await send(200)  # on a slow machine there is another one now and then
    assert caught.value.retry_after_seconds >= 1
    theirs = (await parts.channel(other)).channel
    await parts.channels.test(OPERATOR, other, theirs.id)


async def test_the_walk_of_a_list_is_bounded(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    event = await publish(parts, sight, channel.id)
    insert = (
        "INSERT INTO deliveries (id, event_id, organization_id, channel_id, event_type, origin,"
        " status, due_ms, node, claim, step, attempt_count, lost, created_at)"
        " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20500)"
        " SELECT printf('%024x', 1000000 + i), :event, :organization, :channel, 'a', 'event',"
        " 'delivered', 1, 0, 1, 0, 1, 0, 1 FROM n"
    )
    values = {
        "event": event.event.id,
        "organization": sight.organization_id,
        "channel": channel.id,
    }
    await parts.store.write(lambda c: c.execute(sa.text(insert), values).rowcount)
    first = await parts.log.deliveries(OPERATOR, sight, Page(), status=Status.REJECTED)
    assert first.items == []
    assert first.scanned_to is not None
    rest = await parts.log.deliveries(
        OPERATOR, sight, Page(below=first.next), status=Status.REJECTED
    )
    assert (rest.items, rest.next, rest.scanned_to) == ([], None, None)
    total = await parts.store.read(
        lambda c: c.execute(sa.select(sa.func.count()).select_from(deliveries)).scalar()
    )
    assert total == 20501

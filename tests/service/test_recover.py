"""Recover, as the use case shows it; what its job does step by step is tested in the storage."""

from typing import Any

import pytest
from tests.service.parts import OPERATOR, Parts
from tests.service.test_log import publish
from tests.storage.stores import born, claim, settlement

from tocsin.domain.errors import Conflict, Invalid, NotFound, QuotaExceeded
from tocsin.domain.model import ChannelId, Status
from tocsin.service.recover import JOBS_MAX, RecoverDraft
from tocsin.service.sight import Page, Sight
from tocsin.storage.control import recovery

pytestmark = pytest.mark.anyio

EVER = "2020-01-01T00:00:00Z"


async def failed(parts: Parts, sight: Sight, channel_id: ChannelId, count: int) -> list[str]:
    events = [await publish(parts, sight, channel_id) for _ in range(count)]
    await parts.store.settle([settlement(born(event), Status.EXHAUSTED) for event in events])
    return [event.deliveries[0].id for event in events]


async def test_what_failed_is_sent_once_more(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    ids = await failed(parts, sight, channel.id, 3)
    draft = RecoverDraft(since=EVER)
    job = await parts.log.recover(OPERATOR, sight, channel.id.upper(), draft)
    assert (job.kind, job.channel_id, job.status) == ("recover", channel.id, "running")
    assert (job.total, job.done) == (3, 0)
    assert await parts.log.job(OPERATOR, sight, job.id) == job
    woken = len(parts.hands.woken)
    await parts.runner.run_once()
    assert len(parts.hands.woken) == woken + 1
    job = await parts.log.job(OPERATOR, sight, job.id)
    assert (job.status, job.total, job.done) == ("done", 3, 3)
    held = await claim(parts.store)
    assert sorted(one.id for one in held) == sorted(ids)
    assert {one.number for one in held} == {2}
    (entry, *_) = (await parts.directory.audit(OPERATOR, sight, Page())).items
    assert (entry.action, entry.target_id) == ("job.create", job.id)
    assert entry.changes["channel_id"] == channel.id


async def test_it_can_be_cancelled_until_it_has_ended(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "QUEUE_MAX", 2)
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    await failed(parts, sight, channel.id, 5)
    job = await parts.log.recover(OPERATOR, sight, channel.id, RecoverDraft(since=EVER))
    for _ in range(3):
        await parts.runner.run_once()
    stopped = await parts.log.cancel_job(OPERATOR, sight, job.id)
    assert (stopped.status, stopped.done) == ("cancelled", 2)
    assert await parts.runner.run_once() == 0
    with pytest.raises(Conflict):
        await parts.log.cancel_job(OPERATOR, sight, job.id)


async def test_so_many_at_once_and_no_more(parts: Parts) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    await failed(parts, sight, channel.id, 1)
    draft = RecoverDraft(since=EVER)
    made = [await parts.log.recover(OPERATOR, sight, channel.id, draft) for _ in range(JOBS_MAX)]
    with pytest.raises(QuotaExceeded):
        await parts.log.recover(OPERATOR, sight, channel.id, draft)
    await parts.log.cancel_job(OPERATOR, sight, made[0].id)
    await parts.log.recover(OPERATOR, sight, channel.id, draft)
    await parts.runner.run_once()
    # Only one of them finds it still failed.
    ended = (await parts.log.jobs(OPERATOR, sight, Page())).items
    assert sorted(job.done for job in ended) == [0] * JOBS_MAX + [1]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "9999-01-01T00:00:00Z"}, "since"),
        ({"since": EVER, "until": EVER}, "until"),
        ({"since": EVER, "statuses": []}, "statuses"),
        ({"since": EVER, "statuses": ["rejected", "delivered"]}, "statuses"),
    ],
)
async def test_what_is_refused(parts: Parts, fields: dict[str, Any], named: str) -> None:
    sight = await parts.organization()
    channel = (await parts.channel(sight)).channel
    with pytest.raises(Invalid) as refused:
        await parts.log.recover(OPERATOR, sight, channel.id, RecoverDraft(**fields))
    assert refused.value.problems[0].field == named
    for nobody in ("x", "0" * 24):
        with pytest.raises(NotFound):
            await parts.log.recover(OPERATOR, sight, nobody, RecoverDraft(since=EVER))

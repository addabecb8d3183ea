"""Issues: what a person makes of them, the retry of a group, and how the quiet ones end."""

from typing import Any

import pytest
import sqlalchemy as sa
from tests.service.parts import OPERATOR, Parts, caller
from tests.service.test_log import publish
from tests.storage.stores import born, claim, new_id, now_ms, settlement

from tocsin.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from tocsin.domain.model import ChannelId, IssueStatus, ProjectId, Status
from tocsin.domain.permissions import Caller
from tocsin.domain.text import iso
from tocsin.service.issues import QUIET_MS, IssuePatch
from tocsin.service.recover import JOBS_MAX
from tocsin.service.sight import Page, Sight
from tocsin.storage.base import NewEvent
from tocsin.storage.control import recovery
from tocsin.storage.watch_tables import issues as table

pytestmark = pytest.mark.anyio


async def issue(
    parts: Parts, sight: Sight, channel_id: ChannelId, project_id: ProjectId, **values: Any
) -> str:
    """A new issue, opened a minute ago; what it counts stands for nothing."""
    at = now_ms() - 60_000
    times = ("first_seen_at", "last_seen_at", "opened_at", "created_at", "updated_at")
    row = {
        "id": new_id(),
        "organization_id": sight.organization_id,
        "project_id": project_id,
        "channel_id": channel_id,
        "fingerprint": "http_500",
        "title": "The target answers HTTP 500",
        "status": "open",
        "occurrence_count": 3,
        **dict.fromkeys(times, at),
        **values,
    }
    await parts.store.write(lambda c: c.execute(sa.insert(table).values(row)).rowcount)
    return str(row["id"])


class Trouble:
    """A channel of a project, and an issue of it."""

    def __init__(self, parts: Parts, sight: Sight) -> None:
        self.parts, self.sight = parts, sight
        self.channel_id, self.project_id = ChannelId(""), ProjectId("")
        self.issue_id = ""

    async def set_up(self) -> None:
        self.project_id = (await self.parts.project(self.sight)).id
        made = await self.parts.channel(self.sight, project=self.project_id)
        self.channel_id = made.channel.id
        self.issue_id = await issue(self.parts, self.sight, self.channel_id, self.project_id)

    async def failed(self, count: int, **settled: Any) -> list[NewEvent]:
        """Deliveries that are given up now."""
        events = [await publish(self.parts, self.sight, self.channel_id) for _ in range(count)]
        given = [settlement(born(event), Status.EXHAUSTED, **settled) for event in events]
        await self.parts.store.settle(given)
        return events

    async def update(self, **change: Any) -> Any:
        return await self.parts.issues.update(
            OPERATOR, self.sight, self.issue_id, IssuePatch(**change)
        )


@pytest.fixture
async def trouble(parts: Parts) -> Trouble:
    made = Trouble(parts, await parts.organization())
    await made.set_up()
    return made


async def test_a_person_changes_its_state(trouble: Trouble) -> None:
    parts, sight = trouble.parts, trouble.sight
    before = await parts.issues.get(OPERATOR, sight, trouble.issue_id.upper())
    assert (before.status, before.channel_name) == (IssueStatus.OPEN, "hook")
    assert await trouble.update() == before
    assert (await trouble.update(status=IssueStatus.OPEN)) == before
    seen = await trouble.update(status=IssueStatus.ACKNOWLEDGED)
    assert (seen.status, seen.resolved_at) == (IssueStatus.ACKNOWLEDGED, None)
    done = await trouble.update(status=IssueStatus.RESOLVED)
    assert done.resolved_at is not None
    assert (await trouble.update(status=IssueStatus.RESOLVED)).resolved_at == done.resolved_at
    again = await trouble.update(status=IssueStatus.OPEN)
    assert (again.status, again.resolved_at) == (IssueStatus.OPEN, None)
    # It is no news: what an alert asks for stays as it was.
    assert again.opened_at == before.opened_at
    assert again.updated_at > before.updated_at
    entries = (await parts.directory.audit(OPERATOR, sight, Page())).items
    said = [one.changes["status"] for one in entries if one.action == "issue.update"]
    assert said == [
        {"from": "resolved", "to": "open"},
        {"from": "acknowledged", "to": "resolved"},
        {"from": "open", "to": "acknowledged"},
    ]
    assert {one.target_id for one in entries if one.action == "issue.update"} == {trouble.issue_id}


async def test_silence_has_an_end_in_the_future(trouble: Trouble) -> None:
    until = now_ms() // 1000 * 1000 + 3_600_000
    quiet = await trouble.update(snoozed_until=iso(until))
    assert (quiet.snoozed_until, quiet.status) == (until, IssueStatus.OPEN)
    assert (await trouble.update(status=IssueStatus.RESOLVED)).snoozed_until == until
    for text in ("tomorrow", "", iso(now_ms() - 1000)):
        with pytest.raises(Invalid) as refused:
            await trouble.update(snoozed_until=text)
        assert refused.value.problems[0].field == "snoozed_until"
    assert (await trouble.update(snoozed_until=None)).snoozed_until is None


async def test_who_sees_it(trouble: Trouble) -> None:
    parts, sight = trouble.parts, trouble.sight
    elsewhere = await parts.project(sight, "Other")
    whole = (await parts.channel(sight)).channel
    await issue(parts, sight, whole.id, None)  # type: ignore[arg-type]
    found, total = await parts.issues.page(OPERATOR, sight, offset=0, limit=9)
    assert ([one.id for one in found], total) == ([trouble.issue_id], 1)
    counts = await parts.issues.summary(OPERATOR, sight)
    assert {status.value: count for status, count in counts.items()} == {
        "open": 1,
        "acknowledged": 0,
        "resolved": 0,
    }
    bound = Sight(sight.organization_id, elsewhere.id)
    who = caller(sight, project_id=elsewhere.id)
    assert await parts.issues.sight_of(who, trouble.issue_id) == bound
    assert await parts.issues.sight_of(OPERATOR, trouble.issue_id) == sight
    with pytest.raises(NotFound):
        await parts.issues.get(who, bound, trouble.issue_id)
    for nobody in ("x", "0" * 24):
        with pytest.raises(NotFound):
            await parts.issues.sight_of(OPERATOR, nobody)
    with pytest.raises(Forbidden):
        await parts.issues.update(
            Caller(kind="key", organization_id=sight.organization_id),
            sight,
            trouble.issue_id,
            IssuePatch(),
        )


async def test_the_group_is_sent_once_more(
    trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.service.issues.ROWS_COUNTED_AT_ONCE", 2)
    monkeypatch.setattr(recovery, "QUEUE_MAX", 4)
    parts, sight = trouble.parts, trouble.sight
    assert await parts.issues.retry(OPERATOR, sight, trouble.issue_id) == 0
    assert (await parts.log.jobs(OPERATOR, sight, Page())).items == []
    wanted = await trouble.failed(5)
    await trouble.failed(1, finished_at=now_ms() - 120_000)  # before it was opened
    other = settlement(born(wanted[0]), Status.EXHAUSTED).attempt
    other.error, other.status_code = "timeout", None
    await trouble.failed(1, attempt=other)
    assert await parts.issues.retry(OPERATOR, sight, trouble.issue_id) == 5
    (job,) = (await parts.log.jobs(OPERATOR, sight, Page())).items
    assert (job.kind, job.channel_id, job.total, job.done) == ("recover", trouble.channel_id, 5, 0)
    later = await trouble.failed(1)
    # In bounded steps: what is sent makes room for the rest.
    taken: list[str] = []
    for _ in range(10):
        await parts.runner.run_once()
        held = await claim(parts.store)
        taken += [one.id for one in held]
        await parts.store.settle([settlement(one) for one in held])
    assert sorted(taken) == sorted(event.deliveries[0].id for event in wanted)
    assert later[0].deliveries[0].id not in taken
    done = await parts.log.job(OPERATOR, sight, job.id)
    assert (done.status, done.done) == ("done", 5)
    entries = (await parts.directory.audit(OPERATOR, sight, Page())).items
    (entry,) = [one for one in entries if one.action == "issue.retry"]
    assert entry.changes == {"channel_id": trouble.channel_id, "job_id": job.id, "retried": 5}


async def test_a_retry_has_its_limits(trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "QUEUE_MAX", 0)
    parts, sight = trouble.parts, trouble.sight
    await trouble.failed(1)
    for _ in range(JOBS_MAX):
        assert await parts.issues.retry(OPERATOR, sight, trouble.issue_id) == 1
    with pytest.raises(QuotaExceeded):
        await parts.issues.retry(OPERATOR, sight, trouble.issue_id)
    await parts.channels.delete(OPERATOR, sight, trouble.channel_id)
    with pytest.raises(Conflict):
        await parts.issues.retry(OPERATOR, sight, trouble.issue_id)


async def test_quiet_ones_are_resolved(trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.service.issues.ISSUES_PER_STEP", 2)
    parts, sight = trouble.parts, trouble.sight
    ids = [
        await issue(parts, sight, trouble.channel_id, trouble.project_id, fingerprint=f"http_{n}")
        for n in range(401, 405)
    ]
    await parts.issues.update(OPERATOR, sight, ids[0], IssuePatch(status=IssueStatus.ACKNOWLEDGED))
    assert await parts.issues.resolve_quiet() == 0
    parts.clock.ahead_ms = QUIET_MS - 60_000 - 5_000
    assert await parts.issues.resolve_quiet() == 0
    parts.clock.ahead_ms = QUIET_MS - 30_000
    # Somebody has touched one of them since.
    assert await parts.issues.resolve_quiet() == 4
    found = await parts.issues.get(OPERATOR, sight, ids[0])
    assert found.status is IssueStatus.ACKNOWLEDGED
    parts.clock.ahead_ms = QUIET_MS + 30_000
    assert await parts.issues.resolve_quiet() == 1
    found = await parts.issues.get(OPERATOR, sight, ids[0])
    assert found.status is IssueStatus.RESOLVED
    assert found.resolved_at is not None
    # Opened by hand it has its half hour again.
    await parts.issues.update(OPERATOR, sight, ids[1], IssuePatch(status=IssueStatus.OPEN))
    assert await parts.issues.resolve_quiet() == 0
    assert await parts.issues.resolve_quiet() == 0

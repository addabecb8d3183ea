"""Recover, step by step, on both databases: a fixed set, each of it once, a bounded queue."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database
from tests.storage.control.test_borders import World, id_of
from tests.storage.control.test_work import lane_of, states

from tocsin.domain import issues
from tocsin.domain.model import JobId
from tocsin.storage.control import jobs, lanes, recovery, work
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import deliveries
from tocsin.storage.tables import lanes as lanes_table

pytestmark = pytest.mark.anyio

A, B = World("a"), World("b")
BEGAN = 1_000
DUE = 77


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        for world in (A, B):
            world.make(connection)
            jobs.cancel(connection, world.sight, world.job_id, now_ms=1)
            connection.execute(sa.delete(deliveries).where(deliveries.c.id == world.delivery_id))

    await database.run(fill)
    return database


async def ended(database: Database, count: int, *, first: int = 100, **values: Any) -> list[str]:
    """Deliveries of A's channel that have ended, one a millisecond; returns their ids."""
    rows = [
        {
            "id": f"{first + number:012x}{0:012x}",
            "event_id": A.event_id,
            "organization_id": A.organization_id,
            "channel_id": A.channel_id,
            "event_type": "a",
            "origin": "event",
            "status": "exhausted",
            "due_ms": 1,
            "node": 0,
            "claim": 3,
            "step": 2,
            "attempt_count": 3,
            "lost": 1,
            "created_at": first + number,
            "finished_at": 900,
        }
        | values
        for number in range(count)
    ]
    await database.run(lambda c: c.execute(sa.insert(deliveries), rows).rowcount)
    return [str(row["id"]) for row in rows]


async def begin(
    database: Database, *, since: int = 0, until: int = BEGAN + 1, statuses: Any = None
) -> jobs.Task:
    arguments = {"since": since, "until": until, "statuses": statuses or ["exhausted", "rejected"]}
    return await database.run(
        lambda c: jobs.create(
            c,
            A.sight,
            id="f" * 24,
            kind=recovery.RECOVER,
            channel_id=A.channel_id,
            internal=False,
            arguments=arguments,
            now_ms=BEGAN,
        )
    )


async def step(database: Database, task: jobs.Task, rows_max: int = 100) -> work.Step:
    def one(connection: Connection) -> work.Step:
        current = jobs.task(connection, task, task.id, lock=True)
        assert current is not None
        return work.step(connection, current, now_ms=2_000, rows_max=rows_max, storage_ms=DUE)

    return await database.run(one)


async def to_the_end(database: Database, task: jobs.Task, rows_max: int = 100) -> int:
    rows = 0
    for _ in range(200):
        done = await step(database, task, rows_max)
        assert done.rows < rows_max
        rows += done.rows
        if done.finished:
            return rows
    raise AssertionError("the job does not end")


async def job_of(database: Database, task: jobs.Task) -> Any:
    return await database.run(lambda c: jobs.get(c, A.sight, task.id))


async def opened(database: Database) -> list[Any]:
    query = sa.select(deliveries).where(deliveries.c.status == "waiting").order_by(deliveries.c.id)
    return await database.run(lambda c: list(c.execute(query).all()))


async def test_all_that_failed_is_re_opened_once_in_bounded_steps(filled: Database) -> None:
    ids = await ended(filled, 23)
    task = await begin(filled)
    assert await to_the_end(filled, task, rows_max=6) == 23
    job = await job_of(filled, task)
    assert (job.status, job.total, job.done, job.finished_at) == ("done", 23, 23, 2_000)
    rows = await opened(filled)
    assert [row.id for row in rows] == ids
    (row, *_) = rows
    # As a single retry: due now, from the first step; attempts and claims go on.
    assert (row.due_ms, row.step, row.lost, row.node, row.finished_at) == (DUE, 0, 0, 0, None)
    assert (row.attempt_count, row.claim, row.seq) == (3, 3, None)
    assert (await lane_of(filled, A))["next_due_ms"] == DUE


async def test_only_what_was_asked_for_and_had_ended(filled: Database) -> None:
    wanted = await ended(filled, 3, first=200)
    rejected = await ended(filled, 1, first=300, status="rejected")
    await ended(filled, 2, first=100)  # too early
    await ended(filled, 2, first=400)  # too late
    await ended(filled, 1, first=210, status="delivered")
    await ended(filled, 1, first=220, status="cancelled")
    await ended(filled, 1, first=230, origin="test")
    await ended(filled, 1, first=240, finished_at=BEGAN + 1)
    await ended(filled, 1, first=250, organization_id=B.organization_id)
    await ended(filled, 1, first=260, channel_id=B.channel_id)
    await ended(filled, 1, first=270, event_id=id_of("a", 77))  # its event is gone
    task = await begin(filled, since=200, until=400)
    assert await to_the_end(filled, task, rows_max=5) == 4
    assert [row.id for row in await opened(filled)] == [*wanted, *rejected]
    job = await job_of(filled, task)
    assert (job.total, job.done) == (5, 4)


async def test_one_state_only(filled: Database) -> None:
    await ended(filled, 2)
    rejected = await ended(filled, 2, first=300, status="rejected")
    task = await begin(filled, statuses=["rejected"])
    assert await to_the_end(filled, task) == 2
    assert [row.id for row in await opened(filled)] == rejected


async def test_nothing_found_is_done_at_once(filled: Database) -> None:
    task = await begin(filled)
    assert await step(filled, task) == work.Step(0, True)
    job = await job_of(filled, task)
    assert (job.status, job.total, job.done) == ("done", 0, 0)


async def test_what_fails_again_is_not_taken_again(filled: Database) -> None:
    await ended(filled, 10)
    task = await begin(filled)
    rows = 0
    for _ in range(50):
        done = await step(filled, task, rows_max=5)
        rows += done.rows
        again = sa.update(deliveries).where(deliveries.c.status == "waiting")
        again = again.values(status="exhausted", finished_at=BEGAN + 1)
        await filled.run(lambda c, a=again: c.execute(a).rowcount)  # type: ignore[misc]
        if done.finished:
            break
    assert rows == 10
    assert await states(filled, A) == {"exhausted": 10}


async def test_no_more_than_the_queue_takes(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "QUEUE_MAX", 4)
    ids = await ended(filled, 10)
    task = await begin(filled)
    await step(filled, task)  # counts
    assert await step(filled, task) == work.Step(4, False)
    assert await step(filled, task) == work.Step(0, False, waits=True)
    first = sa.update(deliveries).where(deliveries.c.id == ids[0])
    await filled.run(lambda c: c.execute(first.values(status="delivered")).rowcount)
    assert await step(filled, task) == work.Step(1, False)
    assert [row.id for row in await opened(filled)] == ids[1:5]


async def test_cancelled_it_goes_no_further(filled: Database) -> None:
    await ended(filled, 10)
    task = await begin(filled)
    await step(filled, task)
    assert await step(filled, task, rows_max=6) == work.Step(4, False)
    await filled.run(lambda c: jobs.cancel(c, A.sight, task.id, now_ms=2_001))
    assert await filled.run(lambda c: jobs.task(c, A.sight, task.id)) is None
    job = await job_of(filled, task)
    assert (job.status, job.total, job.done) == ("cancelled", 10, 4)


async def test_of_a_deleted_channel_it_ends_as_cancelled(filled: Database) -> None:
    await ended(filled, 3)
    task = await begin(filled)
    await step(filled, task)
    await filled.run(lambda c: lanes.close(c, A.sight, [A.channel_id]))
    assert await step(filled, task) == work.Step(0, True)
    assert (await job_of(filled, task)).status == "cancelled"
    assert await states(filled, A) == {"exhausted": 3}


async def test_it_waits_for_a_backlog_that_is_being_cancelled(filled: Database) -> None:
    await ended(filled, 3)
    task = await begin(filled)
    await step(filled, task)
    through = id_of("0", 500)
    await filled.run(lambda c: lanes.cancel_backlog(c, A.sight, A.channel_id, through=through))
    assert (await step(filled, task)).waits
    await filled.run(lambda c: lanes.backlog_cancelled(c, A.sight, A.channel_id, through=through))
    assert await to_the_end(filled, task) == 3


async def test_a_disabled_channel_keeps_them_waiting(filled: Database) -> None:
    await ended(filled, 3)
    await filled.run(lambda c: lanes.park(c, A.sight, A.channel_id, version=2))
    task = await begin(filled)
    assert await to_the_end(filled, task) == 3
    assert (await lane_of(filled, A))["next_due_ms"] is None


async def test_in_an_ordered_channel_they_join_the_tail(filled: Database) -> None:
    ids = await ended(filled, 5, seq=1)
    ordered = sa.update(lanes_table).where(lanes_table.c.channel_id == A.channel_id)
    await filled.run(lambda c: c.execute(ordered.values(ordered=True, last_seq=40)).rowcount)
    task = await begin(filled)
    assert await to_the_end(filled, task, rows_max=4) == 5
    rows = await opened(filled)
    assert [(row.id, row.seq) for row in rows] == list(zip(ids, range(41, 46), strict=True))
    assert (await lane_of(filled, A))["last_seq"] == 45


async def test_the_quota_counts_running_jobs_of_people_only(filled: Database) -> None:
    assert await filled.run(lambda c: jobs.count(c, A.sight)) == 0
    task = await begin(filled)
    assert await filled.run(lambda c: jobs.count(c, A.sight)) == 1
    assert await filled.run(lambda c: jobs.count(c, B.sight)) == 0
    await filled.run(lambda c: jobs.cancel(c, A.sight, task.id, now_ms=5))
    assert await filled.run(lambda c: jobs.count(c, A.sight)) == 0


KINDS: dict[str, dict[str, Any]] = {
    "http_503": {"last_error": "http_status: 503", "last_status_code": 503},
    "http_429": {"last_error": "http_status: 429", "last_status_code": 429},
    "http_404": {"last_error": "resent: it may arrive twice", "last_status_code": 404},
    "timeout": {"last_error": "timeout: no answer in 5 s"},
    "connection_reset": {"last_error": "connection_reset"},
    "lost_with_its_node": {"last_error": "lost_with_its_node", "last_status_code": 503},
    "tls_failed": {"last_error": "tls_failed: certificate verify failed"},
    "unknown": {"last_error": None},
}


async def test_the_group_of_an_issue_is_what_failed_in_its_way(filled: Database) -> None:
    """As `domain.issues.fingerprint` says; each failure is in one group."""
    of_kind: dict[str, str] = {}
    for number, (kind, values) in enumerate(KINDS.items()):
        error, status = values["last_error"], values.get("last_status_code")
        assert issues.fingerprint(error, status) == kind
        (of_kind[kind],) = await ended(filled, 1, first=100 + number, **values)
    same = KINDS["timeout"]
    await ended(filled, 1, first=200, **(same | {"finished_at": 799}))  # before it was opened
    await ended(filled, 1, first=201, **(same | {"finished_at": BEGAN + 1}))
    await ended(filled, 1, first=202, **(same | {"origin": "operational"}))
    await ended(filled, 1, first=203, **(same | {"origin": "alert"}))
    await ended(filled, 1, first=204, **(same | {"status": "rejected"}))
    await ended(filled, 1, first=205, **(same | {"status": "delivered"}))
    groups = {kind: [id] for kind, id in of_kind.items()}
    groups["breaker_open"] = [
        of_kind[kind] for kind in ("http_503", "http_429", "timeout", "connection_reset")
    ]
    groups["proxy_failed"] = []

    for number, (kind, wanted) in enumerate(groups.items()):
        task = of_issue(kind, f"{number:x}" * 24)
        found, last = 0, ""
        while True:
            at = last
            some, further = await filled.run(lambda c, t=task, a=at: recovery.count(c, t, a, 3))  # type: ignore[misc]
            found += some
            if further is None:
                break
            last = further
        assert found == len(wanted), kind
    reset = groups["breaker_open"]
    task = of_issue("breaker_open", "f" * 24)
    await filled.run(
        lambda c: jobs.create(
            c,
            A.sight,
            id=task.id,
            kind=task.kind,
            channel_id=task.channel_id,
            internal=False,
            arguments=task.arguments,
            now_ms=BEGAN,
            total=len(reset),
            position=recovery.OPENING,
        )
    )
    assert await to_the_end(filled, task, rows_max=4) == len(reset)
    job = await filled.run(lambda c: jobs.get(c, A.sight, task.id))
    assert (job.total, job.done, job.status) == (4, 4, "done")
    waiting = sa.select(deliveries.c.id).where(deliveries.c.status == "waiting")
    assert sorted(await filled.run(lambda c: list(c.scalars(waiting)))) == sorted(reset)


def of_issue(kind: str, id: str) -> jobs.Task:
    return jobs.Task(
        id=JobId(id),
        organization_id=A.organization_id,
        kind=recovery.RECOVER,
        channel_id=A.channel_id,
        arguments={
            "since": 0,
            "until": BEGAN + 1,
            "statuses": ["exhausted"],
            "fingerprint": kind,
            "ended_since": 800,
        },
        position=recovery.OPENING,
        created_at=BEGAN,
    )

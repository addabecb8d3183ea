"""Durable jobs in small steps: each is bounded, and the next goes on where the last one ended."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database
from tests.storage.control.test_borders import Sight, World, id_of

from tocsin.domain.model import OrganizationId, ProjectId
from tocsin.storage.control import jobs, lanes, organizations, projects, work
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import channels, deliveries, metadata
from tocsin.storage.tables import lanes as lanes_table
from tocsin.storage.tables import organizations as organizations_table

pytestmark = pytest.mark.anyio

A, B = World("a"), World("b")


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        A.make(connection)
        B.make(connection)
        for world in (A, B):
            jobs.cancel(connection, world.sight, world.job_id, now_ms=1)
            connection.execute(
                sa.update(deliveries)
                .where(deliveries.c.id == world.delivery_id)
                .values(status="delivered", node=0)
            )

    await database.run(fill)
    return database


async def wait_in_lane(
    database: Database, world: World, count: int, *, node: int = 0, first: int = 100
) -> None:
    """So many deliveries of the world's channel; the older the id, the later it is due."""
    rows = [
        {
            "id": id_of(world.letter, first + number),
            "event_id": world.event_id,
            "organization_id": world.organization_id,
            "channel_id": world.channel_id,
            "event_type": "a",
            "origin": "event",
            "status": "waiting",
            "due_ms": 1000 - number // 2,
            "node": node,
            "claim": 0,
            "step": 0,
            "attempt_count": 0,
            "lost": 0,
            "created_at": 1,
        }
        for number in range(count)
    ]
    await database.run(lambda c: c.execute(sa.insert(deliveries), rows).rowcount)


async def start(
    database: Database,
    world: World,
    kind: str,
    *,
    channel_id: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> jobs.Task:
    return await database.run(
        lambda c: jobs.create(
            c,
            world.sight,
            id=id_of(world.letter, 99),
            kind=kind,
            channel_id=channel_id,
            internal=True,
            arguments=arguments or {},
            now_ms=1,
        )
    )


async def step(database: Database, task: jobs.Task, *, now_ms: int = 7, rows_max: int) -> work.Step:
    def work_step(connection: Connection) -> work.Step:
        current = jobs.task(connection, task, task.id)
        assert current is not None
        return work.step(connection, current, now_ms=now_ms, rows_max=rows_max)

    return await database.run(work_step)


async def to_the_end(database: Database, task: jobs.Task, **options: Any) -> list[int]:
    rows = []
    for _ in range(100):
        done = await step(database, task, **options)
        rows.append(done.rows)
        if done.finished:
            return rows
    raise AssertionError("the job does not end")


async def lane_of(database: Database, world: World) -> Any:
    query = sa.select(lanes_table).where(lanes_table.c.channel_id == world.channel_id)
    return await database.run(lambda c: c.execute(query).mappings().one())


async def states(database: Database, world: World) -> dict[str, int]:
    query = (
        sa.select(deliveries.c.status, sa.func.count())
        .where(deliveries.c.channel_id == world.channel_id)
        .group_by(deliveries.c.status)
    )
    return await database.run(lambda c: {row[0]: row[1] for row in c.execute(query)})


async def test_a_deleted_lane_is_emptied_in_steps(filled: Database) -> None:
    await wait_in_lane(filled, A, 10)
    await wait_in_lane(filled, B, 3)
    task = await start(filled, A, work.CANCEL_DELETED, channel_id=A.channel_id)
    assert await to_the_end(filled, task, rows_max=5) == [4, 4, 2]
    assert await states(filled, A) == {"cancelled": 10, "delivered": 1}
    assert await states(filled, B) == {"waiting": 3, "delivered": 1}
    assert await filled.run(lambda c: jobs.task(c, A.sight, task.id)) is None


async def test_what_is_held_keeps_a_deleted_lane_s_job_waiting(filled: Database) -> None:
    await wait_in_lane(filled, A, 1, node=7)
    task = await start(filled, A, work.CANCEL_DELETED, channel_id=A.channel_id)
    assert await step(filled, task, rows_max=5) == work.Step(0, False, waits=True)
    await filled.run(lambda c: c.execute(sa.update(deliveries).values(node=0)).rowcount)
    assert await step(filled, task, rows_max=5) == work.Step(1, True)


async def test_a_backlog_is_cancelled_by_id_in_steps(filled: Database) -> None:
    await wait_in_lane(filled, A, 10)
    through = id_of("a", 105)
    await filled.run(lambda c: lanes.cancel_backlog(c, A.sight, A.channel_id, through=through))
    lane = await lane_of(filled, A)
    assert (lane["cancelled_through"], lane["next_due_ms"]) == (through, 1000 - 9 // 2)
    task = await start(
        filled,
        A,
        work.CANCEL_BACKLOG,
        channel_id=A.channel_id,
        arguments={"through": through},
    )
    assert sum(await to_the_end(filled, task, rows_max=5)) == 6
    assert await states(filled, A) == {"cancelled": 6, "waiting": 4, "delivered": 1}
    lane = await lane_of(filled, A)
    assert lane["cancelled_through"] is None


async def test_a_deleted_project_closes_its_channels_first(filled: Database) -> None:
    await wait_in_lane(filled, A, 4)
    await filled.run(lambda c: projects.delete(c, A.sight, A.project_id, now_ms=5))
    before = await filled.run(lambda c: organizations.version(c, A.sight))
    task = await start(filled, A, work.DELETE_PROJECT, arguments={"project_id": A.project_id})
    assert await step(filled, task, rows_max=100) == work.Step(2, False)
    rows = await filled.run(
        lambda c: c.execute(
            sa.select(channels.c.deleted_at, channels.c.sealed, lanes_table.c.parked)
            .join(lanes_table, lanes_table.c.channel_id == channels.c.id)
            .order_by(channels.c.id)
        ).all()
    )
    assert [(r[0], bytes(r[1]), r[2]) for r in rows] == [
        (7, b"", "deleted"),
        (None, b"sealed", None),
    ]
    assert await filled.run(lambda c: organizations.version(c, A.sight)) == before + 1
    assert sum(await to_the_end(filled, task, rows_max=3)) == 4
    assert await states(filled, A) == {"cancelled": 4, "delivered": 1}


async def test_a_deleted_organization_leaves_a_tombstone_and_the_job(filled: Database) -> None:
    await wait_in_lane(filled, A, 5)
    await filled.run(lambda c: organizations.delete(c, A.sight, now_ms=5))
    task = await start(filled, A, work.DELETE_ORGANIZATION)
    await step(filled, task, rows_max=10)
    for _ in range(2):
        assert (await step(filled, task, now_ms=50_000, rows_max=10)).waits
    rows = await to_the_end(filled, task, now_ms=70_000, rows_max=10)
    assert max(rows) <= 10
    left = await filled.run(lambda c: counts(c, A.organization_id))
    assert left == {"jobs": 1}
    query = sa.select(organizations_table.c.name, organizations_table.c.slug)
    query = query.where(organizations_table.c.id == A.organization_id)
    assert await filled.run(lambda c: tuple(c.execute(query).one())) == ("", A.organization_id)
    theirs = await filled.run(lambda c: counts(c, B.organization_id))
    assert theirs["deliveries"] == theirs["events"] == theirs["channels"] == 1
    assert await filled.run(lambda c: organizations.resolve(c, slug="a")) is None


def counts(connection: Connection, organization_id: OrganizationId) -> dict[str, int]:
    found = {}
    for table in metadata.sorted_tables:
        if "organization_id" in table.c:
            number = connection.scalar(
                sa.select(sa.func.count())
                .select_from(table)
                .where(table.c.organization_id == organization_id)
            )
            if number:
                found[table.name] = number
    return found


async def test_a_job_is_in_the_sight_of_its_channel_s_project(filled: Database) -> None:
    await filled.run(
        lambda c: jobs.create(
            c,
            A.sight,
            id=id_of("a", 98),
            kind=work.CANCEL_BACKLOG,
            channel_id=A.channel_id,
            internal=False,
            arguments={"through": "f"},
            now_ms=1,
        )
    )
    own = Sight(A.organization_id, A.project_id)
    other = Sight(A.organization_id, ProjectId("0" * 24))
    for sight, seen in ((own, 2), (other, 0)):
        walked = await filled.run(lambda c, s=sight: jobs.walk(c, s, limit=9, below=None))  # type: ignore[misc]
        assert len(walked.items) == seen


async def test_an_unknown_kind_is_an_error(filled: Database) -> None:
    task = await start(filled, A, "dance")
    with pytest.raises(ValueError, match="dance"):
        await step(filled, task, rows_max=5)

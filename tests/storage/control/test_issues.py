"""Issues as people see them, and how quiet ones end, on both databases."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database
from tests.storage.control.test_borders import Sight, World, id_of

from tocsin.domain.errors import NotFound
from tocsin.domain.model import IssueStatus, ProjectId
from tocsin.storage.control import channels, issues
from tocsin.storage.migrations import migrate
from tocsin.storage.watch_tables import issues as table

pytestmark = pytest.mark.anyio

A, B = World("a"), World("b")
ELSEWHERE = ProjectId("9" * 24)


def row(number: int, **values: Any) -> dict[str, Any]:
    given = {"id": id_of("a", 100 + number), "fingerprint": f"http_{number}"}
    return A.issue(**(given | values))


@pytest.fixture
async def filled(database: Database) -> Database:
    def fill(connection: Connection) -> None:
        migrate(connection)
        A.make(connection)
        B.make(connection)
        connection.execute(sa.delete(table))

    await database.run(fill)
    return database


async def put(database: Database, *rows: dict[str, Any]) -> None:
    await database.run(lambda c: [c.execute(sa.insert(table).values(one)) for one in rows])


async def ids(database: Database, sight: Any = A.sight, **asked: Any) -> tuple[list[int], int]:
    given = {"offset": 0, "limit": 50} | asked
    found, total = await database.run(lambda c: issues.page(c, sight, **given))
    return [int(issue.id[-4:], 16) - 100 for issue in found], total


async def test_pages_and_sums(filled: Database) -> None:
    await put(
        filled,
        row(1),
        row(2, status="acknowledged"),
        row(3, status="resolved"),
        row(4, project_id=ELSEWHERE),
        row(5, channel_id="8" * 24),
        row(6, project_id=None, channel_id="7" * 24),  # of a channel of the whole organization
        row(7, organization_id=B.organization_id, channel_id=B.channel_id),
    )
    assert await ids(filled) == ([5, 4, 3, 2, 1], 5)
    assert await ids(filled, limit=2, offset=1) == ([4, 3], 5)
    assert await ids(filled, limit=2, offset=5) == ([], 5)
    assert await ids(filled, status=IssueStatus.ACKNOWLEDGED) == ([2], 1)
    assert await ids(filled, channel_id="8" * 24) == ([5], 1)
    assert await ids(filled, project_id=ELSEWHERE) == ([4], 1)
    bound = Sight(A.organization_id, A.project_id)
    assert await ids(filled, bound) == ([5, 3, 2, 1], 4)
    assert await ids(filled, bound, project_id=ELSEWHERE) == ([], 0)
    for sight, sums in ((A.sight, (3, 1, 1)), (bound, (2, 1, 1))):
        found = await filled.run(lambda c, s=sight: issues.summary(c, s))  # type: ignore[misc]
        assert tuple(found.get(status, 0) for status in IssueStatus) == sums
    found = await filled.run(lambda c: issues.summary(c, A.sight, project_id=ELSEWHERE))
    assert found == {IssueStatus.OPEN: 1}


async def test_one_with_the_name_of_its_channel(filled: Database) -> None:
    more = {"last_delivery_id": "d" * 24, "last_attempt_number": 3, "last_event_id": "e" * 24}
    more |= {"last_error": "timeout: 5 s", "last_status_code": None, "snoozed_until": 9}
    await put(filled, row(1, **more), row(2, project_id=None))
    first, whole = id_of("a", 101), id_of("a", 102)
    found = await filled.run(lambda c: issues.get(c, A.sight, first, lock=True))
    assert (found.channel_name, found.last_attempt_number, found.snoozed_until) == ("hook", 3, 9)
    assert (found.fingerprint, found.status, found.opened_at) == ("http_1", "open", 1)
    await filled.run(lambda c: channels.delete(c, A.sight, A.channel_id, now_ms=5))
    found = await filled.run(lambda c: issues.get(c, A.sight, first))
    assert found.channel_name is None
    assert await filled.run(lambda c: issues.organization_of(c, first)) == A.organization_id
    # Those of a whole organization's channels do not exist here.
    assert await filled.run(lambda c: issues.organization_of(c, whole)) is None
    with pytest.raises(NotFound):
        await filled.run(lambda c: issues.get(c, A.sight, whole))


async def test_a_change(filled: Database) -> None:
    await put(filled, row(1), row(2))

    def change(connection: Connection) -> Any:
        issues.change(
            connection,
            A.sight,
            id_of("a", 101),
            status=IssueStatus.RESOLVED,
            snoozed_until=70,
            resolved_at=60,
            now_ms=61,
        )
        return issues.get(connection, A.sight, id_of("a", 101))

    found = await filled.run(change)
    assert (found.status, found.snoozed_until) == (IssueStatus.RESOLVED, 70)
    assert (found.resolved_at, found.updated_at) == (60, 61)
    assert await ids(filled, status=IssueStatus.OPEN) == ([2], 1)


async def test_what_is_quiet_is_resolved(filled: Database) -> None:
    await put(
        filled,
        row(1, last_seen_at=50),
        row(2, status="acknowledged"),
        row(3, last_seen_at=51),
        row(4, updated_at=51),  # somebody has touched it
        row(5, status="resolved", resolved_at=7),
        row(6, project_id=None),
    )
    some = await filled.run(lambda c: issues.quiet(c, before_ms=50, limit=2))
    assert len(some) == 2
    quiet = await filled.run(lambda c: issues.quiet(c, before_ms=50, limit=9))
    assert sorted(int(id[-4:], 16) - 100 for id in quiet) == [1, 2, 6]
    # One of them recurs before they are resolved.
    recurs = sa.update(table).where(table.c.id == id_of("a", 102)).values(last_seen_at=52)
    await filled.run(lambda c: c.execute(recurs).rowcount)
    args = {"before_ms": 50, "now_ms": 60}
    assert await filled.run(lambda c: issues.resolve(c, quiet, **args)) == 2
    assert await filled.run(lambda c: issues.resolve(c, quiet, **args)) == 0
    found = await filled.run(lambda c: issues.get(c, A.sight, id_of("a", 101)))
    assert (found.status, found.resolved_at, found.updated_at) == ("resolved", 60, 60)
    found = await filled.run(lambda c: issues.get(c, A.sight, id_of("a", 105)))
    assert found.resolved_at == 7
    assert await ids(filled, status=IssueStatus.ACKNOWLEDGED) == ([2], 1)

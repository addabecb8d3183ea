"""A whole store moved from a SQLite file to PostgreSQL: all of it, once, however often it ends."""

import contextlib
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.postgres import server
from tests.storage.stores import (
    born,
    claim,
    make_channel,
    make_organization,
    new_event,
    new_id,
    now_ms,
    one,
    settlement,
)
from tests.storage.test_postgres import opened

from tocsin.clock import Clock
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import Status
from tocsin.storage import StoreInUse
from tocsin.storage.base import Duplicate
from tocsin.storage.control import schema
from tocsin.storage.folder import lock
from tocsin.storage.moving import Moved, Place, move
from tocsin.storage.postgres.receiving import Progress, Target
from tocsin.storage.sheets import MoveRefused, sheets
from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.tables import metadata

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000
ROWS = 25
OWN = {"meta", "nodes", "duties"}


class Killed(Exception):
    """The process ends here."""


@pytest.fixture
def database() -> Iterator[str]:
    name = server().empty()
    yield name
    server().drop(name)


def place(database: str, **options: Any) -> Place:
    return Place(server().dsn(database), f"postgresql://here/{database}", **options)


async def moved(path: Path, database: str, **options: Any) -> Moved:
    return await move(path, place(database), clock=Clock(), began={}, **options)


def sqlite_store(path: Path) -> SqliteStore:
    return SqliteStore(path, wall_ms=now_ms, storage_ms=now_ms)


def some(column: sa.Column[Any], chance: random.Random, ids: IdMaker, at: int) -> Any:
    """Any value that a column may hold."""
    if column.nullable and not column.primary_key and chance.random() < 0.3:
        return None
    match column.type:
        case sa.Boolean():
            return chance.random() < 0.5
        case sa.LargeBinary():
            return chance.randbytes(chance.choice((0, 3, 4_000)))
        case sa.BigInteger():
            return chance.choice((0, 7, 2**53, now_ms()))
        case sa.Integer():
            return at if column.primary_key else chance.choice((0, 200, 2**31 - 1))
    if column.name.endswith("id"):
        # Of today, of a year ago, and of a day long gone.
        return ids.make(now_ms() - chance.choice((0, 366 * DAY_MS, 9_000 * DAY_MS)))
    return f'{at} "ä" \\ \n 中 {chance.random()}'


async def fill(path: Path) -> None:
    """A file in which every table has rows of every kind."""
    chance, makers = random.Random(5), [IdMaker(n) for n in range(1, 4)]
    async with sqlite_store(path) as store:

        def work(connection: sa.Connection) -> None:
            for table in metadata.sorted_tables:
                if table.name in OWN:
                    continue
                for at in range(ROWS):
                    row = {c.name: some(c, chance, makers[at % 3], at) for c in table.columns}
                    connection.execute(sa.insert(table).values(row))

        await store.write(work)
        await store.write(
            lambda c: c.execute(sa.text("INSERT INTO meta VALUES ('noted', 'ä')")).rowcount
        )


async def fill_a_little(path: Path) -> None:
    """A file with two rows in it."""
    async with sqlite_store(path) as store:
        for _ in range(2):
            await make_organization(store, new_id())
        await store.write(
            lambda c: c.execute(sa.text("INSERT INTO meta VALUES ('noted', 'ä')")).rowcount
        )


def in_file(path: Path, table: sa.Table) -> list[tuple[Any, ...]]:
    """The rows of a file as PostgreSQL should have them, told anew for this test."""
    booleans = {c.name for c in table.columns if isinstance(c.type, sa.Boolean)}
    holder = {"lanes": "owner", "deliveries": "node"}.get(table.name)
    names = ", ".join(f'"{c.name}"' for c in table.columns)
    found = []
    with contextlib.closing(sqlite3.connect(path)) as reader:
        reader.row_factory = sqlite3.Row
        for row in reader.execute(f"SELECT {names} FROM {table.name}"):
            values = dict(row)
            for name in booleans:
                values[name] = None if values[name] is None else bool(values[name])
            if holder is not None:
                values[holder] = 0
            found.append(tuple(values.values()))
    return sorted(found, key=repr)


def in_database(database: str, table: sa.Table) -> list[tuple[Any, ...]]:
    names = ", ".join(f'"{c.name}"' for c in table.columns)
    rows = server().command(f"SELECT {names} FROM {table.name}", database)
    return sorted((tuple(row) for row in rows), key=repr)


def check_same(path: Path, database: str) -> None:
    for table in metadata.sorted_tables:
        if table.name not in OWN:
            assert in_database(database, table) == in_file(path, table), table.name
    notes = dict(server().command("SELECT key, value FROM meta", database))
    assert notes["noted"] == "ä"
    assert schema.MOVING not in notes


async def test_every_row_comes_over(tmp_path: Path, database: str) -> None:
    path = tmp_path / "tocsin.db"
    await fill(path)
    seen: list[tuple[str, int, int]] = []
    done = await moved(path, database, told=lambda *how: seen.append(how))
    check_same(path, database)
    assert not done.resumed
    assert {name for name, (rows, _) in done.tables.items() if rows == ROWS} == {
        table.name for table in metadata.sorted_tables if table.name not in OWN
    }
    assert ("copying", done.rows, done.rows) in seen
    assert seen[-1] == ("comparing", done.rows, done.rows)
    # Run once more, it says the same and does nothing.
    again = await moved(path, database)
    assert (again.before, again.tables) == (True, done.tables)
    # No node number is used twice.
    (row,) = server().command("SELECT nextval('node_numbers') AS next", database)
    with contextlib.closing(sqlite3.connect(path)) as reader:
        assert row["next"] > reader.execute("SELECT max(number) FROM nodes").fetchone()[0]


async def test_it_goes_on_wherever_it_ended(tmp_path: Path, database: str) -> None:
    path = tmp_path / "tocsin.db"
    await fill(path)
    chance = random.Random(11)
    for left in (1, 2, 5, 9, 17, 33):
        after = left

        def told(what: str, done: int, total: int) -> None:
            nonlocal after
            after -= 1
            if not after:
                raise Killed

        with pytest.raises(Killed):
            await moved(path, database, told=told, page_rows=chance.choice((7, 20)))
        with pytest.raises(schema.StoreUnfinished, match="migrate-store"):
            async with opened(database):
                pass

    # The last thing that can be missed is the comparison.
    def comparing(what: str, done: int, total: int) -> None:
        if what == "comparing":
            raise Killed

    with pytest.raises(Killed):
        await moved(path, database, told=comparing)
    assert (await moved(path, database)).resumed
    check_same(path, database)


async def test_two_runs_do_not_fill_one_database(tmp_path: Path, database: str) -> None:
    path = tmp_path / "tocsin.db"
    await fill_a_little(path)
    sheet = next(one for one in sheets(0) if one.name == "projects")
    where = place(database)
    async with (
        Target(where.dsn, place=where.shown) as first,
        Target(where.dsn, place=where.shown) as second,
    ):
        for target in (first, second):
            assert isinstance(await target.begin("s", 0), Progress)
        row = ("1" * 24, "2" * 24, "name", "slug", 1, 1, None)
        after = Progress(source="s", ahead_ms=0, table="projects", position=[row[0]])
        await first.page(sheet, [row], after)
        with pytest.raises(MoveRefused, match="Another run"):
            await second.page(sheet, [("3" * 24, *row[1:3], "other", *row[4:])], after)
    assert len(in_database(database, metadata.tables["projects"])) == 1


async def test_it_refuses_what_it_could_spoil(tmp_path: Path, database: str) -> None:
    path, other = tmp_path / "tocsin.db", tmp_path / "other.db"
    await fill_a_little(path)
    await fill_a_little(other)
    held = lock(path)
    with pytest.raises(StoreInUse, match=r"tocsin\.db"):
        await moved(path, database)
    os.close(held)

    def told(what: str, done: int, total: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        await moved(path, database, told=told, page_rows=1)
    with pytest.raises(MoveRefused, match="another file"):
        await moved(other, database)
    async with sqlite_store(path):
        pass  # what was copied may not be what is there any more
    with pytest.raises(MoveRefused, match="was started on it again"):
        await moved(path, database)


async def test_it_refuses_a_database_in_use(tmp_path: Path) -> None:
    path = tmp_path / "tocsin.db"
    await fill_a_little(path)
    database = server().migrated()
    try:
        async with opened(database) as store:
            with pytest.raises(MoveRefused, match="A server runs"):
                await moved(path, database)
            await make_organization(store)
        with pytest.raises(MoveRefused, match="rows in organizations"):
            await moved(path, database)
        # One that is migrated, and in which nothing is, will do.
        server().command("DELETE FROM organizations", database)
        await moved(path, database)
        check_same(path, database)
    finally:
        server().drop(database)


async def test_what_waited_goes_on(tmp_path: Path, database: str) -> None:
    """What a dead server held comes free, keys are known, and waiting times are kept though the
    file's storage clock was an hour ahead."""
    path = tmp_path / "tocsin.db"
    ahead_ms = 3_600_000
    async with sqlite_store(path) as store:
        # An id of its own: that of other tests is of a year far ahead, and so would the clock be.
        mine: dict[str, Any] = {"organization_id": new_id()}
        await make_organization(store, **mine)
        channel = await make_channel(store, **mine)
        done, held = [new_event(channel, idempotency_key=f"k{n}", **mine) for n in range(2)]
        due_ms = now_ms() + ahead_ms + 40_000
        waits = new_event(channel, claim=False, due_ms=due_ms, **mine)
        await store.add([done, held, waits])
        await store.settle([settlement(born(done))])
        number = store.node

        def ahead(connection: sa.Connection) -> int:
            text = "UPDATE nodes SET lease_until_ms = :at"
            return connection.execute(sa.text(text), {"at": now_ms() + ahead_ms}).rowcount

        await store.write(ahead)
    began: dict[str, int] = {held.deliveries[0].id: 1}
    result = await move(path, place(database), clock=Clock(), began=began)
    assert abs(result.ahead_ms - ahead_ms) < 60_000
    async with opened(database) as there:
        assert there.node > number
        found = await claim(there)
        assert [(item.id, item.lost) for item in found] == [(held.deliveries[0].id, 1)]
        lane = await one(there, "SELECT next_due_ms, owner FROM lanes")
        assert abs(lane["next_due_ms"] - waits.due_ms + result.ahead_ms) <= 1
        (answer,) = await there.add([new_event(channel, idempotency_key="k0", **mine)])
        assert isinstance(answer, Duplicate)
        assert answer.event_id == done.event.id
        later = await claim(there, now_ms() + 90_000)
        assert [item.id for item in later] == [waits.deliveries[0].id]
        settled = [settlement(item, Status.DELIVERED) for item in (*found, *later)]
        assert (await there.settle(settled)).superseded == []
        states = await one(there, "SELECT count(*) AS n FROM deliveries WHERE status = 'delivered'")
        assert states["n"] == 3

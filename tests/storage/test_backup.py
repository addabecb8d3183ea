"""A copy made beside the writer: whole, sound, and in nobody's way."""

import asyncio
import itertools
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.storage.stores import make_channel, make_organization, new_event, open_store

from tocsin.domain.errors import Unavailable
from tocsin.domain.model import ChannelId
from tocsin.storage.files import damage
from tocsin.storage.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

BIG = b'"' + b"x" * 20_000 + b'"'


def ids_in(path: Path) -> set[str]:
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return {row[0] for row in connection.execute("SELECT id FROM events")}
    finally:
        connection.close()


async def add(store: SqliteStore, channel: ChannelId, count: int) -> list[str]:
    made = [new_event(channel, claim=False, data=BIG) for _ in range(count)]
    await store.add(made)
    return [one.event.id for one in made]


async def test_a_copy_holds_all_that_was_stored_while_it_was_made(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.touch()
    async with open_store("sqlite", tmp_path) as store:
        assert isinstance(store, SqliteStore)
        await make_organization(store)
        channel = await make_channel(store)
        before = await add(store, channel, 500)
        told: list[tuple[int, int]] = []
        meanwhile: list[str] = []
        copying = asyncio.create_task(store.copy(target, lambda *seen: told.append(seen)))
        async with asyncio.timeout(60):
            while not copying.done():
                meanwhile += await add(store, channel, 3)
        await copying
        # It has not begun again because of them, and it could not have waited for quiet.
        done = [seen[0] for seen in told]
        assert len(done) >= 3
        assert all(a <= b for a, b in itertools.pairwise(done))
        assert done[-1] == told[-1][1] == target.stat().st_size
        await add(store, channel, 1)
    assert damage(target, quick=False) == []
    found = ids_in(target)
    assert found >= set(before)
    # What was committed before its last step is in it; what came after that may not be.
    missing = [one for one in meanwhile if one not in found]
    assert missing == meanwhile[len(meanwhile) - len(missing) :]
    assert len(missing) < len(meanwhile)


async def test_a_copy_that_is_stopped_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.touch()

    def stop(done: int, total: int) -> None:
        raise OSError("enough")

    async with open_store("sqlite", tmp_path) as store:
        assert isinstance(store, SqliteStore)
        await make_organization(store)
        channel = await make_channel(store)
        await add(store, channel, 200)
        with pytest.raises(OSError, match="enough"):
            await store.copy(target, stop)
        begun = asyncio.Event()
        copying = asyncio.create_task(store.copy(target, lambda done, total: begun.set()))
        await begun.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        await add(store, channel, 5)
        await store.copy(target, lambda done, total: None)
    assert damage(target, quick=False) == []
    assert len(ids_in(target)) == 205


def fault(connection: sa.Connection) -> None:
    """As if the disk had not answered: the writer opens the file anew after it."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    raise error


async def test_a_copy_ends_when_the_database_is_opened_anew(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.touch()
    async with open_store("sqlite", tmp_path) as store:
        assert isinstance(store, SqliteStore)
        await make_organization(store)
        channel = await make_channel(store)
        await add(store, channel, 200)
        begun = asyncio.Event()
        copying = asyncio.create_task(store.copy(target, lambda done, total: begun.set()))
        await begun.wait()
        with pytest.raises(Unavailable):
            await store.write(fault)
        with pytest.raises(OSError, match="anew"):
            await copying
        await add(store, channel, 5)


async def test_a_full_disk_ends_the_copy_and_nothing_else(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        assert isinstance(store, SqliteStore)
        await make_organization(store)
        channel = await make_channel(store)
        await add(store, channel, 200)
        # Every write to it fails as on a disk without room.
        with pytest.raises(OSError, match="SQLite can't go on"):
            await store.copy(Path("/dev/full"), lambda done, total: None)
        await add(store, channel, 5)


def test_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_bytes(b"no database at all" * 100)
    assert damage(path, quick=False)
    path.unlink()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("y" * 900,)] * 100)
    connection.close()
    assert damage(path, quick=True) == []
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    assert damage(path, quick=False)

"""kill -9 at any moment of a migration leaves the old schema or the new one, whole."""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.tables import SCHEMA_VERSION, metadata

pytestmark = pytest.mark.long

KILLS = 12
LINE_SECONDS_MAX = 60.0

# The product's own way, in one process after another: imports done, it says so and migrates.
CHILD = """
import asyncio, sys, time
from pathlib import Path
import tocsin.storage.migrations
from tocsin.storage.sqlite import SqliteStore
now_ms = lambda: time.time_ns() // 1_000_000
async def main():
    print("begins", flush=True)
    async with SqliteStore(Path(sys.argv[1]), wall_ms=now_ms, storage_ms=now_ms):
        print("done", flush=True)
asyncio.run(main())
"""


def start(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "begins\n"
    return child


async def open_again(path: Path) -> None:
    """The next start."""
    async with SqliteStore(path, wall_ms=lambda: 1, storage_ms=lambda: 1):
        pass


def tables(path: Path) -> set[str]:
    """What is there after the log of the dead process was read, as the next start does it."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if found:
            query = "SELECT value FROM meta WHERE key = 'schema_version'"
            assert connection.execute(query).fetchall() == [(str(SCHEMA_VERSION),)]
        return found


def test_old_or_new_and_nothing_between(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole.db")
    began = time.monotonic()
    out, _ = whole.communicate(timeout=LINE_SECONDS_MAX)
    took = time.monotonic() - began
    assert out == "done\n"
    new = tables(tmp_path / "whole.db")
    assert new >= set(metadata.tables)
    chance = random.Random(7)
    ends = {"old": 0, "new": 0}
    for number in range(KILLS):
        path = tmp_path / f"{number}.db"
        child = start(path)
        after = chance.uniform(0, took)
        time.sleep(after)
        child.kill()
        child.communicate(timeout=LINE_SECONDS_MAX)
        found = tables(path) if path.exists() else set()
        assert found in (set(), new), found ^ new
        ends["new" if found else "old"] += 1
        if found:
            took = after  # the first may have waited for the disk: later is too late from now on
        asyncio.run(open_again(path))
        assert tables(path) == new
    assert ends["old"], "every kill came too late to show anything"

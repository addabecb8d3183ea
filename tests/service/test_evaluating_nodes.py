"""Two processes evaluate the same rules, and the one that has the duty is stopped now and then for
twice its lease: of each minute that triggers there is one notice."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import server
from tests.service.evaluating_node import DUTY, LEASE_SECONDS, MinuteFile
from tests.service.watching import START, Watch
from tests.storage.stores import now_ms, rows

from tocsin.domain.alerts import MINUTE_MS, notice_id
from tocsin.storage.postgres import PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.long]

TRIGGERS = 50
STOPS = 6
TOLD_SECONDS_MAX = 60.0


class Nodes:
    """The two processes by their node numbers."""

    def __init__(self, dsn: str, minute: Path) -> None:
        here = [sys.executable, "-m", "tests.service.evaluating_node", dsn, str(minute)]
        self.processes = [
            subprocess.Popen(here, stdout=subprocess.PIPE, text=True) for _ in range(2)
        ]
        self.pids: dict[int, int] = {}

    def wait(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            self.pids[int(process.stdout.readline())] = process.pid


@contextlib.contextmanager
def two_nodes(dsn: str, minute: Path) -> Iterator[Nodes]:
    nodes = Nodes(dsn, minute)
    try:
        yield nodes
    finally:
        for process in nodes.processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


async def stop(nodes: Nodes, store: PostgresStore, chance: random.Random) -> bool:
    """Stop whoever has the duty, somewhere in what it does, for twice its lease."""
    await asyncio.sleep(chance.uniform(0, 0.08))
    found = await rows(store, f"SELECT node FROM duties WHERE name = '{DUTY}'")
    if not found or found[0]["node"] not in nodes.pids:
        return False
    pid = nodes.pids[found[0]["node"]]
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(2 * LEASE_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)
    return True


async def told_of(watch: Watch, minute: int) -> None:
    """Wait until somebody has triggered at a minute."""
    until = time.monotonic() + TOLD_SECONDS_MAX
    query = f"SELECT 1 FROM alert_history WHERE id LIKE '{minute * MINUTE_MS:012x}%'"
    while not await rows(watch.store, query):
        assert time.monotonic() < until, f"nobody has told of {minute}"
        await asyncio.sleep(0.02)


async def test_one_notice_of_each_trigger(patience: None, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stopped = set(chance.sample(range(1, TRIGGERS), STOPS))
    minute = MinuteFile(tmp_path / "minute")
    minute.write(START)
    name = server().migrated()
    dsn = server().dsn(name)
    async with PostgresStore(dsn, wall_ms=now_ms, storage_ms=now_ms) as store:
        watch = await Watch(store).set_up()
        rule = await watch.rule(
            "dlq", {"threshold": 0, "window_minutes": 1}, cooldown_minutes=0, evaluated_minute=START
        )
        stops = 0
        with two_nodes(dsn, tmp_path / "minute") as nodes:
            await asyncio.to_thread(nodes.wait)
            for number in range(1, TRIGGERS + 1):
                await watch.sent(START + number - 1, 1, exhausted=1)
                minute.write(START + number)
                if number in stopped:
                    stops += await stop(nodes, store, chance)
                await told_of(watch, START + number)
            assert all(process.poll() is None for process in nodes.processes)
        assert stops >= STOPS // 2
        found = await rows(store, "SELECT id FROM outbox ORDER BY id")
        wanted = [
            notice_id(rule.id, START + number, "alert.triggered")
            for number in range(1, TRIGGERS + 1)
        ]
        assert [row["id"] for row in found] == wanted
        assert len(await rows(store, "SELECT id FROM alert_history")) == TRIGGERS
        assert (await watch.now(rule)).trigger_count == TRIGGERS
    server().drop(name)

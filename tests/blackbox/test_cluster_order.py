"""An ordered channel fed through two nodes whose clocks differ: one order, that of the 202s."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.blackbox.cluster import CHAOS_SECONDS, Cluster, InOrder, ready
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import SERVE, until
from tests.blackbox.test_order import Target
from tests.postgres import server

pytestmark = pytest.mark.long

PATH = "/in-order"
COUNT = 6_000 if CHAOS_SECONDS else 240
KILLS = 3
APART = "+10s"
FAKETIME = shutil.which("faketime")


def clock_ahead() -> dict[str, str]:
    """What a process's environment needs for a wall clock that is ahead; its others are right."""
    assert FAKETIME is not None
    shown = (FAKETIME, "-f", APART, "printenv", "LD_PRELOAD")
    library = subprocess.run(shown, check=True, capture_output=True, text=True, timeout=60)
    return {
        "LD_PRELOAD": library.stdout.strip(),
        "FAKETIME": APART,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def test_two_nodes_with_other_clocks_keep_one_order(tmp_path: Path, receiver: Receiver) -> None:
    if FAKETIME is None:
        assert not os.environ.get("CI"), "faketime is not installed"
        pytest.skip("LIBFAKETIME IS NOT INSTALLED: the clocks of all nodes agree")
    postgres = server()
    name = postgres.migrated()
    settings: tuple[dict[str, str], ...] = ({}, clock_ahead())
    with Cluster(tmp_path, postgres.dsn(name), commands=(SERVE,) * 2, settings=settings) as cluster:
        # It is told as the answer comes: later, where the machine is slow.
        said = cluster.nodes[1].said()
        assert re.search(r"\b1\d\.\d s ahead of that of the database", said), said
        tenant = cluster.nodes[0].tenant("in-order")
        target = Target(60, 1)
        retry = {"schedule": ["1s"] * 5}
        tenant.channel(receiver.url(PATH, target), ordered=True, breaker=None, retry=retry)
        publisher = InOrder(cluster, tenant, COUNT)
        publisher.start()
        try:
            for number in range(1, KILLS + 1):
                wanted = COUNT * number // (KILLS + 1)
                until(lambda wanted=wanted: len(target.successes) >= wanted, "sent", 300)  # type: ignore[misc]
                node = cluster.nodes[number % 2]
                node.kill()
                node.start()
            until(lambda: len(set(target.successes)) == COUNT, "all of them", 300)
        finally:
            publisher.end()
        assert len(publisher.accepted) == COUNT
        assert list(dict.fromkeys(target.successes)) == list(range(COUNT))
        # Whatever came twice was in flight at a kill.
        assert len(target.successes) - COUNT <= KILLS
        assert all(ready(node) for node in cluster.nodes)
        cluster.stop()
    postgres.drop(name)

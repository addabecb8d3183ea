"""An ordered channel fed through two nodes whose clocks differ: one order, that of the 202s."""

import http.client
import os
import shutil
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tests.blackbox.cluster import CHAOS_SECONDS, DONE_SECONDS_MAX, Cluster, ready
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import SERVE, Tenant, until
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


class Publisher(threading.Thread):
    """Publishes one event after the other, each when the one before has its 202, here and there."""

    def __init__(self, tenants: list[Tenant], count: int) -> None:
        super().__init__(name="publisher")
        self._tenants = tenants
        self._count = count
        self._ends = threading.Event()
        self.accepted = 0

    def run(self) -> None:
        for number in range(self._count):
            at = number
            while not self._published(number, self._tenants[at % len(self._tenants)]):
                at += 1
                if self._ends.wait(0.02):
                    return
            self.accepted = number + 1

    def end(self) -> None:
        """Give up what is not published yet."""
        self._ends.set()
        self.join(DONE_SECONDS_MAX)

    def _published(self, number: int, tenant: Tenant) -> bool:
        body = {"type": "a.b", "data": {"number": number}, "idempotency_key": str(number)}
        # Before it was killed it may have accepted the event: the key tells, at the other, too.
        with suppress(OSError, http.client.HTTPException):
            reply = tenant.call("POST", "/events", body)
            assert reply.status in (202, 503), reply
            return reply.status == 202
        return False


def test_two_nodes_with_other_clocks_keep_one_order(tmp_path: Path, receiver: Receiver) -> None:
    if FAKETIME is None:
        assert not os.environ.get("CI"), "faketime is not installed"
        pytest.skip("LIBFAKETIME IS NOT INSTALLED: the clocks of all nodes agree")
    postgres = server()
    name = postgres.migrated()
    settings: tuple[dict[str, str], ...] = ({}, clock_ahead())
    with Cluster(tmp_path, postgres.dsn(name), commands=(SERVE,) * 2, settings=settings) as cluster:
        assert "10.0 s ahead of that of the database" in cluster.nodes[1].said()
        tenant = cluster.nodes[0].tenant("in-order")
        target = Target(60, 1)
        retry = {"schedule": ["1s"] * 5}
        tenant.channel(receiver.url(PATH, target), ordered=True, breaker=None, retry=retry)
        publisher = Publisher([tenant.at(node) for node in cluster.nodes], COUNT)
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
        assert publisher.accepted == COUNT
        assert list(dict.fromkeys(target.successes)) == list(range(COUNT))
        # Whatever came twice was in flight at a kill.
        assert len(target.successes) - COUNT <= KILLS
        assert all(ready(node) for node in cluster.nodes)
        cluster.stop()
    postgres.drop(name)

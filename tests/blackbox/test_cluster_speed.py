"""Two nodes that send deliver more than one: measured in pairs, with the cores that it takes."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.database import BenchServer
from bench.processes import cost, machine_busy_seconds
from msgspec import Struct
from tests.blackbox.cluster import CHAOS_SECONDS, Cluster
from tests.blackbox.counting_target import CountingTarget
from tests.blackbox.server import SERVE, Tenant

pytestmark = [pytest.mark.long, pytest.mark.alone]

CHANNELS = 200
IN_FLIGHT_MAX = 100
REPLY_SECONDS = 0.05
"""So that a node sends at most 2,000 a second."""
PAIRS = 3
BATCH = 500
WARM_SECONDS = 2.0
SECONDS = 5.0
TIMES_MIN = 1.5
OTHERS_MAX = 0.5
"""Cores that all else may keep busy, the accepting node and this process among it: with more the
nodes that are measured share what is left of the machine, and two find no more of it than one."""


class Speed(Struct, frozen=True):
    """What so many engine nodes delivered, and how many cores were busy with it meanwhile."""

    engines: int
    per_second: float
    nodes: float
    database: float
    target: float
    others: float

    def __str__(self) -> str:
        return (
            f"{self.engines} sending: {self.per_second:.0f}/s; cores: {self.nodes:.2f} nodes, "
            f"{self.database:.2f} database, {self.target:.2f} target, {self.others:.2f} all else"
        )


class Scene:
    """A database that syncs each commit, and events that wait there for 200 channels.

    They are stored before anything is measured, by a node that only accepts.
    """

    def __init__(
        self, database: BenchServer, dsn: str, tenant: Tenant, target: CountingTarget
    ) -> None:
        self._database = database
        self._dsn = dsn
        self._tenant = tenant
        self._target = target
        self._stored = 0
        url = f"http://127.0.0.1:{target.port}/"
        for number in range(CHANNELS):
            tenant.channel(url, event_types=[f"load.c{number}"])
        self._types = itertools.cycle(f"load.c{number}" for number in range(CHANNELS))

    @property
    def left(self) -> int:
        """How many have not come to the target yet."""
        return self._stored - self._target.count()

    def speed(self, folder: Path, engines: int) -> Speed:
        """How much so many nodes that only send deliver of it."""
        at_most_per_second = engines * IN_FLIGHT_MAX / REPLY_SECONDS
        while self.left < 2 * at_most_per_second * (WARM_SECONDS + SECONDS):
            events = [{"type": next(self._types), "data": None} for _ in range(BATCH)]
            self._tenant.publish_batch(events)
            self._stored += BATCH
        settings = {"TOCSIN_ROLE": "engine", "TOCSIN_IN_FLIGHT_MAX": str(IN_FLIGHT_MAX)}
        commands, given = (SERVE,) * engines, (settings,) * engines
        with Cluster(folder, self._dsn, commands=commands, settings=given) as cluster:
            time.sleep(WARM_SECONDS)
            began, had, before = time.monotonic(), self._target.count(), self._used(cluster)
            time.sleep(SECONDS)
            seconds, came = time.monotonic() - began, self._target.count() - had
            used = [b - a for a, b in zip(before, self._used(cluster), strict=True)]
            assert self.left > BATCH, "nothing was left to send"
            cluster.stop()
        busy, nodes, database, target = (one / seconds for one in used)
        others = busy - nodes - database - target
        return Speed(engines, came / seconds, nodes, database, target, others)

    def _used(self, cluster: Cluster) -> tuple[float, ...]:
        """CPU seconds so far: of the machine, the nodes, the database and the target."""
        nodes = sum(cost(node.pid).cpu_seconds for node in cluster.nodes)
        target = cost(self._target.pid).cpu_seconds
        return machine_busy_seconds(), nodes, self._database.cpu_seconds(), target


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """One scene for all that is measured."""
    database = BenchServer(Path(tempfile.gettempdir()))
    try:
        dsn = database.dsn(database.migrated())
        accepting = ({"TOCSIN_ROLE": "api"},)
        with (
            CountingTarget(REPLY_SECONDS) as target,
            Cluster(folder / "api", dsn, commands=(SERVE,), settings=accepting) as cluster,
        ):
            yield Scene(database, dsn, cluster.nodes[0].tenant("engines"), target)
    finally:
        database.close()


@pytest.mark.skipif(not CHAOS_SECONDS, reason="`make chaos` compares one engine node with two")
def test_two_engine_nodes_deliver_more_than_one(tmp_path: Path) -> None:
    times, others = [], []
    with scene(tmp_path) as measured:
        for pair in range(PAIRS):
            one, two = (measured.speed(tmp_path / f"{pair}-{n}", n) for n in (1, 2))
            times.append(two.per_second / one.per_second)
            others += [one.others, two.others]
            print(f"\n{one}\n{two}: {times[-1]:.2f} times", end=" ", flush=True)
    busy = statistics.median(others)
    if statistics.median(times) < TIMES_MIN and busy > OTHERS_MAX:
        pytest.skip(f"THE MACHINE IS NOT FREE: {busy:.1f} cores busy with all else, times {times}")
    assert statistics.median(times) >= TIMES_MIN, times

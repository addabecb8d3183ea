"""The runs: what each does, and what it measured."""

import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench.database import BenchServer
from bench.disk import DiskProbe
from bench.history import History
from bench.processes import MIB, Child, cost, machine_busy_seconds, yardstick_ms
from bench.service import Service, SinkControl

CONNECTIONS = 64
BATCH = 50
CHANNELS = 100
FANOUT_CONNECTIONS = 4
FANOUT_EVENTS_PER_SECOND = 100
MS = 1_000


class Usage(Struct, frozen=True):
    """What one process used during a run; of a database server no memory is told."""

    process: str
    cpu_seconds: float
    rss_peak_mib: float | None


class Watch:
    """What the processes of a run use from now on."""

    def __init__(
        self,
        sink: SinkControl,
        server_pid: int | None = None,
        database: BenchServer | None = None,
    ) -> None:
        self._pids = {"sink": sink.pid}
        self._database = database
        self._database_seconds = 0.0 if database is None else database.cpu_seconds()
        if server_pid is not None:
            self._pids["tocsin"] = server_pid
        self.yardstick_ms = yardstick_ms()
        self._before = {name: cost(pid) for name, pid in self._pids.items()}
        self._own = cost().cpu_seconds
        self._machine = machine_busy_seconds()
        self._began = time.monotonic()

    def usage(self, driver: str, said: Any) -> tuple[list[Usage], float]:
        """What each process used, and how many cores all others did; `said` is the driver's."""
        found = []
        for name, pid in self._pids.items():
            before, after = self._before[name], cost(pid)
            used = round(after.cpu_seconds - before.cpu_seconds, 2)
            found.append(Usage(name, used, after.rss_peak_mib))
        if self._database is not None:
            used = round(self._database.cpu_seconds() - self._database_seconds, 2)
            found.append(Usage("postgres", used, None))
        found.append(Usage(driver, round(said["cpu_seconds"], 2), said["rss_mib"]))
        ours = sum(one.cpu_seconds for one in found) + cost().cpu_seconds - self._own
        machine = machine_busy_seconds() - self._machine
        others = (machine - ours) / (time.monotonic() - self._began)
        return found, round(max(0.0, others), 2)


class Run(Struct, frozen=True):
    """One throughput run: `received` deliveries between the first publish and the last receipt."""

    name: str
    received: int
    expected: int
    seconds: float
    per_second: float
    refused: dict[str, int]
    usage: list[Usage]
    others: float
    """Cores that other processes kept busy meanwhile: the more, the less the run says."""
    yardstick_ms: float
    """How slow the machine was: see `yardstick_ms`."""
    start_seconds: float | None = None
    database_mib: float | None = None
    statements: int | None = None
    """What the database server was sent meanwhile, BEGIN and COMMIT included."""

    @property
    def lost(self) -> int:
        return self.expected - self.received

    @property
    def statements_per_1000(self) -> float | None:
        """Statements for a thousand deliveries; None without a database server."""
        if self.statements is None:
            return None
        return round(self.statements / max(self.received, 1) * 1_000, 1)

    def used(self, process: str) -> Usage | None:
        """What that process used, if it took part."""
        return next((one for one in self.usage if one.process == process), None)


class Latency(Struct, frozen=True):
    """One run at a steady rate, in milliseconds.

    Accepted is when the publisher has read the 202; a delivery that came before that counts 0.
    Due is when the publish should have been sent, so that no waiting is left out.
    """

    rate: int
    events: int
    missing: int
    accepted_p50: float
    accepted_p99: float
    due_p50: float
    due_p99: float
    answer_p50: float
    answer_p99: float
    fdatasync_p50: float
    fdatasync_p99: float
    usage: list[Usage]
    others: float


def run_a(sink: SinkControl, seconds: float) -> Run:
    """A bare loop of POSTs: 64 workers, 512 bytes, nothing stored."""
    sink.reset()
    watch = Watch(sink)
    with Child("bench.baseline", {"url": sink.url, "seconds": seconds}) as child:
        said = child.line()
    stats = sink.wait(said["events"])
    return _run(
        "a",
        said,
        stats,
        said["events"],
        *watch.usage("poster", said),
        yardstick_ms=watch.yardstick_ms,
    )


def run_publish(
    name: str,
    folder: Path,
    sink: SinkControl,
    seconds: float,
    *,
    batch: int,
    channels: int = 1,
    database: BenchServer | None = None,
    history: History | None = None,
) -> Run:
    """Publish as fast as it is answered, until all of it is delivered."""
    with Service(folder, sink, channels=channels, database=database, history=history) as service:
        job = service.job(batch=batch, connections=CONNECTIONS, seconds=seconds)
        return _measure(name, service, sink, job, deliveries_per_event=1)


def run_fanout(
    folder: Path, sink: SinkControl, seconds: float, database: BenchServer | None = None
) -> Run:
    """One event to a hundred channels, a number of events that should take about so long."""
    with Service(folder, sink, channels=CHANNELS, fanout=True, database=database) as service:
        job = service.job(
            batch=0,
            connections=FANOUT_CONNECTIONS,
            seconds=10 * seconds,
            bodies_max=int(seconds * FANOUT_EVENTS_PER_SECOND),
        )
        return _measure("fanout", service, sink, job, deliveries_per_event=CHANNELS)


def run_latency(
    folder: Path,
    sink: SinkControl,
    seconds: float,
    rate: int,
    database: BenchServer | None = None,
) -> Latency:
    """Publish at a steady rate and see when each event arrives."""
    with Service(folder, sink, timed=True, database=database) as service:
        watch = Watch(sink, service.server.pid, database)
        job = service.job(batch=0, connections=CONNECTIONS, seconds=seconds, rate=rate)
        with DiskProbe(folder) as disk, Child("bench.publisher", job) as child:
            said = child.line()
            sink.wait(said["events"])
        usage, others = watch.usage("publisher", said)
    return latency(rate, said, sink.times(), disk, usage, others)


def latency(
    rate: int,
    said: Any,
    times: dict[str, float],
    disk: DiskProbe,
    usage: list[Usage],
    others: float,
) -> Latency:
    """What a run at a steady rate came to: what its publisher said, and when the sink had it."""
    moments = [m for m in said["moments"] if m[0] in times]
    accepted = [max(0.0, times[id] - at) for id, _, at in moments]
    due = [times[id] - planned for id, planned, _ in moments]
    answer = [at - planned for _, planned, at in said["moments"]]
    return Latency(
        rate=rate,
        events=len(said["moments"]),
        missing=len(said["moments"]) - len(moments) + sum(said["refused"].values()),
        accepted_p50=percentile_ms(accepted, 50),
        accepted_p99=percentile_ms(accepted, 99),
        due_p50=percentile_ms(due, 50),
        due_p99=percentile_ms(due, 99),
        answer_p50=percentile_ms(answer, 50),
        answer_p99=percentile_ms(answer, 99),
        fdatasync_p50=percentile_ms(disk.seconds, 50),
        fdatasync_p99=percentile_ms(disk.seconds, 99),
        usage=usage,
        others=others,
    )


def percentile_ms(seconds: list[float], percent: int) -> float:
    """That percentile, in milliseconds to the hundredth."""
    if not seconds:
        return 0.0
    ordered = sorted(seconds)
    return round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * MS, 2)


def _measure(
    name: str,
    service: Service,
    sink: SinkControl,
    job: dict[str, Any],
    *,
    deliveries_per_event: int,
) -> Run:
    database = service.database
    before = 0 if database is None else database.statements(service.name)
    watch = Watch(sink, service.server.pid, database)
    with Child("bench.publisher", job) as child:
        said = child.line()
        expected = said["events"] * deliveries_per_event
        stats = sink.wait(expected)
    usage, others = watch.usage("publisher", said)
    sent = None if database is None else database.statements(service.name) - before
    return _run(
        name,
        said,
        stats,
        expected,
        usage,
        others,
        yardstick_ms=watch.yardstick_ms,
        statements=sent,
        start_seconds=round(service.start_seconds, 2),
        database_mib=round(service.database_bytes / MIB, 1),
    )


def _run(
    name: str,
    said: Any,
    stats: Any,
    expected: int,
    usage: list[Usage],
    others: float,
    **more: Any,
) -> Run:
    seconds = max(stats["last"] - said["first"], 1e-9)
    return Run(
        name=name,
        received=stats["count"],
        expected=expected,
        seconds=round(seconds, 2),
        per_second=round(stats["count"] / seconds, 1),
        refused=said.get("refused", {}),
        usage=usage,
        others=others,
        **more,
    )

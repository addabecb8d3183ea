"""What healthy channels notice of targets that hang and names that are never answered for.

In pairs, one after the other: 200 healthy channels of ten organizations at a steady rate, without
and with an eleventh organization whose deliveries go nowhere. The bar is each pair's own run
without: the machine may be another one a minute later.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from tests.blackbox.server import SERVE, Server, Tenant, node_settings

from bench.database import BenchServer
from bench.disk import DiskProbe
from bench.hangers import NAME_SERVER, SILENT, WELL
from bench.processes import Child
from bench.runs import CONNECTIONS, Latency, Watch, latency
from bench.service import SinkControl, limits

ORGANIZATIONS = 10
CHANNELS_EACH = 20
RATE = 500
WAITING = 10_000
WAITING_BATCH = 500
WELL_BEFORE = 100
"""So many events each target takes before it hangs."""
WELL_SECONDS_MAX = 60.0
SETTLERS = 8
TIMEOUT_SECONDS = 30
SECONDS = 35.0
"""Longer than a target hangs, so that the moment when they all give up is in it."""
OVERHEAD_SECONDS = 60.0
"""Of a run at the most: making channels, and what comes late."""
TIMES_MAX = 1.3
MORE_MS_MAX = 5.0
CALM_MS_MAX = 50.0

# The service has a file of its own for the settings of its resolver.
_ASKING = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --bind "$0" /etc/resolv.conf && exec "$@"',
)


class Scene(Struct, frozen=True):
    """What stands in the way."""

    name: str
    title: str
    channels: int
    silent: bool = False


SCENES = (
    Scene("one", "one channel that hangs", 1),
    Scene("fifty", "50 channels of one organization that hang", 50),
    Scene("names", "50 channels of one organization whose names are never answered for", 50, True),
)


class Pair(Struct, frozen=True):
    """One scene's run without and with; `stuck` is what hung in the end, or was not answered."""

    scene: str
    without: Latency
    with_it: Latency
    stuck: int

    @property
    def most_ms(self) -> float:
        """What the p99 may be."""
        p99 = self.without.due_p99
        return round(max(TIMES_MAX * p99, p99 + MORE_MS_MAX), 2)

    @property
    def over_ms(self) -> float:
        """By how much it is more than that."""
        return round(self.with_it.due_p99 - self.most_ms, 2)


class Verdict(Struct, frozen=True):
    """The median pair of a scene; not met either when a healthy delivery did not arrive."""

    scene: str
    over_ms: float
    missing: int
    met: bool


class Fairness(Struct, frozen=True):
    """All pairs, and what was left out."""

    rate: int
    seconds_per_run: float
    pairs: list[Pair]
    verdicts: list[Verdict]
    left_out: list[str]


class Hangers:
    """The targets and the name server of `bench.hangers`."""

    def __init__(self) -> None:
        self._child = Child("bench.hangers", {})

    def __enter__(self) -> "Hangers":
        self._child.__enter__()
        said = self._child.line()
        self.port: int = said["port"]
        self.names: bool = said["names"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.__exit__(kind, error, trace)

    def ask(self, line: str) -> dict[str, int]:
        """Tell it `well`, `hang` or `stats`; returns what has come in so far."""
        self._child.tell(line)
        found: dict[str, int] = self._child.line()
        return found


class Neighbourhood:
    """A service with all healthy channels, every one of them warm."""

    def __init__(
        self,
        folder: Path,
        sink: SinkControl,
        *,
        named: bool,
        channels_each: int,
        database: BenchServer | None = None,
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        self._sink = sink
        self._named = named
        self._channels_each = channels_each
        self._database = database
        self._name = ""
        command: tuple[str, ...] = SERVE
        if named:
            file = self._folder / "resolv.conf"
            file.write_text(f"nameserver {NAME_SERVER}\n")
            command = (*_ASKING, str(file), *SERVE)
        self.server = Server(self._folder / "data", limits(), command=command)
        if database is not None:
            self._name = database.migrated()
            self.server.settings |= node_settings(database.dsn(self._name))
        self._tenants: list[Tenant] = []
        self.warm = ORGANIZATIONS * channels_each
        """So many deliveries have come before the first that counts."""

    def __enter__(self) -> "Neighbourhood":
        try:
            self.server.start()
            for number in range(ORGANIZATIONS):
                self._tenants.append(self._settle(f"well-{number}"))
            self._sink.reset(timed=True)
            for tenant in self._tenants:
                tenant.publish_batch([{"type": type, "data": ""} for type in self._types()])
            stats = self._sink.wait(self.warm)
            assert stats["count"] == self.warm, stats
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.close()
        if self._database is not None:
            self._database.drop(self._name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _types(self) -> Iterable[str]:
        return (f"well.{number:03}" for number in range(self._channels_each))

    def _settle(self, slug: str) -> Tenant:
        tenant = self.server.tenant(slug)
        for type in self._types():
            host = f"{type.replace('.', '-')}.{slug}.{WELL}" if self._named else "127.0.0.1"
            tenant.channel(f"http://{host}:{self._sink.port}/sink", event_types=[type])
        return tenant

    def burden(self, hangers: Hangers, scene: Scene, waiting: int) -> None:
        """Let one more organization move in, with so much that waits for its targets.

        A target that hangs was well before: it is sent to from many places at once by then.
        """
        tenant = self.server.tenant("burden")

        def settle(number: int) -> None:
            host = f"n{number}.{SILENT}" if scene.silent else "127.0.0.1"
            tenant.channel(
                f"http://{host}:{hangers.port}/",
                event_types=["bad.event"],
                breaker=None,
                timeout_seconds=TIMEOUT_SECONDS,
            )

        # At once, because each waits for its name to be resolved.
        with ThreadPoolExecutor(SETTLERS) as threads:
            list(threads.map(settle, range(scene.channels)))
        if not scene.silent:
            wanted = hangers.ask("well")["answered"] + WELL_BEFORE * scene.channels
            self._publish(tenant, WELL_BEFORE)
            deadline = time.monotonic() + WELL_SECONDS_MAX
            while hangers.ask("stats")["answered"] < wanted:
                assert time.monotonic() < deadline, "the targets are not well before they hang"
                time.sleep(0.05)
        hangers.ask("hang")
        self._publish(tenant, max(1, waiting // scene.channels))

    def _publish(self, tenant: Tenant, count: int) -> None:
        for first in range(0, count, WAITING_BATCH):
            size = min(count - first, WAITING_BATCH)
            tenant.publish_batch([{"type": "bad.event", "data": ""}] * size)

    def job(self, *, seconds: float, rate: int) -> dict[str, Any]:
        """Healthy events at a steady rate, channel after channel, from one organization to the
        next."""
        return {
            "port": self.server.port,
            "senders": [[f"{tenant.root}/events", tenant.key] for tenant in self._tenants],
            "bodies": [
                json.dumps({"type": type, "data": "x"})
                for type in self._types()
                for _ in self._tenants
            ],
            "events_per_body": 1,
            "connections": CONNECTIONS,
            "seconds": seconds,
            "rate": rate,
        }


class Asked(Struct, frozen=True, kw_only=True):
    """How it is to be measured."""

    folder: Path
    seconds: float = SECONDS
    rounds: int = 3
    only: tuple[str, ...] = ()
    rate: int = RATE
    waiting: int = WAITING
    channels_each: int = CHANNELS_EACH
    database: BenchServer | None = None


def measure(asked: Asked) -> Fairness:
    """All pairs, round after round; scenes that this machine can't have are left out."""
    left_out: list[str] = []
    with SinkControl() as sink, Hangers() as hangers:
        scenes = [scene for scene in SCENES if not asked.only or scene.name in asked.only]
        if not hangers.names:
            left_out = [scene.name for scene in scenes if scene.silent]
            scenes = [scene for scene in scenes if not scene.silent]
        pairs = [
            _pair(asked, sink, hangers, scene, number + 1)
            for number in range(asked.rounds)
            for scene in scenes
        ]
    verdicts = [_verdict(scene.name, pairs) for scene in scenes]
    return Fairness(asked.rate, asked.seconds, pairs, verdicts, left_out)


def _pair(asked: Asked, sink: SinkControl, hangers: Hangers, scene: Scene, number: int) -> Pair:
    _tell(f"{scene.name} ({number}), without ...")
    with _neighbourhood(asked, sink, scene) as place:
        without = _run(asked, place, sink)
    _tell(f"  p99 {without.due_p99} ms\n{scene.name} ({number}), with ...")
    with _neighbourhood(asked, sink, scene) as place:
        before = hangers.ask("stats")
        place.burden(hangers, scene, asked.waiting)
        with_it = _run(asked, place, sink)
        after = hangers.ask("stats")
    _tell(f"  p99 {with_it.due_p99} ms")
    unanswered = after["unanswered"] - before["unanswered"]
    return Pair(scene.name, without, with_it, unanswered if scene.silent else after["hanging"])


def _neighbourhood(asked: Asked, sink: SinkControl, scene: Scene) -> Neighbourhood:
    return Neighbourhood(
        asked.folder,
        sink,
        named=scene.silent,
        channels_each=asked.channels_each,
        database=asked.database,
    )


def _run(asked: Asked, place: Neighbourhood, sink: SinkControl) -> Latency:
    watch = Watch(sink, place.server.pid, asked.database)
    job = place.job(seconds=asked.seconds, rate=asked.rate)
    with DiskProbe(asked.folder) as disk, Child("bench.publisher", job) as child:
        said = child.line()
        # What goes nowhere never comes: the healthy ones are all there is to wait for.
        sink.wait(place.warm + said["events"])
    return latency(asked.rate, said, sink.times(), disk, *watch.usage("publisher", said))


def _verdict(name: str, pairs: list[Pair]) -> Verdict:
    mine = [pair for pair in pairs if pair.scene == name]
    over = statistics.median_high(pair.over_ms for pair in mine)
    missing = sum(pair.without.missing + pair.with_it.missing for pair in mine)
    return Verdict(name, over, missing, over <= 0 and not missing)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def show(found: Fairness) -> None:
    """Tables for people."""
    console = Console(width=150)
    table = Table(title=f"Healthy channels at {found.rate}/s, due to received, in ms")
    for column in ("scene", "p50", "p50 with", "p99", "p99 with", "may be", "missing", "stuck"):
        table.add_column(column, justify="left" if column == "scene" else "right")
    table.add_column("CPU s", justify="right")
    table.add_column("CPU s with", justify="right")
    table.add_column("others", justify="right")
    for pair in found.pairs:
        one, two = pair.without, pair.with_it
        table.add_row(
            pair.scene,
            *(f"{value:.2f}" for value in (one.due_p50, two.due_p50, one.due_p99, two.due_p99)),
            f"{pair.most_ms:.2f}",
            str(one.missing + two.missing),
            str(pair.stuck),
            f"{_cpu(one):.1f}",
            f"{_cpu(two):.1f}",
            f"{one.others:.2f} {two.others:.2f}",
        )
    console.print(table)
    titles = {scene.name: scene.title for scene in SCENES}
    for verdict in found.verdicts:
        mark = "[green]met[/]" if verdict.met else "[red]MISSED[/]"
        console.print(
            f"{titles[verdict.scene]}: {mark}, the median pair is {verdict.over_ms:+.2f} ms from "
            f"max({TIMES_MAX} x p99, p99 + {MORE_MS_MAX:g} ms) without it"
        )
    if any(pair.without.due_p99 > CALM_MS_MAX for pair in found.pairs):
        console.print(
            f"[yellow]NOISY:[/] a p99 over {CALM_MS_MAX:g} ms without anything in the way is the "
            "machine's; repeat it on a quiet one"
        )
    for name in found.left_out:
        console.print(f"[red]LEFT OUT:[/] {titles[name]}: no name server can listen here")


def _cpu(run: Latency) -> float:
    return sum(used.cpu_seconds for used in run.usage if used.process == "tocsin")


def save(found: Fairness, path: Path) -> None:
    """JSON for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")

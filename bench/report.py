"""What was measured: for people, for machines, and against what Tocsin wants to reach."""

import os
import platform
import statistics
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.runs import Latency, Run

SINK_SHARE_MAX = 0.8
C_TO_A_MIN = 1.5
B_TO_A_MIN = 0.6
RSS_MIB_MAX = 150.0
# With PostgreSQL, the load and the sink on the same two cores.
POSTGRES_C_TO_A_MIN = 0.8
POSTGRES_B_TO_A_MIN = 0.45
STATEMENTS_PER_1000_MAX = 60.0
LATENCY_RATE = 500
LATENCY_BASE_MS = 10.0
START_SECONDS_MAX = 1.5

TITLES = {
    "a": "aiohttp loop, stores nothing",
    "b": "publish, one event a request",
    "c": "publish, batches of 50",
    "c100": "batches of 50 over 100 channels",
    "fanout": "one event to 100 channels",
}


class Bar(Struct, frozen=True):
    """One figure and what it should be."""

    name: str
    value: float
    wanted: str
    met: bool
    rounds: list[float] = []
    """The same ratio within each round."""


class Report(Struct):
    """One benchmark."""

    machine: dict[str, Any]
    seconds_per_run: float
    runs: list[Run]
    latencies: list[Latency]
    medians: dict[str, float]
    bars: list[Bar]
    void: list[str]


def report(runs: list[Run], latencies: list[Latency], seconds: float) -> Report:
    """Medians, bars, and why the benchmark is void if it is."""
    rates: dict[str, list[float]] = {}
    for run in runs:
        rates.setdefault(run.name, []).append(run.per_second)
    medians = {name: round(statistics.median(found), 1) for name, found in rates.items()}
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg(),
    }
    bars = _bars(runs, latencies, medians)
    return Report(machine, seconds, runs, latencies, medians, bars, _void(runs))


def _bars(runs: list[Run], latencies: list[Latency], medians: dict[str, float]) -> list[Bar]:
    bars = []
    postgres = any(run.statements is not None for run in runs)
    least = {"c": C_TO_A_MIN, "c100": C_TO_A_MIN, "b": B_TO_A_MIN}
    if postgres:
        least = {"c": POSTGRES_C_TO_A_MIN, "b": POSTGRES_B_TO_A_MIN}
    if base := medians.get("a"):
        for name, ratio_min in least.items():
            if name in medians:
                ratio = round(medians[name] / base, 2)
                met = ratio >= ratio_min
                within = _within_rounds(runs, name)
                bars.append(Bar(f"{name}/a", ratio, f">= {ratio_min}", met, within))
    counted = [one for run in runs if run.name == "c" and (one := run.statements_per_1000)]
    if counted:
        most = STATEMENTS_PER_1000_MAX
        found = statistics.median(counted)
        name = "c: statements per 1,000 deliveries"
        bars.append(Bar(name, found, f"<= {most:g}", found <= most, counted))
    for latency in latencies:
        if latency.rate == LATENCY_RATE:
            most = round(LATENCY_BASE_MS + 2 * latency.fdatasync_p99, 1)
            p99 = latency.accepted_p99
            name = f"p99 ms at {latency.rate}/s"
            bars.append(Bar(name, p99, f"<= {most}", p99 <= most and not latency.missing))
    usages = [one for run in runs for one in run.usage if one.process == "tocsin"]
    usages += [one for run in latencies for one in run.usage if one.process == "tocsin"]
    if usages:
        rss = max(one.rss_peak_mib or 0.0 for one in usages)
        bars.append(Bar("RSS MiB, highest", rss, f"<= {RSS_MIB_MAX:g}", rss <= RSS_MIB_MAX))
    return bars


def _within_rounds(runs: list[Run], name: str) -> list[float]:
    bases = [run.per_second for run in runs if run.name == "a"]
    others = [run.per_second for run in runs if run.name == name]
    return [round(other / base, 2) for base, other in zip(bases, others, strict=True)]


def _void(runs: list[Run]) -> list[str]:
    void = []
    for run in runs:
        sink = run.used("sink")
        if run.name == "a" and sink and sink.cpu_seconds > SINK_SHARE_MAX * run.seconds:
            void.append(
                f"the sink was busy for {sink.cpu_seconds:.1f} s of {run.seconds:.1f} s in a"
            )
        if run.lost:
            void.append(f"{run.name}: {run.lost} of {run.expected} did not arrive")
    return void


def show(found: Report) -> None:
    """Tables for people."""
    console = Console(width=150)
    table = Table(title="Deliveries per second, first publish to last receipt")
    for column in (
        "run",
        "what",
        "received",
        "s",
        "per s",
        "median",
        "others",
        "yardstick ms",
        "refused",
    ):
        table.add_column(column, justify="left" if column in ("run", "what") else "right")
    for run in found.runs:
        table.add_row(
            run.name,
            TITLES[run.name],
            f"{run.received:,}",
            f"{run.seconds:.1f}",
            f"{run.per_second:,.0f}",
            f"{found.medians[run.name]:,.0f}",
            f"{run.others:.2f}",
            f"{run.yardstick_ms:.1f}",
            ", ".join(f"{why} x {count}" for why, count in run.refused.items()),
        )
    console.print(table)
    console.print(
        "others: cores that other processes kept busy, 0.0x on a quiet machine. yardstick: a fixed "
        "piece of Python just before; where it differs, so did the machine.\n"
    )
    _show_cost(console, found)
    if found.latencies:
        _show_latencies(console, found.latencies)
    verdict = Table(title="Bars")
    for column in ("what", "is", "should be", "", "within each round"):
        verdict.add_column(column)
    for bar in found.bars:
        mark = "[green]met[/]" if bar.met else "[red]MISSED[/]"
        verdict.add_row(
            bar.name, f"{bar.value:g}", bar.wanted, mark, "  ".join(map(str, bar.rounds))
        )
    console.print(verdict)
    for reason in found.void:
        console.print(f"[red]VOID:[/] {reason}")


def _show_cost(console: Console, found: Report) -> None:
    table = Table(title="What it cost")
    columns = ("run", "process", "CPU s", "of a core", "µs per delivery", "RSS MiB", "database MiB")
    for column in (*columns, "start s", "statements per 1,000"):
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for run in found.runs:
        for number, one in enumerate(run.usage):
            first = number == 0
            table.add_row(
                run.name if first else "",
                one.process,
                f"{one.cpu_seconds:.1f}",
                f"{one.cpu_seconds / run.seconds:.0%}",
                f"{one.cpu_seconds / max(run.received, 1) * 1e6:.1f}",
                "" if one.rss_peak_mib is None else f"{one.rss_peak_mib:.0f}",
                f"{run.database_mib:.0f}" if first and run.database_mib is not None else "",
                f"{run.start_seconds:.2f}" if first and run.start_seconds is not None else "",
                f"{run.statements_per_1000:.1f}" if first and run.statements_per_1000 else "",
            )
    console.print(table)


def _show_latencies(console: Console, latencies: list[Latency]) -> None:
    table = Table(title="Milliseconds at a steady rate")
    pairs = ("accepted→received", "due→received", "due→accepted", "fdatasync")
    columns = [f"{pair}\n{percent}" for pair in pairs for percent in ("p50", "p99")]
    for column in ("rate/s", "events", "missing", *columns, "others"):
        table.add_column(column, justify="right")
    for one in latencies:
        values = (
            one.accepted_p50,
            one.accepted_p99,
            one.due_p50,
            one.due_p99,
            one.answer_p50,
            one.answer_p99,
            one.fdatasync_p50,
            one.fdatasync_p99,
            one.others,
        )
        counts = (f"{one.rate:,}", f"{one.events:,}", str(one.missing))
        table.add_row(*counts, *(f"{value:.2f}" for value in values))
    console.print(table)


def save(found: Report, path: Path) -> None:
    """JSON for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")

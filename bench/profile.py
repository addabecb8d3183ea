"""Where the time goes: run c with the sampling profiler in the service."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.database import BenchServer
from bench.processes import Child
from bench.runs import CONNECTIONS
from bench.service import Service, SinkControl

ROWS = 25
COMMAND = (sys.executable, "-m", "bench.profiled", "serve")


def profile(
    folder: Path,
    *,
    seconds: float,
    batch: int,
    rows: int = ROWS,
    database: BenchServer | None = None,
) -> None:
    """Publish for so long, then print what each thread, and the database, spent its time on."""
    found = folder / "profile.json"
    os.environ["BENCH_PROFILE"] = str(found)
    os.environ["PYTHONPATH"] = str(Path.cwd())
    statements: list[tuple[int, float, int, str]] = []
    with (
        SinkControl() as sink,
        Service(folder, sink, command=COMMAND, database=database) as service,
    ):
        job = service.job(batch=batch, connections=CONNECTIONS, seconds=seconds)
        os.kill(service.server.pid, signal.SIGUSR1)
        with Child("bench.publisher", job) as child:
            said = child.line()
            stats = sink.wait(said["events"])
        service.server.stop()
        if database is not None:
            statements = database.slowest(service.name, rows)
        elapsed = stats["last"] - said["first"]
    console = Console(width=110)
    what = f"batches of {batch}" if batch > 1 else "one event a request"
    console.print(
        f"{what}: {stats['count']:,} delivered in {elapsed:.1f} s, "
        f"{stats['count'] / elapsed:,.0f}/s (with the profiler in the way)"
    )
    for name, thread in json.loads(found.read_text()).items():
        if thread["cpu_seconds"] > elapsed / 100:
            _show(console, name, thread, stats["count"], rows)
    if statements:
        _show_statements(console, statements, stats["count"])


def _show_statements(
    console: Console, statements: list[tuple[int, float, int, str]], delivered: int
) -> None:
    table = Table(title="statements, by their time in the database")
    for column in ("calls", "rows", "ms each", "µs a delivery"):
        table.add_column(column, justify="right")
    table.add_column("statement")
    for calls, milliseconds, count, text in statements:
        table.add_row(
            f"{calls:,}",
            f"{count:,}",
            f"{milliseconds / calls:.2f}",
            f"{milliseconds / max(delivered, 1) * 1e3:.2f}",
            " ".join(text.split())[:70],
        )
    console.print(table)


def _show(console: Console, name: str, thread: Any, delivered: int, rows: int) -> None:
    total = thread["cpu_seconds"]
    per = total / max(delivered, 1) * 1e6
    console.rule(f"thread {name}: {total:.1f} s CPU, {per:.1f} µs a delivery")
    modules: dict[str, float] = {}
    for module, _, spent in thread["own"]:
        modules[module] = modules.get(module, 0) + spent
    ordered = sorted(modules.items(), key=lambda item: -item[1])
    table = Table(title="by module, itself")
    table.add_column("module")
    table.add_column("share", justify="right")
    for module, spent in ordered[: rows // 2]:
        table.add_row(module, f"{spent / total:.1%}")
    console.print(table)
    for key, title in (("own", "by function, itself"), ("within", "by function, all it calls")):
        table = Table(title=title)
        for column in ("function", "module"):
            table.add_column(column)
        table.add_column("share", justify="right")
        table.add_column("µs a delivery", justify="right")
        for module, function, spent in thread[key][:rows]:
            table.add_row(
                function, module, f"{spent / total:.1%}", f"{spent / max(delivered, 1) * 1e6:.2f}"
            )
        console.print(table)

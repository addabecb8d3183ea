"""Whether a database that has been in use for long is slower: the same runs on both, in turn."""

import statistics
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.history import CHANNELS, History
from bench.report import TITLES
from bench.runs import BATCH, Run, run_publish
from bench.service import SinkControl

RATIO_MIN = 0.85


class Pair(Struct, frozen=True):
    """The same run on an empty database and on a filled one, one directly after the other."""

    name: str
    empty: Run
    filled: Run

    @property
    def ratio(self) -> float:
        return round(self.filled.per_second / self.empty.per_second, 3)


class Filled(Struct):
    """Every pair, and the median ratio of each kind of run."""

    rows: int
    seconds_per_run: float
    pairs: list[Pair]
    ratios: dict[str, float]


def compare(folder: Path, *, rows: int, seconds: float, rounds: int, names: set[str]) -> Filled:
    """Fill one database, then run on it and on an empty one in turn, the order changing."""
    pairs = []
    with SinkControl() as sink:
        print(f"writing {rows:,} delivered events ...", file=sys.stderr, flush=True)
        old = History(folder, sink, rows)
        for number in range(rounds):
            for name in sorted(names & {"b", "c", "c100"}):
                runs = {}
                for filled in (False, True) if number % 2 == 0 else (True, False):
                    history = old if filled else History(folder, sink, 0)
                    runs[filled] = run_publish(
                        name,
                        folder,
                        sink,
                        seconds,
                        batch=0 if name == "b" else BATCH,
                        channels=CHANNELS if name == "c100" else 1,
                        history=history,
                    )
                pairs.append(Pair(name, runs[False], runs[True]))
                print(f"{name} ({number + 1}): {pairs[-1].ratio:.2f}", file=sys.stderr, flush=True)
    ratios = {
        name: round(statistics.median(pair.ratio for pair in pairs if pair.name == name), 3)
        for name in sorted({pair.name for pair in pairs})
    }
    return Filled(rows, seconds, pairs, ratios)


def show(found: Filled) -> None:
    """A table for people."""
    table = Table(title=f"An empty database, and one with {found.rows:,} delivered events")
    for column in ("run", "what", "empty per s", "filled per s", "ratio"):
        table.add_column(column, justify="left" if column in ("run", "what") else "right")
    for column in ("µs per delivery", "filled", "start s", "filled", "database MiB"):
        table.add_column(column, justify="right")
    for pair in found.pairs:
        table.add_row(
            pair.name,
            TITLES[pair.name],
            f"{pair.empty.per_second:,.0f}",
            f"{pair.filled.per_second:,.0f}",
            f"{pair.ratio:.2f}",
            _cost(pair.empty),
            _cost(pair.filled),
            f"{pair.empty.start_seconds or 0:.2f}",
            f"{pair.filled.start_seconds or 0:.2f}",
            f"{pair.filled.database_mib or 0:,.0f}",
        )
    console = Console(width=150)
    console.print(table)
    for name, ratio in found.ratios.items():
        mark = "[green]met[/]" if ratio >= RATIO_MIN else "[red]MISSED[/]"
        console.print(
            f"{name}: median {ratio:.2f} of an empty one, should be >= {RATIO_MIN} {mark}"
        )


def _cost(run: Run) -> str:
    used = run.used("tocsin")
    return "" if used is None else f"{used.cpu_seconds / max(run.received, 1) * 1e6:.1f}"


def save(found: Any, path: Path) -> None:
    """JSON for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")

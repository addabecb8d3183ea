"""`python -m bench`: measure, or show where the time goes."""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from bench import picture
from bench.database import BenchServer
from bench.profile import profile
from bench.report import Report, report, save, show
from bench.runs import (
    BATCH,
    CHANNELS,
    Latency,
    Run,
    run_a,
    run_fanout,
    run_latency,
    run_publish,
)
from bench.service import SinkControl

SECONDS = 20.0
QUICK_SECONDS = 4.0
ROUNDS = 3
RATES = (500, 1_000)
RUNS = ("a", "b", "c", "c100", "fanout", "latency")
EACH_ROUND = ("a", "b", "c", "c100")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("run", "profile"), default="run")
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seconds", type=float, help=f"of each run (default {SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s, one round")
    parser.add_argument("--rounds", type=int, help=f"how often a, b, c (default {ROUNDS})")
    parser.add_argument("--only", default=",".join(RUNS), help="comma-separated: %(default)s")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--svg", type=Path, default=Path("build/bench.svg"))
    parser.add_argument(
        "--dir", type=Path, default=Path("build"), help="on the disk to measure (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=BATCH, help="profile: events a request")
    parser.add_argument("--rows", type=int, default=25, help="profile: rows of a table")
    asked = parser.parse_args()
    asked.seconds = asked.seconds or (QUICK_SECONDS if asked.quick else SECONDS)
    asked.rounds = asked.rounds or (1 if asked.quick else ROUNDS)
    asked.only = set(asked.only.split(","))
    return asked


def watch(seconds: float) -> None:
    """End the whole benchmark, children and all, if it takes much too long."""

    def expired(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"the benchmark took over {seconds:.0f} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(int(seconds))


def measure(asked: argparse.Namespace, folder: Path, database: BenchServer | None) -> Report:
    """All runs that were asked for."""
    runs: list[Run] = []
    latencies: list[Latency] = []
    seconds: float = asked.seconds
    with SinkControl() as sink:
        plan = [(name, n) for n in range(asked.rounds) for name in EACH_ROUND if name in asked.only]
        plan += [("fanout", 0)] * ("fanout" in asked.only)
        for name, number in plan:
            print(f"{name} ({number + 1}) ...", file=sys.stderr, flush=True)
            runs.append(throughput(name, folder, sink, seconds, database))
            print(f"  {runs[-1].per_second:,.0f}/s", file=sys.stderr, flush=True)
        for rate in RATES if "latency" in asked.only else ():
            print(f"latency at {rate}/s ...", file=sys.stderr, flush=True)
            latencies.append(run_latency(folder, sink, seconds, rate, database))
    return report(runs, latencies, seconds)


def throughput(
    name: str, folder: Path, sink: SinkControl, seconds: float, database: BenchServer | None
) -> Run:
    """One throughput run by its name."""
    match name:
        case "a":
            return run_a(sink, seconds)
        case "b":
            return run_publish(name, folder, sink, seconds, batch=0, database=database)
        case "c":
            return run_publish(name, folder, sink, seconds, batch=BATCH, database=database)
        case "c100":
            return run_publish(
                name, folder, sink, seconds, batch=BATCH, channels=CHANNELS, database=database
            )
        case "fanout":
            return run_fanout(folder, sink, seconds, database)
    raise ValueError(name)


def main() -> int:
    """Returns 1 when the benchmark is void; a bar that is missed is shown, and no failure."""
    asked = arguments()
    asked.dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        name = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="bench-", dir=asked.dir.resolve())
        )
        database = None
        if asked.store == "postgres":
            database = BenchServer(asked.dir)
            stack.callback(database.close)
        if asked.what == "profile":
            watch(10 * asked.seconds + 60)
            profile(
                Path(name),
                seconds=asked.seconds,
                batch=asked.batch,
                rows=asked.rows,
                database=database,
            )
            return 0
        watch(4 * asked.seconds * (asked.rounds * len(EACH_ROUND) + 4) + 120)
        found = measure(asked, Path(name), database)
    show(found)
    save(found, asked.json)
    picture.save(found, asked.svg)
    print(f"\n{asked.json} and {asked.svg} hold it all.")
    return 1 if found.void else 0


if __name__ == "__main__":
    sys.exit(main())

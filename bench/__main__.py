"""`python -m bench`: measure, or show where the time goes."""

import argparse
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from bench import fairness, filled, memory, picture
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
FILLED_ROWS = 5_000_000
FILLED_SECONDS_MAX = 1_800.0
MEMORY_SECONDS_MAX = 3_600.0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    whats = ("run", "profile", "filled", "memory", "fairness")
    parser.add_argument(
        "what",
        nargs="?",
        choices=whats,
        default="run",
        help="run: rates and latencies; profile: where the time goes; filled: on a database that "
        "has been in use; memory: with much that waits; fairness: beside targets that hang and "
        "names that are never answered for",
    )
    parser.add_argument("--store", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"of each run (default {SECONDS:g}, fairness {fairness.SECONDS:g})",
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s, one round")
    parser.add_argument("--rounds", type=int, help=f"how often a, b, c (default {ROUNDS})")
    scenes = ",".join(scene.name for scene in fairness.SCENES)
    parser.add_argument(
        "--only", help=f"comma-separated: {','.join(RUNS)} (default), fairness: {scenes} (default)"
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--svg", type=Path, default=Path("build/bench.svg"))
    parser.add_argument(
        "--dir", type=Path, default=Path("build"), help="on the disk to measure (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=BATCH, help="profile: events a request")
    parser.add_argument("--top", type=int, default=25, help="profile: rows of a table")
    parser.add_argument(
        "--rows", type=int, default=FILLED_ROWS, help="filled: delivered events beforehand"
    )
    asked = parser.parse_args()
    fair = asked.what == "fairness"
    seconds = fairness.SECONDS if fair else SECONDS
    asked.seconds = asked.seconds or (QUICK_SECONDS if asked.quick else seconds)
    asked.only = asked.only or (scenes if fair else ",".join(RUNS))
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


def aside(asked: argparse.Namespace, folder: Path, database: BenchServer | None) -> int:
    """The measurements that take long and are asked for by themselves; 1 where a bar is missed."""
    path = asked.json.with_name(f"{asked.json.stem}-{asked.what}.json")
    if asked.what == "fairness":
        return fairly(asked, folder, database, path)
    if asked.what == "memory":
        watch(MEMORY_SECONDS_MAX)
        cases = memory.measure(folder)
        memory.show(cases)
        filled.save(cases, path)
        return 0 if all(case.met for case in cases) else 1
    watch(10 * asked.seconds * asked.rounds * len(asked.only) + FILLED_SECONDS_MAX)
    found = filled.compare(
        folder, rows=asked.rows, seconds=asked.seconds, rounds=asked.rounds, names=asked.only
    )
    filled.show(found)
    filled.save(found, path)
    return 0 if all(ratio >= filled.RATIO_MIN for ratio in found.ratios.values()) else 1


def fairly(
    asked: argparse.Namespace, folder: Path, database: BenchServer | None, path: Path
) -> int:
    """What healthy channels notice of others; see `fairness`."""
    watch(4 * (asked.seconds + fairness.OVERHEAD_SECONDS) * asked.rounds * len(asked.only) + 120)
    judged = fairness.measure(
        fairness.Asked(
            folder=folder,
            seconds=asked.seconds,
            rounds=asked.rounds,
            only=tuple(asked.only),
            database=database,
        )
    )
    fairness.show(judged)
    fairness.save(judged, path)
    print(f"\n{path} holds it all.")
    return 0 if all(verdict.met for verdict in judged.verdicts) else 1


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
                rows=asked.top,
                database=database,
            )
            return 0
        if asked.what in ("filled", "memory", "fairness"):
            return aside(asked, Path(name), database)
        watch(4 * asked.seconds * (asked.rounds * len(EACH_ROUND) + 4) + 120)
        found = measure(asked, Path(name), database)
    show(found)
    save(found, asked.json)
    picture.save(found, asked.svg)
    print(f"\n{asked.json} and {asked.svg} hold it all.")
    return 1 if found.void else 0


if __name__ == "__main__":
    sys.exit(main())

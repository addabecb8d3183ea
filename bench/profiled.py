"""`tocsin` with a sampling profiler in it: `python -m bench.profiled serve`.

Sampling begins with the signal SIGUSR1. Every sample gives each thread's CPU time since the one
before to the stack it is in, so that waiting counts nothing. It is taken in a signal handler: a
thread of its own would get its turn only where the others let go of the interpreter, and would
see nothing but those places. Written as JSON to the file that BENCH_PROFILE names, at the end.
"""

import json
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType

INTERVAL_SECONDS = 0.002

Place = tuple[str, str]
"""A module's file and a function's name."""


class Sampler:
    """Watches all threads, from the main one."""

    def __init__(self) -> None:
        self._cpu: dict[int, float] = {}
        self._names: dict[CodeType, Place] = {}
        self.own: dict[str, defaultdict[Place, float]] = {}
        self.within: dict[str, defaultdict[Place, float]] = {}
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)

    def prepare(self) -> None:
        """Begin with the next SIGUSR1."""
        signal.signal(signal.SIGALRM, self._sample)
        signal.signal(signal.SIGUSR1, self._begin)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _begin(self, _: int, __: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_SECONDS, INTERVAL_SECONDS)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        main = threading.main_thread()
        for thread in threading.enumerate():
            ident = thread.ident
            if ident is not None:
                found = frame if thread is main else sys._current_frames().get(ident)
                if found is not None:
                    self._take(ident, thread.name, found)
        # What the sampling itself took is nobody's.
        self._cpu[main.ident or 0] = time.thread_time()

    def _take(self, ident: int, name: str, frame: FrameType) -> None:
        try:
            now = time.clock_gettime(time.pthread_getcpuclockid(ident))
        except OSError:
            return  # it has just ended
        spent = now - self._cpu.get(ident, now)
        self._cpu[ident] = now
        if not spent:
            return
        self.cpu_seconds[name] += spent
        self.own.setdefault(name, defaultdict(float))[self._place(frame)] += spent
        seen = set()
        place: FrameType | None = frame
        while place is not None:
            seen.add(self._place(place))
            place = place.f_back
        within = self.within.setdefault(name, defaultdict(float))
        for one in seen:
            within[one] += spent

    def _place(self, frame: FrameType) -> Place:
        code = frame.f_code
        found = self._names.get(code)
        if found is None:
            found = self._names[code] = (_module(code.co_filename), code.co_qualname)
        return found

    def save(self, path: Path) -> None:
        """What was seen: for each thread its CPU seconds, by function alone and with callees."""
        threads = {
            name: {
                "cpu_seconds": seconds,
                "own": _most(self.own[name]),
                "within": _most(self.within[name]),
            }
            for name, seconds in sorted(self.cpu_seconds.items(), key=lambda item: -item[1])
        }
        path.write_text(json.dumps(threads))


def _most(spent: dict[Place, float]) -> list[tuple[str, str, float]]:
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return [(module, function, seconds) for (module, function), seconds in ordered]


def _module(file: str) -> str:
    for mark in ("/site-packages/", "/src/", "/lib/python3"):
        if mark in file:
            file = file.rpartition(mark)[2]
            break
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def main() -> None:
    """Run Tocsin's command line while sampling."""
    from tocsin.cli import main as run

    sampler = Sampler()
    sampler.prepare()
    try:
        run()
    finally:
        sampler.stop()
        sampler.save(Path(os.environ["BENCH_PROFILE"]))


if __name__ == "__main__":
    main()

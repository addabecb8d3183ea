"""`tocsin` with a sampling profiler beside it: `python -m bench.profiled serve`.

Every sample gives each thread's CPU time since the one before to the stack it is in, so that
waiting counts nothing. Written as JSON to the file that BENCH_PROFILE names, at the end.
"""

import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import CodeType, FrameType

INTERVAL_SECONDS = 0.002
SWITCH_SECONDS = 0.0005

Place = tuple[str, str]
"""A module's file and a function's name."""


class Sampler:
    """Watches all threads but its own."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._cpu: dict[int, float] = {}
        self._names: dict[CodeType, Place] = {}
        self.own: dict[str, defaultdict[Place, float]] = {}
        self.within: dict[str, defaultdict[Place, float]] = {}
        self.cpu_seconds: defaultdict[str, float] = defaultdict(float)

    def start(self) -> None:
        # Else a busy thread is only ever seen where it lets go of the interpreter by itself.
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        me = threading.get_ident()
        while not self._stop.wait(INTERVAL_SECONDS):
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                if ident != me and ident in names:
                    self._take(ident, names[ident], frame)

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
    sampler.start()
    try:
        run()
    finally:
        sampler.stop()
        sampler.save(Path(os.environ["BENCH_PROFILE"]))


if __name__ == "__main__":
    main()

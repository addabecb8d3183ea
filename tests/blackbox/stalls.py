"""How long the machine stands still beside a test: what a bound on seconds has to allow for."""

import math
import os
import threading
import time
from pathlib import Path

PAUSE_SECONDS = 0.1


class Stalls:
    """Writes to a small file and waits for the disk, again and again, in a thread of its own.

    A context manager. Disks that many share stand still for seconds, and processes wait their turn;
    neither is the fault of the service under test, which writes beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "stalls"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls")
        self._due = 0.0
        self._longest = 0.0

    def __enter__(self) -> "Stalls":
        self._due = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._due = math.inf

    @property
    def longest(self) -> float:
        """The seconds of the longest one so far, with one that has not ended."""
        return max(self._longest, time.monotonic() - self._due)

    def _run(self) -> None:
        with self._file.open("wb") as file:
            while not self._ends.is_set():
                file.seek(0)
                file.write(bytes(4096))
                file.flush()
                os.fsync(file.fileno())
                self._longest = self.longest
                self._due = time.monotonic() + PAUSE_SECONDS
                self._ends.wait(PAUSE_SECONDS)

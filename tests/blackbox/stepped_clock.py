"""`tocsin serve` on a machine whose wall clock is put forward and back: off by what a file says.

What measures durations is left alone, as the kernel does. It is the seconds in the file that the
variable names, read again ten times a second.
"""

import os
import time
from pathlib import Path

VARIABLE = "STEPPED_CLOCK"
READ_SECONDS = 0.1

_real_ns = time.time_ns


class _Stepped:
    """The wall clock of this process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = -READ_SECONDS
        self._off_ns = 0

    def time_ns(self) -> int:
        now = time.monotonic()
        if now - self._read_at >= READ_SECONDS:
            self._read_at = now
            self._off_ns = int(self._file.read_text()) * 1_000_000_000
        return _real_ns() + self._off_ns

    def time(self) -> float:
        return self.time_ns() / 1e9


if __name__ == "__main__":
    stepped = _Stepped(Path(os.environ[VARIABLE]))
    # Before anything else is imported: nobody has taken hold of the real one yet.
    time.time_ns, time.time = stepped.time_ns, stepped.time

    from tocsin.cli import main

    main()

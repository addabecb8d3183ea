"""How much of the disk publishing leaves: what was accepted must be sent and recorded, too."""

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

EMPTY_LOG_SECONDS = 1.0


class Reserve:
    """Says when publishing must stop; used in the writer's thread only.

    What stands in the write-ahead log is written once more, to the file itself, before the log is
    used again: so much must be free beside the reserve. The log keeps its size when it has been
    used up, so before it is believed it is emptied, now and then.
    """

    def __init__(self, path: Path, bytes_min: int) -> None:
        self._folder = path.parent
        self._log = f"{path}-wal"
        self._bytes_min = bytes_min
        self._emptied = -EMPTY_LOG_SECONDS

    def reached(self, connection: Callable[[], sqlite3.Connection]) -> bool:
        """Whether what is free is no more than the reserve."""
        if not self._bytes_min or not self._short():
            return False
        now = time.monotonic()
        if now - self._emptied >= EMPTY_LOG_SECONDS:
            self._emptied = now
            try:
                connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error:
                return True
            return self._short()
        return True

    def _short(self) -> bool:
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return False  # the transaction meets the same fault and reports it
        try:
            log_bytes = os.stat(self._log).st_size
        except OSError:
            log_bytes = 0
        return disk.f_bavail * disk.f_frsize - log_bytes < self._bytes_min

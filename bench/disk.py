"""How long the disk takes to make one small write durable, measured beside a run."""

import os
import threading
import time
from pathlib import Path
from types import TracebackType

PAUSE_SECONDS = 0.025
WRITE_BYTES = 4_096
FILE_BYTES_MAX = 16 << 20


class DiskProbe:
    """Writes and fdatasyncs on the filesystem of the run, forty times a second, while entered."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "fdatasync"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fdatasync")
        self.seconds: list[float] = []

    def __enter__(self) -> "DiskProbe":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        file = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            written = 0
            while not self._stop.wait(PAUSE_SECONDS):
                os.pwrite(file, b"x" * WRITE_BYTES, written)
                began = time.monotonic()
                os.fdatasync(file)
                self.seconds.append(time.monotonic() - began)
                written = (written + WRITE_BYTES) % FILE_BYTES_MAX
        finally:
            os.close(file)

"""The service under test, fresh for every run, and the channels of the run."""

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tests.blackbox.server import SERVE, Server, node_settings

from bench.database import BenchServer
from bench.processes import Child

if TYPE_CHECKING:
    from bench.history import History

BODY_BYTES = 512
"""Of a delivery, the same as of a POST of run a."""

STILL_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02


def limits() -> dict[str, str | int]:
    """The settings without which a benchmark would meet a limit on calls."""
    return {"requests_per_minute": 0, "stranger_requests_per_minute": 0}


class SinkControl:
    """The one sink of all runs."""

    def __init__(self) -> None:
        self._child = Child("bench.sink", {})

    def __enter__(self) -> "SinkControl":
        self._child.__enter__()
        self.port = int(self._child.line()["port"])
        self.pid = self._child.process.pid
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/sink"

    def reset(self, *, timed: bool = False, silent: bool = False) -> None:
        """Forget what came; `timed` notes the moment of each from the next connection on, `silent`
        answers none."""
        self._ask("reset timed" if timed else "reset silent" if silent else "reset")

    def stats(self) -> Any:
        return self._ask("stats")

    def times(self) -> dict[str, float]:
        """When each event came."""
        found: dict[str, float] = self._ask("times")
        return found

    def wait(self, count: int) -> Any:
        """Wait until so many have come, or nothing comes any more; returns the stats."""
        seen, changed = -1, time.monotonic()
        while True:
            stats = self.stats()
            now = time.monotonic()
            if stats["count"] != seen:
                seen, changed = stats["count"], now
            if seen >= count or now - changed > STILL_SECONDS_MAX:
                return stats
            time.sleep(POLL_SECONDS)

    def _ask(self, line: str) -> Any:
        self._child.tell(line)
        return self._child.line()


class Service:
    """A running service with `channels` channels at the sink; each event type has one of them.

    With `fanout` all channels take every event. `database` is the server on which it gets a new
    database; without one it works on a SQLite file: a new one, or that of a `history`, which stays.
    """

    def __init__(
        self,
        folder: Path,
        sink: SinkControl,
        *,
        channels: int = 1,
        fanout: bool = False,
        timed: bool = False,
        command: Sequence[str] = SERVE,
        settings: dict[str, str | int] | None = None,
        database: BenchServer | None = None,
        history: "History | None" = None,
    ) -> None:
        self._sink = sink
        self._history = history
        self.database = database
        self.name = ""
        self._fanout = fanout
        self._timed = timed
        self._folder = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
        self.types = ["bench.000"] if fanout else [f"bench.{n:03}" for n in range(channels)]
        self._patterns = ["bench.000"] * channels if fanout else self.types
        self._data_dir = self._folder / "data" if history is None else history.data_dir
        self.server = Server(self._data_dir, limits() | (settings or {}), command=command)
        if database is not None:
            self.name = database.migrated()
            self.server.settings |= node_settings(database.dsn(self.name))

    def __enter__(self) -> "Service":
        try:
            began = time.monotonic()
            self.server.start()
            self.start_seconds = time.monotonic() - began
            if self._history is not None:
                self.tenant = self._history.tenant.at(self.server)
            else:
                self.tenant = self.server.tenant("bench")
                for pattern in self._patterns:
                    self.tenant.channel(self._sink.url, event_types=[pattern])
            self._fit()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._history is not None:
            self.server.stop()
        self.server.close()
        if self.database is not None:
            self.database.drop(self.name)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def database_bytes(self) -> int:
        """What the run has written, the WAL included."""
        if self.database is not None:
            return self.database.database_bytes(self.name)
        return sum(file.stat().st_size for file in self._data_dir.iterdir())

    def _fit(self) -> None:
        """Warm up with one event a channel, and learn how much data makes a body of 512 bytes."""
        self._sink.reset(timed=True)
        for type in self.types:
            self.tenant.publish(type, "")
        stats = self._sink.wait(len(self._patterns))
        assert stats["count"] == len(self._patterns), stats
        self._padding = BODY_BYTES - stats["body_bytes"] // stats["count"]
        self._sink.reset(timed=self._timed)

    def event(self, number: int) -> dict[str, str]:
        """An event whose delivery has a body of 512 bytes."""
        return {"type": self.types[number % len(self.types)], "data": "x" * self._padding}

    def job(self, *, batch: int, connections: int, **more: Any) -> dict[str, Any]:
        """A job for the publisher; `batch` 0 is one event per request."""
        bodies = max(1, len(self.types) // batch) if batch else len(self.types)
        size = batch or 1
        events = [[self.event(b * size + n) for n in range(size)] for b in range(bodies)]
        texts = [json.dumps({"events": group} if batch else group[0]) for group in events]
        return {
            "port": self.server.port,
            "path": f"{self.tenant.root}/events{'/batch' if batch else ''}",
            "key": self.tenant.key,
            "bodies": texts,
            "events_per_body": size,
            "connections": connections,
            **more,
        }

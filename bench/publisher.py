"""Publishes as fast as it is answered, or at a steady rate: requests rendered before, raw sockets.

The job: port, path, key, bodies (JSON texts, taken in turn), events_per_body, connections, and
either seconds (and perhaps bodies_max) or rate and seconds. Instead of path and key it may have
senders, pairs of both, that take the bodies in turn.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter, deque
from typing import Any, cast

import uvloop

from bench.processes import cost

HEAD = (
    "POST {path} HTTP/1.1\r\nhost: tocsin\r\nauthorization: Bearer {key}\r\n"
    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
)
ACCEPTED = b"HTTP/1.1 202"
LENGTH = b"content-length: "
END = b"\r\n\r\n"
REFUSED_PAUSE_SECONDS = 0.01
TICK_SECONDS = 0.001
ID_FIRST, ID_LAST = 7, 31  # {"id":"…


class Wire(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, publisher: "Publisher") -> None:
        self._publisher = publisher
        self._pending = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._publisher.lost(self)

    def ask(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        end = data.find(END)
        at = data.find(LENGTH, 0, end) if end > 0 else -1
        if at < 0:
            self._pending = data
            return
        length = int(data[at + len(LENGTH) : data.find(b"\r", at)])
        if len(data) < end + len(END) + length:
            self._pending = data
            return
        self._pending = b""
        self._publisher.answered(self, data, end + len(END))


class Publisher:
    """All connections, and what they have seen."""

    def __init__(self, job: dict[str, Any]) -> None:
        senders = job.get("senders") or [(job["path"], job["key"])]
        self._requests = [
            HEAD.format(path=path, key=key, length=len(raw)).encode() + raw
            for raw, (path, key) in zip(
                (text.encode() for text in job["bodies"]), itertools.cycle(senders), strict=False
            )
        ]
        self._events_per_body: int = job["events_per_body"]
        self._seconds: float = job["seconds"]
        self._bodies_left: int = job.get("bodies_max", 1 << 60)
        self._rate: float | None = job.get("rate")
        self._job = job
        self._next = 0
        self._asked = 0
        self._wires: list[Wire] = []
        self._idle: deque[Wire] = deque()
        self._finished = asyncio.Event()
        self.first = self.deadline = 0.0
        self.events = 0
        self.refused: Counter[str] = Counter()
        self.moments: list[tuple[str, float, float]] = []

    async def run(self) -> None:
        """Publish it all; returns when everything asked is answered."""
        loop = self._loop = asyncio.get_running_loop()
        for _ in range(self._job["connections"]):
            _, wire = await loop.create_connection(
                lambda: Wire(self), "127.0.0.1", self._job["port"]
            )
            self._wires.append(wire)
        self.first = time.monotonic()
        self.deadline = self.first + self._seconds
        if self._rate is None:
            for wire in self._wires:
                self._ask(wire)
        else:
            self._idle.extend(self._wires)
            await self._steadily(self._rate)
        await self._finished.wait()

    async def _steadily(self, rate: float) -> None:
        """One request at each moment that is due, on whatever connection is idle."""
        planned = int(self._seconds * rate)
        sent = 0
        while sent < planned:
            now = time.monotonic()
            while sent < planned and self._idle and self.first + sent / rate <= now:
                wire = self._idle.popleft()
                # The moment it was due, not the moment it was sent: no waiting is left out.
                wire.due = self.first + sent / rate
                sent += 1
                self._write(wire)
            await asyncio.sleep(TICK_SECONDS)
        self._bodies_left = 0
        self._check_finished()

    def _ask(self, wire: Wire) -> None:
        if self._bodies_left and time.monotonic() < self.deadline:
            self._bodies_left -= 1
            self._write(wire)
        else:
            self._bodies_left = 0
            self._check_finished()

    def _write(self, wire: Wire) -> None:
        self._asked += 1
        request = self._requests[self._next]
        self._next = (self._next + 1) % len(self._requests)
        wire.ask(request)

    def answered(self, wire: Wire, data: bytes, body: int) -> None:
        """One reply has come."""
        self._asked -= 1
        if data.startswith(ACCEPTED):
            errors = data.count(b'"error"', body)
            if errors:
                self.refused["items"] += errors
            self.events += self._events_per_body - errors
            if self._rate is not None:
                event_id = data[body + ID_FIRST : body + ID_LAST].decode()
                self.moments.append((event_id, wire.due, time.monotonic()))
        else:
            self.refused[data[9:12].decode()] += 1
            if self._rate is None:
                self._loop.call_later(REFUSED_PAUSE_SECONDS, self._ask, wire)
                return
        if self._rate is None:
            self._ask(wire)
        else:
            self._idle.append(wire)
            self._check_finished()

    def lost(self, _: Wire) -> None:
        """The service closed a connection: nothing here should make it."""
        if not self._finished.is_set():
            self.refused["closed"] += 1
            self._finished.set()

    def _check_finished(self) -> None:
        if not self._asked and not self._bodies_left:
            self._finished.set()


async def main() -> None:
    """Do the job; says what was accepted and what it cost."""
    publisher = Publisher(json.loads(sys.stdin.readline()))
    await publisher.run()
    used = cost()
    said = {
        "events": publisher.events,
        "first": publisher.first,
        "refused": publisher.refused,
        "moments": publisher.moments,
        "cpu_seconds": used.cpu_seconds,
        "rss_mib": used.rss_peak_mib,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

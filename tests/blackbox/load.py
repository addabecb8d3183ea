"""Publishing from many connections at once, through deaths of the server."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from msgspec import Struct
from tests.blackbox.server import Server, Tenant

ANSWER_SECONDS_MAX = 30.0
BACK_SECONDS_MAX = 300.0
REACHED_SECONDS_MAX = 600.0


class Ask(Struct, frozen=True):
    """One publish: the numbers of its events, and the whole request."""

    numbers: tuple[int, ...]
    request: bytes


def request(tenant: Tenant, body: bytes, *, batch: bool = False, extra: bytes = b"") -> bytes:
    """The bytes of one publish."""
    path = f"{tenant.root}/events{'/batch' if batch else ''}"
    head = f"POST {path} HTTP/1.1\r\nhost: tocsin\r\nauthorization: Bearer {tenant.key}\r\n"
    return head.encode() + extra + b"content-length: %d\r\n\r\n" % len(body) + body


def event(number: int, type: str = "load.event") -> dict[str, Any]:
    """An event that can be told from all others."""
    return {"type": type, "data": {"number": number, "text": "ünïcode"}}


def asks(tenant: Tenant, count: int, *, slow_every: int = 0) -> Iterator[Ask]:
    """Publishes of `count` events: mostly one each, some in batches of five."""
    number = 0
    while number < count:
        size = 5 if number % 37 == 0 and number + 5 <= count else 1
        numbers = tuple(range(number, number + size))
        number += size
        events = [
            event(n, "slow.event" if slow_every and n % slow_every == 0 else "load.event")
            for n in numbers
        ]
        body = {"events": events} if size > 1 else events[0]
        yield Ask(numbers, request(tenant, json.dumps(body).encode(), batch=size > 1))


class Load:
    """Publishes everything it is given, once; what was answered 202 is in `accepted`.

    A publish whose connection died is unknown and is not repeated. `up` is cleared by whoever
    takes the server down, and set when it is back.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.up = asyncio.Event()
        self.up.set()
        self.accepted: dict[int, float] = {}
        self.refused: dict[int, int] = {}
        self.unknown = 0
        self._progress = asyncio.Condition()

    async def run(self, asks: Iterable[Ask], connections: int) -> None:
        """Publish it all from so many connections."""
        source = iter(asks)
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._connection(source))

    async def reached(self, accepted: int) -> None:
        """Wait until so many events are accepted."""
        async with asyncio.timeout(REACHED_SECONDS_MAX), self._progress:
            await self._progress.wait_for(lambda: len(self.accepted) >= accepted)

    async def _connection(self, source: Iterator[Ask]) -> None:
        wire: Wire | None = None
        for ask in source:
            if wire is None:
                wire = await self._connect()
            try:
                status, body = await wire.ask(ask.request)
            except (OSError, asyncio.IncompleteReadError):
                self.unknown += len(ask.numbers)
                wire.close()
                wire = None
                continue
            self._note(ask, status, body)
            async with self._progress:
                self._progress.notify_all()
        if wire is not None:
            wire.close()

    async def _connect(self) -> "Wire":
        async with asyncio.timeout(BACK_SECONDS_MAX):
            while True:
                await self.up.wait()
                with suppress(OSError):
                    return await Wire.open(self._server.port)
                await asyncio.sleep(0.01)

    def _note(self, ask: Ask, status: int, body: bytes) -> None:
        now = time.monotonic()
        if status != 202:
            self.refused |= dict.fromkeys(ask.numbers, status)
        elif len(ask.numbers) == 1:
            self.accepted[ask.numbers[0]] = now
        else:
            for number, result in zip(ask.numbers, json.loads(body)["results"], strict=True):
                if "error" in result:
                    self.refused[number] = result["error"]["status"]
                else:
                    self.accepted[number] = now


class Wire:
    """One keep-alive connection that takes requests as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> "Wire":
        return cls(*await asyncio.open_connection(host, port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; returns the reply's status and body."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            self._writer.write(request)
            await self._writer.drain()
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.transport.abort()

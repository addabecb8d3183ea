"""Targets of a test: one server for many paths, each with a script that says how it behaves."""

import asyncio
import json
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self, cast

import httptools
from msgspec import Struct

HELD_SECONDS_MAX = 120.0


class Receipt(Struct, frozen=True):
    """One request that came in; `at` is monotonic time, the moment its last byte was there."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def delivery_id(self) -> str:
        return self.headers["tocsin-delivery"]

    @property
    def attempt(self) -> int:
        return int(self.headers["tocsin-attempt"])

    def json(self) -> Any:
        return json.loads(self.body)


class Answer(Struct, frozen=True):
    """What to write, when, and what to do with the connection then."""

    data: bytes
    after_seconds: float = 0.0
    then: str = "keep"  # or close, reset


HANG = Answer(b"", after_seconds=HELD_SECONDS_MAX)


def reply(
    status: int = 204,
    body: bytes = b"",
    *,
    after_seconds: float = 0.0,
    **headers: str,
) -> Answer:
    """An ordinary reply; underscores in header names become dashes."""
    head = f"HTTP/1.1 {status} Reply\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return Answer(head.encode() + b"\r\n" + body, after_seconds)


Script = Callable[[int, Receipt], Answer]
"""How a path behaves: called with the number of receipts it had before, and this one."""


def always(answer: Answer) -> Script:
    """The same answer every time."""
    return lambda _number, _receipt: answer


def in_turn(*answers: Answer) -> Script:
    """One answer after the other, then the last one for ever."""
    return lambda number, _receipt: answers[min(number, len(answers) - 1)]


OK = always(reply())


class _Connection(asyncio.Protocol):
    """One connection with keep-alive; requests are answered in order."""

    def __init__(self, receiver: "Receiver") -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._receiver._transports.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._receiver._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        path = self._url.decode("latin-1")
        receipt = Receipt(time.monotonic(), path, self._headers, b"".join(self._body))
        answer = self._receiver._received(receipt)
        if answer.after_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(answer.after_seconds, self._answer, receipt, answer)
        else:
            self._answer(receipt, answer)

    def _answer(self, receipt: Receipt, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(answer.data)
        self._receiver._answered(receipt, answer)
        if answer.then == "close":
            self._transport.close()
        elif answer.then == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # Not before what was written is on its way.
            asyncio.get_running_loop().call_later(0.02, self._transport.abort)


class Receiver:
    """Listens in a thread of its own, by default on 127.0.0.1, and remembers every request."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self._scripts: dict[str, Script] = {}
        self._receipts: dict[str, list[Receipt]] = defaultdict(list)
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._transports: set[asyncio.Transport] = set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver")
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def url(self, path: str = "/hook", script: Script | None = None) -> str:
        """The URL of a path, which behaves as the script says."""
        if script is not None:
            self.behave(path, script)
        return f"http://{self.host}:{self.port}{path}"

    def behave(self, path: str, script: Script) -> None:
        """From now on the path behaves like that."""
        with self._changed:
            self._scripts[path] = script

    def at(self, path: str = "/hook") -> list[Receipt]:
        """What has come to a path so far."""
        with self._changed:
            return list(self._receipts[path])

    def wait(self, count: int, path: str = "/hook", *, seconds: float = 60.0) -> list[Receipt]:
        """Wait until a path has had so many requests; returns all it had."""
        return self.wait_for(lambda found: len(found) >= count, path, seconds=seconds)

    def wait_for(
        self,
        enough: Callable[[list[Receipt]], bool],
        path: str = "/hook",
        *,
        seconds: float = 60.0,
    ) -> list[Receipt]:
        """Wait until a path has had enough; returns all it had."""
        with self._changed:
            found = self._receipts[path]
            came = self._changed.wait_for(lambda: enough(found), seconds)
            assert came, f"{path} has had {len(found)} requests after {seconds:g} s"
            return list(found)

    def _received(self, receipt: Receipt) -> Answer:
        with self._changed:
            had = self._receipts[receipt.path]
            number = len(had)
            had.append(receipt)
            script = self._scripts.get(receipt.path, OK)
            self._changed.notify_all()
        return script(number, receipt)

    def _answered(self, receipt: Receipt, answer: Answer) -> None:
        """An answer was written; for whoever keeps books."""

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        listen = self._loop.create_server(lambda: _Connection(self), self.host, 0, backlog=1024)
        server = self._loop.run_until_complete(listen)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        for transport in self._transports:
            transport.abort()
        # Closed servers and aborted transports take a turn of the loop to be gone.
        for _ in range(3):
            await asyncio.sleep(0)

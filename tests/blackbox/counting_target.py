"""A target in a process of its own, as cheap as Python allows: it answers later, and counts.

It says where it listens and, for each line on standard input, how many requests it has had.
"""

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop
from bench.processes import Child

REPLY = b"HTTP/1.1 204 No Content\r\n\r\n"


class CountingTarget(Child):
    """The process. A context manager: it answers inside, and is gone after."""

    def __init__(self, reply_seconds: float) -> None:
        super().__init__(__name__, {"reply_seconds": reply_seconds})

    def __enter__(self) -> "CountingTarget":
        super().__enter__()
        self.port = int(self.line())
        return self

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def count(self) -> int:
        """How many requests it has had."""
        self.tell("count")
        return int(self.line())


class _Counter:
    came = 0


class _Connection(asyncio.Protocol):
    def __init__(self, counter: _Counter, reply_seconds: float) -> None:
        self._counter = counter
        self._reply_seconds = reply_seconds
        self._later = asyncio.get_running_loop().call_later
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._counter.came += 1
        self._later(self._reply_seconds, self._transport.write, REPLY)


async def main(reply_seconds: float) -> None:
    """Serve until standard input ends."""
    counter, loop = _Counter(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(counter, reply_seconds), "127.0.0.1", 0, backlog=1024
    )
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await asked.readline():
        print(counter.came, flush=True)


if __name__ == "__main__":
    uvloop.run(main(float(json.loads(sys.stdin.readline())["reply_seconds"])))

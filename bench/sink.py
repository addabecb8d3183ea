"""Where everything goes: a server as cheap as Python allows, one for all runs.

Lines on standard input, each answered by a line of JSON: `reset`, `reset timed`, `reset silent`,
`stats`, `times`. Timed connections note when each webhook-id came, silent ones answer nothing; it
takes hold with the next connection.
"""

import asyncio
import json
import sys
import time
from typing import cast

import httptools
import uvloop

REPLY = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink:
    """What has come in since the last reset."""

    def __init__(self) -> None:
        self.kind: type[Connection] = Connection
        self.connections: set[asyncio.Transport] = set()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and close what is open: later connections may be of another kind."""
        for transport in self.connections:
            transport.abort()
        self.count = 0
        self.body_bytes = 0
        self.first = self.last = 0.0
        self.times: dict[str, float] = {}


class Connection(asyncio.Protocol):
    """Counts requests and answers each with the same 204."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._complete = 0
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sink.connections.add(self._transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._sink.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        complete = self._complete
        if complete:
            self._complete = 0
            sink = self._sink
            now = time.monotonic()
            if not sink.count:
                sink.first = now
            sink.count += complete
            sink.last = now
            self._transport.write(REPLY * complete)

    def on_message_complete(self) -> None:
        self._complete += 1


class TimedConnection(Connection):
    """Also notes when each event came, and the size of bodies."""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"webhook-id":
            self._sink.times[value.decode()] = time.monotonic()

    def on_body(self, data: bytes) -> None:
        self._sink.body_bytes += len(data)


class SilentConnection(Connection):
    """Takes what comes and never answers."""

    def data_received(self, data: bytes) -> None:
        """Not even looked at."""


KINDS: dict[str, type[Connection]] = {
    "": Connection,
    "timed": TimedConnection,
    "silent": SilentConnection,
}


def answer(sink: Sink, line: str) -> object:
    """Do what the line says; returns what to say."""
    match line.split():
        case ["reset", *how]:
            sink.reset()
            sink.kind = KINDS["".join(how)]
            return {}
        case ["stats"]:
            return {
                "count": sink.count,
                "body_bytes": sink.body_bytes,
                "first": sink.first,
                "last": sink.last,
            }
        case ["times"]:
            return sink.times
    raise ValueError(line)


async def main() -> None:
    """Serve until standard input ends."""
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: sink.kind(sink),
        "127.0.0.1",
        0,
        backlog=1024,
    )
    said = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), sys.stdin)
    await said.readline()  # the job, which is always the same
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    while line := (await said.readline()).decode().strip():
        print(json.dumps(answer(sink, line)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

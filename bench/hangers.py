"""Targets that begin to hang, and a name server that answers for some names and never for others.

Lines on standard input, each answered by a line of JSON: `well`, `hang`, `stats`. From `hang` on
nothing is answered any more, and every connection is closed after 30 s. To the name server
`….well.test` is this machine, and a question for `….silent.test` is never answered.
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import cast

import httptools
import uvloop

from bench.sink import REPLY

HANG_SECONDS = 30.0
NAME_SERVER = "127.0.0.77"
DNS_PORT = 53
WELL, SILENT = "well.test", "silent.test"
HERE = bytes((127, 0, 0, 1))
_HEAD_BYTES = 12
_A = 1
_ANSWER = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04"  # that name, A, IN, 30 s, 4 bytes


class Counts:
    """What has come in so far, and is under way."""

    def __init__(self) -> None:
        self.answered = 0
        self.hanging = 0
        self.unanswered = 0


class State:
    """What the targets do."""

    def __init__(self) -> None:
        self.hangs = False
        self.counts = Counts()


class Target(asyncio.Protocol):
    """One connection: each request is answered, or none any more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._state.counts.hanging -= 1

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if not self._state.hangs:
            self._state.counts.answered += 1
            self._transport.write(REPLY)
        elif self._timer is None:
            self._state.counts.hanging += 1
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HANG_SECONDS, self._transport.abort)


class NameServer(asyncio.DatagramProtocol):
    """Answers what it is to answer."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels, at = [], _HEAD_BYTES
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("ascii").lower())
            at += 1 + data[at]
        question = data[_HEAD_BYTES : at + 5]
        name, kind = ".".join(labels), int.from_bytes(data[at + 1 : at + 3], "big")
        if name.endswith(SILENT):
            self._counts.unanswered += 1
            return
        answers = _ANSWER + HERE if kind == _A else b""
        head = data[:2] + b"\x85\x80\x00\x01" + (b"\x00\x01" if answers else b"\x00\x00") + bytes(4)
        self._transport.sendto(head + question + answers, addr)


async def main() -> None:
    """Serve until standard input ends; says its port, and whether it serves names."""
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Target(state), "127.0.0.1", 0, backlog=1024)
    names = False
    with suppress(OSError):  # only root may listen there
        await loop.create_datagram_endpoint(
            lambda: NameServer(state.counts), local_addr=(NAME_SERVER, DNS_PORT)
        )
        names = True
    said = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(said), sys.stdin)
    await said.readline()  # the job, which is always the same
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "names": names}), flush=True)
    while line := (await said.readline()).decode().strip():
        if line != "stats":
            state.hangs = line == "hang"
        print(json.dumps(vars(state.counts)), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

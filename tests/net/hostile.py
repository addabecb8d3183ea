"""A target that does exactly what a test says, byte for byte, on a real socket."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """One accepted connection, as the target sees it."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next whole request; raises `IncompleteReadError` when the client closed."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                length = int(line.partition(b": ")[2])
        return head + await self.reader.readexactly(length)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Wait until the client has closed its side."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if sock is None:
            return  # the client was first
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Script = Callable[[Peer], Awaitable[None]]
"""Plays the target on one connection; the connection is closed when it returns."""


class Target:
    """Where the target listens and what it has seen."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.scheme = scheme
        self.connections = 0
        self.requests: list[bytes] = []

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@asynccontextmanager
async def target(
    script: Script, tls: ssl.SSLContext | None = None, *, port: int = 0
) -> AsyncIterator[Target]:
    """A listening target that runs `script` for each connection."""
    tasks: set[asyncio.Task[None]] = set()
    seen = Target(0, "https" if tls else "http")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        peer = Peer(seen.connections, reader, writer)
        ask = peer.request

        async def remember() -> bytes:
            request = await ask()
            seen.requests.append(request)
            return request

        peer.request = remember  # type: ignore[method-assign]
        try:
            await script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; fails after 30 s."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - some conditions have nobody to set an event
            await asyncio.sleep(0.001)


def always(reply: bytes = OK) -> Script:
    """Answer every request with the same bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(reply)

    return script


def once(reply: bytes, then: str = "wait") -> Script:
    """Answer the first request of each connection, then `close`, `reset`, or `wait` for the end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if reply:
            await peer.say(reply)
        if then == "reset":
            await asyncio.sleep(0)
            peer.reset()
        elif then == "wait":
            await peer.closed()

    return script

"""A small CONNECT proxy on a real socket, which can also behave badly."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_CONNECT = re.compile(rb"CONNECT (\S+):([0-9]+) HTTP/1\.1\r\n")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What the proxy does instead of its duty, once it has the request's head."""


class Tunnel:
    """Where the proxy listens, and the heads of the requests that it got."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[bytes] = []
        self.open = 0

    @property
    def places(self) -> list[str]:
        """The addresses that were asked for, with their ports."""
        return [head.split(b" ")[1].decode() for head in self.asked]

    def url(self, user: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{user}{'@' if user else ''}{host}:{self.port}"


@asynccontextmanager
async def proxy(answer: Answer | None = None) -> AsyncIterator[Tunnel]:
    """A proxy that connects whoever asks to whatever is asked for."""
    seen = Tunnel()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.open += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.asked.append(head)
            if answer is not None:
                await answer(reader, writer)
            else:
                await _connect(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            seen.open -= 1
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _connect(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    match = _CONNECT.match(head)
    assert match is not None
    host = match[1].decode().strip("[]")
    there, back = await asyncio.open_connection(host, int(match[2]))
    writer.write(ESTABLISHED)
    ways = [asyncio.create_task(_copy(*way)) for way in ((reader, back), (there, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        back.close()
        with suppress(ConnectionError):
            await back.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


def says(data: bytes, then: str = "close") -> Answer:
    """Answer every request so; then `close` or `wait` until the client goes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then == "wait":
            await reader.read()

    return answer

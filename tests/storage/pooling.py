"""A stand-in for a proxy that pools transactions: each one may come to another server session."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

SESSIONS = 2
_IDLE = b"I"
_TERMINATE = b"X"
_READY = b"Z"


class Pooling:
    """One client's sessions at the server, taken in turns, a transaction each."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self.transactions = 0

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """Pass a client's messages on until it is gone."""
        sessions: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            await self._speak(client, answers, sessions)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for _, writer in sessions:
                writer.close()
            answers.close()

    async def _speak(
        self,
        client: asyncio.StreamReader,
        answers: asyncio.StreamWriter,
        sessions: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> None:
        opening = await self._opening(client, answers)
        for number in range(SESSIONS):
            reader, writer = await asyncio.open_connection(self._host, self._port)
            sessions.append((reader, writer))
            writer.write(opening)
            await self._until_idle(reader, None if number else answers)
        asked = asyncio.ensure_future(_message(client))
        try:
            for reader, writer in itertools.cycle(sessions):
                kind, message = await asked
                answered: asyncio.Future[None] | None = None
                while kind != _TERMINATE:
                    writer.write(message)
                    asked = asyncio.ensure_future(_message(client))
                    if answered is None:
                        answered = asyncio.ensure_future(self._until_idle(reader, answers))
                    both: set[asyncio.Future[Any]] = {asked, answered}
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                    if answered.done():
                        await answered
                        break
                    kind, message = await asked
                else:
                    return
                self.transactions += 1
        finally:
            asked.cancel()

    async def _opening(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> bytes:
        while True:
            head = await client.readexactly(4)
            message = head + await client.readexactly(int.from_bytes(head, "big") - 4)
            if int.from_bytes(message[4:8], "big") != 80877103:  # asks for TLS
                return message
            answers.write(b"N")

    async def _until_idle(
        self, reader: asyncio.StreamReader, answers: asyncio.StreamWriter | None
    ) -> None:
        """Pass answers on until no transaction is open."""
        while True:
            kind, message = await _message(reader)
            if answers is not None:
                answers.write(message)
            if kind == _READY and message[5:6] == _IDLE:
                return


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(int.from_bytes(head[1:], "big") - 4)


@asynccontextmanager
async def pooling(host: str, port: int) -> AsyncIterator[tuple[Pooling, int]]:
    """The proxy before a server, and the port it listens on."""
    proxy = Pooling(host, port)
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await listening.wait_closed()

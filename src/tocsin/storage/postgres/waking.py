"""NOTIFY, to wake idle nodes when something comes free; whoever misses it polls.

Never inside of a data transaction: NOTIFY takes a lock that all commits of the server share.
"""

import asyncio
import logging
from collections.abc import Callable

import asyncpg

from tocsin.domain.errors import Unavailable
from tocsin.storage.postgres.session import Connection, Sessions, store_fault

CHANNEL = "tocsin_freed"
PAUSE_SECONDS = 0.05
AGAIN_SECONDS = 2.0
NOTIFY_SECONDS_MAX = 5.0
ALIVE_SECONDS = 15.0

_log = logging.getLogger("tocsin.storage")


class Waking:
    """A connection of its own that tells, and hears, that deliveries came free.

    `woken` is called when another node has freed some.
    """

    def __init__(self, sessions: Sessions, woken: Callable[[], None]) -> None:
        self._sessions = sessions
        self._woken = woken
        self._freed = asyncio.Event()
        self._connection: Connection | None = None

    def freed(self) -> None:
        """Something was committed that any node may claim."""
        self._freed.set()

    async def run(self) -> None:
        """Listen and tell until cancelled; nothing depends on it."""
        while True:
            try:
                await self._talk()
            except Exception as error:
                if not isinstance(error, Unavailable) and not store_fault(error):
                    if not isinstance(error, asyncpg.PostgresError):
                        raise
                    _log.warning("nodes can't be woken, they poll: %r", error)
            self.close()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _talk(self) -> None:
        connection = self._connection = await self._sessions.open()
        if self._sessions.prepared:  # a proxy that pools transactions would drop it
            await connection.add_listener(CHANNEL, self._heard)
        while True:
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await self._freed.wait()
            except TimeoutError:
                pass
            told, statement = self._freed.is_set(), f"NOTIFY {CHANNEL}"
            self._freed.clear()
            async with asyncio.timeout(NOTIFY_SECONDS_MAX):
                await connection.execute(statement if told else "SELECT 1")
            # However much comes free in the meantime, it is told once.
            await asyncio.sleep(PAUSE_SECONDS)

    def _heard(self, connection: object, pid: int, channel: str, payload: object) -> None:
        mine = self._connection
        if mine is None or pid != mine.get_server_pid():
            self._woken()

    def close(self) -> None:
        """Close the connection without a word."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

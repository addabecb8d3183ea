"""Idle connections, and the one ticker that ends what has lasted too long."""

import asyncio

from tocsin.net.connection import Connection, PoolKey

TICK_SECONDS = 0.1
CLOSE_SECONDS_MAX = 2.0


class Pool:
    """Keeps connections by `PoolKey`; the most recently used one is taken first.

    Deadlines are attributes read by one ticker instead of a timer for every request, so a timeout
    may come up to `tick_seconds` late. The ticker runs only while there are connections.
    """

    def __init__(
        self,
        *,
        idle_seconds: float,
        idle_max: int,
        idle_per_key_max: int,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._idle_seconds = idle_seconds
        self._idle_max = idle_max
        self._idle_per_key_max = idle_per_key_max
        self._tick_seconds = tick_seconds
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the longest idle first
        self._idle_by_key: dict[PoolKey, list[Connection]] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._closing = False
        self._emptied = asyncio.Event()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind to the running loop."""
        self._loop = loop

    async def close(self) -> None:
        """Close every connection, busy ones too, and wait until the loop has let go of them."""
        self._closing = True
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._emptied.clear()
            try:
                async with asyncio.timeout(CLOSE_SECONDS_MAX):
                    await self._emptied.wait()
            except TimeoutError:
                pass
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    @property
    def open_count(self) -> int:
        """Connections that are open, idle or busy."""
        return len(self._open)

    @property
    def idle_count(self) -> int:
        """Connections that wait for a request."""
        return len(self._idle)

    def take(self, key: PoolKey) -> Connection | None:
        """An idle connection, now the caller's alone."""
        waiting = self._idle_by_key.get(key)
        if not waiting:
            return None
        connection = waiting.pop()
        if not waiting:
            del self._idle_by_key[key]
        del self._idle[connection]
        return connection

    def put(self, connection: Connection) -> None:
        """Keep a clean connection; what is above the limits is closed by the ticker."""
        if self._closing or not connection.usable:
            connection.abort()
            return
        connection.reused = True
        connection.idle_since = self._loop.time()
        waiting = self._idle_by_key.get(connection.key)
        if waiting is None:
            self._idle_by_key[connection.key] = [connection]
        else:
            waiting.append(connection)
        self._idle[connection] = None

    def forget(self, connection: Connection) -> None:
        """Never hand out this connection again."""
        if connection not in self._idle:
            return
        del self._idle[connection]
        waiting = self._idle_by_key[connection.key]
        waiting.remove(connection)
        if not waiting:
            del self._idle_by_key[connection.key]

    def opened(self, connection: Connection) -> None:
        """A connection exists; from now on the ticker watches its deadline."""
        self._open.add(connection)
        if self._ticker is None:
            self._ticker = self._loop.call_later(self._tick_seconds, self._tick)

    def gone(self, connection: Connection) -> None:
        """A connection exists no more."""
        self._open.discard(connection)
        if not self._open:
            self._emptied.set()

    def _tick(self) -> None:
        now = self._loop.time()
        for connection in [c for c in self._open if c.deadline <= now]:
            connection.expire()
        self._sweep(now)
        again = self._open and not self._closing
        self._ticker = self._loop.call_later(self._tick_seconds, self._tick) if again else None

    def _sweep(self, now: float) -> None:
        """Close what was idle for too long, and what nobody needed for a tick above the limits.

        The limits wait for a tick, because a hundred replies that arrive together are a hundred
        idle connections for a moment, each about to be used again.
        """
        oldest_kept = now - self._idle_seconds
        unused_since = now - self._tick_seconds
        above = len(self._idle) - self._idle_max
        for connection in tuple(self._idle):
            if connection.idle_since > unused_since:
                break
            siblings = self._idle_by_key[connection.key]
            if (
                connection.idle_since <= oldest_kept
                or above > 0
                or len(siblings) > self._idle_per_key_max
            ):
                above -= 1
                connection.abort()

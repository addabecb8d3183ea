"""Nodes: each has a number that was never used before, and a lease that it keeps renewing.

A lease lasts `LEASE_MS` on the database's clock, and as long on the monotonic clock of its holder,
counted from before the renewal was sent: the holder always believes it to end first. A node that
finds its own lease ended takes a new number; what it held under the old one is freed like that of
any other dead node.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import asyncpg
from msgspec import Struct

from tocsin.domain.errors import Unavailable
from tocsin.storage.postgres.session import Connection, Sessions, store_fault

LEASE_MS = 45_000
"""A send starts only while the lease outlasts its timeout, at most 30 s, by 5 s: so a node may miss
three renewals before the slowest channels have to wait."""
BEAT_SECONDS = 3.0
BEAT_AGAIN_SECONDS = 0.5
BEAT_SECONDS_MAX = 5.0
SKEW_MS_MAX = 2_000

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_TAKE = f"""
    INSERT INTO nodes (number, started_at, lease_until_ms)
    VALUES (nextval('node_numbers'), $1, {_NOW} + $2)
    RETURNING number, lease_until_ms - $2 AS now_ms
"""
_BEAT = f"""
    UPDATE nodes SET lease_until_ms = {_NOW} + $2 WHERE number = $1 AND lease_until_ms > {_NOW}
    RETURNING lease_until_ms - $2 AS now_ms
"""
# Ended, not deleted: what it may still hold has to be found and freed first.
_LEAVE = "UPDATE nodes SET lease_until_ms = 0 WHERE number = $1"
_LAPSED = f"SELECT number, lease_until_ms FROM nodes WHERE lease_until_ms <= {_NOW}"
_END = """
    UPDATE nodes SET lease_until_ms = 0
    WHERE number = $1 AND lease_until_ms = $2 RETURNING number
"""
_BURY = "DELETE FROM nodes WHERE number = $1 AND started_at = $2"
_IS_THERE = "SELECT 1 FROM nodes WHERE number = $1 AND started_at = $2"
_FORGET = "DELETE FROM nodes WHERE number = ANY ($1::int[]) AND lease_until_ms = 0"

_log = logging.getLogger("tocsin.storage")


class Started(Struct, frozen=True):
    """A node for good: the number alone is another node's in another database.

    `at` is wall time of its machine, as in `nodes.started_at`.
    """

    number: int
    at: int


class Beat(Struct):
    """What the database's clock showed, and the monotonic moment (s) of that."""

    now_ms: int
    at: float


class Nodes:
    """This node's number and lease, and the look for nodes that are gone.

    `numbers` are all that this process has had, the present one last; `numbered` is told each of
    them before it is used. `lease_until` is monotonic: no send may start that could outlast it.
    `lost` is called, perhaps twice, when the lease had ended: whatever this node holds and has not
    begun to send is not its own any more. `measured` is told the database's clock with every beat.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        wall_ms: Callable[[], int],
        numbered: Callable[[Started], None],
        lost: Callable[[], None],
        measured: Callable[[Beat], None],
    ) -> None:
        self._sessions = sessions
        self._wall_ms = wall_ms
        self._numbered = numbered
        self._lost = lost
        self._measured = measured
        self._time = asyncio.get_running_loop().time
        self._connection: Connection | None = None
        self._one_at_a_time = asyncio.Lock()
        self._ended = False
        self._seen_lapsed: dict[int, int] = {}
        self.numbers: list[int] = []
        self.lease_until = 0.0

    async def take(self) -> None:
        """Take a number and a lease; raises what `Sessions.open` does, or Unavailable."""
        sent, started_at = self._time(), self._wall_ms()
        (row,) = await self._once(_TAKE, started_at, LEASE_MS)
        self._renewed(row["now_ms"], sent)
        self._numbered(Started(row["number"], started_at))
        self.numbers.append(row["number"])

    async def run(self) -> None:
        """Renew the lease until cancelled."""
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS_MAX):
                    await self._beat()
                pause = BEAT_SECONDS
            except Exception as error:
                if not isinstance(error, Unavailable) and not store_fault(error):
                    raise
                _log.warning("the lease of this node can't be renewed: %r", error)
                self._disconnect()
                pause = BEAT_AGAIN_SECONDS
            await asyncio.sleep(pause)

    async def _beat(self) -> None:
        sent = self._time()
        rows = []
        if sent < self.lease_until:
            rows = await self._once(_BEAT, self.numbers[-1], LEASE_MS)
        if rows:
            self._renewed(rows[0]["now_ms"], sent)
            return
        if not self._ended:
            self._ended = True
            _log.error("the lease of this node has ended: it gives up what it holds")
            self._lost()
        with suppress(asyncpg.PostgresError):
            await self._once(_LEAVE, self.numbers[-1])
        await self.take()
        self._ended = False
        self._lost()  # also what was claimed under the old number in between

    def _renewed(self, now_ms: int, sent: float) -> None:
        self.lease_until = sent + LEASE_MS / 1000
        self._measured(Beat(now_ms=now_ms, at=(sent + self._time()) / 2))

    async def lapsed(self) -> list[int]:
        """Numbers whose lease has ended and whose rows may be freed.

        A lease counts as ended when it was found so twice, unchanged: after a step of the
        database's clock all of them look ended once, until their holders have renewed them.
        """
        rows = await self._once(_LAPSED)
        # What this process held under an earlier number it gives back or settles itself.
        found = {row[0]: row[1] for row in rows if row[0] not in self.numbers}
        twice = [n for n, until in found.items() if not until or self._seen_lapsed.get(n) == until]
        self._seen_lapsed = found
        ended = []
        for number in twice:
            until = found[number]
            if not until or await self._once(_END, number, until):
                ended.append(number)
        return ended

    async def forget(self, numbers: list[int]) -> None:
        """Delete ended nodes; nothing is held under their numbers any more."""
        await self._once(_FORGET, numbers)

    async def is_there(self, node: Started) -> bool:
        """Whether this database knows this very node, dead or alive."""
        return bool(await self._once(_IS_THERE, node.number, node.at))

    async def bury(self, node: Started) -> None:
        """Delete a node that is known to be dead, whatever its lease says, once it holds nothing.

        A lane that only it may serve is anybody's then.
        """
        await self._once(_BURY, node.number, node.at)

    async def leave(self) -> None:
        """End this node's lease at once and close the connection."""
        try:
            async with asyncio.timeout(BEAT_SECONDS_MAX):
                if self.numbers:
                    await self._once(_LEAVE, self.numbers[-1])
        except Exception as error:
            _log.warning("the lease of this node ends by itself: %r", error)
        self._disconnect()

    async def _once(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """One statement by itself; two tasks share the connection."""
        async with self._one_at_a_time:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await self._sessions.open()
            return await self._sessions.once(connection, statement, *arguments)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

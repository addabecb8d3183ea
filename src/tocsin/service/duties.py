"""Duties: what only one of several nodes needs to do, and which one that is.

A duty is held by a lease row in the database. It is renewed while the work goes on, kept between
two runs, given up at a clean stop, and free as soon as the node that has it is gone.

The lease spares work, it is no lock. A node that was paused in the middle (SIGSTOP, a machine
moved) goes on where it was, beside the node that has taken over. So what is done under a duty must
be right when two nodes do it at once: each step in a transaction, conditional on what it found.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tocsin.clock import Clock
from tocsin.domain.errors import Unavailable
from tocsin.storage.base import Store
from tocsin.storage.control import duties

SPARE_SECONDS = 30.0
"""By so much a lease outlasts the pause between two runs."""
GIVE_UP_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Duties:
    """The duties of this node: it does those that no other node has."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._until: dict[tuple[str, int], float] = {}

    async def do(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
        """Do `work`, which comes again in `seconds`, if no other node has this duty.

        False when one has. Raises what `work` does, and Unavailable when the store is away.
        """
        lasts = seconds + SPARE_SECONDS
        if not await self._hold(name, lasts):
            return False
        keeping = asyncio.get_running_loop().create_task(self._keep(name, lasts))
        try:
            await work()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        return True

    async def give_up(self) -> None:
        """Leave what this node has to the others, at once; where that fails it lapses."""
        nodes = {node for _, node in self._until}
        self._until.clear()
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                for node in nodes:
                    await self._store.write(lambda c, node=node: duties.give_up(c, node=node))  # type: ignore[misc]
        except (TimeoutError, Unavailable) as error:
            _log.warning("what this node had to do is done by others a little later: %r", error)

    async def _hold(self, name: str, lasts: float) -> bool:
        """Take the duty, or see that it is this node's for long enough."""
        # After a lost lease the node has another number, and with it no duties.
        sent, node = self._clock.monotonic(), self._store.node
        if self._until.get((name, node), 0.0) - sent >= lasts / 2:
            return True
        now_ms = self._clock.storage_ms()
        held = await self._store.write(
            lambda c: duties.take(c, name, node=node, lasts_ms=int(lasts * 1000), now_ms=now_ms)
        )
        self._until[name, node] = sent + lasts if held else 0.0
        return held

    async def _keep(self, name: str, lasts: float) -> None:
        """Keep the duty while its work goes on, until cancelled."""
        while True:
            await asyncio.sleep(lasts / 3)
            try:
                await self._hold(name, lasts)
            except Unavailable as error:
                _log.warning("the lease for %s can't be renewed: %s", name, error)

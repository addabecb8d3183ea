"""Settling: finished attempts are gathered and recorded in plural, whatever the store does.

While settlements can't be stored no send starts; what is finished waits in memory and goes first
when the store is back. A store that does not answer is such a one, too: it may be out of reach
without anybody saying so, and what was sent then would be sent again by another node.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable

from tocsin.domain.errors import Unavailable
from tocsin.storage.base import DataPlane, Settled, Settlement
from tocsin.telemetry.counts import SettleCounts

SETTLEMENTS_PER_BATCH_MAX = 2_000
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
ANSWER_SECONDS_MAX = 2.0
GATHER_FROM = 256
GATHER_SECONDS_MAX = 0.01
"""A transaction of a few costs as much as one of hundreds: after a batch as large as that, the next
one waits so long for more of its kind."""

_log = logging.getLogger("tocsin.engine")

Done = Callable[[Settlement], None]


class Settler:
    """Owns the finished attempts between their reply and their commit."""

    def __init__(self, store: DataPlane, applied: Callable[[Settled], None]) -> None:
        self._store = store
        self._applied = applied
        self._finished: deque[tuple[Settlement, Done]] = deque()
        self._wake = asyncio.Event()
        self._asked_at = math.inf
        self.healthy = True
        self.unsettled = 0
        self.counts = SettleCounts()

    @property
    def ready(self) -> bool:
        """Whether a send may start: what comes of it can be stored."""
        if self._asked_at == math.inf:
            return self.healthy
        waited = asyncio.get_running_loop().time() - self._asked_at
        return self.healthy and waited < ANSWER_SECONDS_MAX

    def put(self, settlement: Settlement, done: Done) -> None:
        """Record it as soon as may be; `done` is called when that is committed."""
        self._finished.append((settlement, done))
        self.unsettled += 1
        self._wake.set()

    async def run(self) -> None:
        """Settle until cancelled; a cancel between two batches loses nothing."""
        size = 0
        while True:
            if not self._finished:
                self._wake.clear()
                await self._wake.wait()
            if size >= GATHER_FROM and len(self._finished) < size // 2:
                await asyncio.sleep(GATHER_SECONDS_MAX)
            size = await self._settle_some()

    async def flush(self) -> None:
        """Settle everything that is finished now."""
        while self._finished:
            await self._settle_some()

    async def _settle_some(self) -> int:
        """Settle one batch; returns how many it was."""
        batch: list[tuple[Settlement, Done]] = []
        self._asked_at = asyncio.get_running_loop().time()
        try:
            await self._store.turn()
            batch += [
                self._finished.popleft()
                for _ in range(min(len(self._finished), SETTLEMENTS_PER_BATCH_MAX))
            ]
            settled = await self._store_until_done([item for item, _ in batch])
        except BaseException:
            self._finished.extendleft(reversed(batch))
            raise
        finally:
            self._asked_at = math.inf
        self.unsettled -= len(batch)
        self._count(batch, settled)
        for settlement, done in batch:
            done(settlement)
        self._applied(settled)
        return len(batch)

    def _count(self, batch: list[tuple[Settlement, Done]], settled: Settled) -> None:
        lost = settled.superseded
        self.counts.settled([item.status for item, _ in batch if not lost or item.id not in lost])
        self.counts.superseded += len(lost)
        self.counts.disabled += len(settled.disabled)
        self.counts.opened += len(settled.opened)

    async def _store_until_done(self, items: list[Settlement]) -> Settled:
        tries = 0
        while True:
            try:
                settled = await self._store.settle(items)
            except Unavailable as error:
                if self.healthy:
                    self.healthy = False
                    _log.error("attempts can't be recorded, sending stops: %s", error)
                await asyncio.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
                tries += 1
                continue
            if not self.healthy:
                self.healthy = True
                _log.warning("attempts are recorded again, sending goes on")
            return settled

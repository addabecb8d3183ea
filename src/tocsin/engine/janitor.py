"""The janitor: now and then repairs, forgets and carries on what is not on anybody's way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tocsin.domain.errors import Unavailable

_log = logging.getLogger("tocsin.engine")


class Chore:
    """One thing to do every so many seconds; `again` does it soon."""

    def __init__(self, name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self._seconds = seconds
        self._work = work
        self._wake = asyncio.Event()
        self.succeeded = 0.0  # by the loop's clock
        self.failures = 0

    def again(self) -> None:
        """Do it now instead of when its time comes."""
        self._wake.set()

    async def run(self) -> None:
        """Do it until cancelled; a failure is logged and tried again, the store's own in peace."""
        loop = asyncio.get_running_loop()
        self.succeeded = loop.time()
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._work()
                self.succeeded = loop.time()
            except Unavailable as error:
                self.failures += 1
                _log.warning("%s waits for the database: %s", self.name, error)
            except Exception:
                self.failures += 1
                _log.exception("%s failed", self.name)

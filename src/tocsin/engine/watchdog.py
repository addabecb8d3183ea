"""The watchdog: nothing that runs on an event loop could tell that the loop stands still."""

import asyncio
import faulthandler
import logging
import os
import threading
from collections.abc import Coroutine
from typing import Any

ROUND_SECONDS = 1.0
STANDSTILL_SECONDS = 30.0

_log = logging.getLogger("tocsin")


async def in_rounds(
    work: Coroutine[Any, Any, None], seconds: float, *, round_seconds: float = ROUND_SECONDS
) -> None:
    """Wait for work for so long; raises TimeoutError.

    Rounds are counted, as below: time in which the whole process did not run is one at most.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(round(seconds / round_seconds)):
            if (await asyncio.wait((task,), timeout=round_seconds))[0]:
                return await task
    finally:
        task.cancel()
    raise TimeoutError


class Watchdog:
    """Ends the process when its event loop stands still.

    It counts its own rounds: time in which the whole process did not run (SIGSTOP) is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stop = threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._run, name="tocsin-watchdog", daemon=True).start()

    def __exit__(self, *error: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        answered = threading.Event()
        answered.set()
        rounds = 0
        while not self._stop.wait(ROUND_SECONDS):
            if answered.is_set():
                rounds = 0
                answered.clear()
                self._loop.call_soon_threadsafe(answered.set)
            else:
                rounds += 1
            if rounds * ROUND_SECONDS >= STANDSTILL_SECONDS:
                _log.critical("the event loop stands still: the process ends")
                faulthandler.dump_traceback()
                os._exit(1)

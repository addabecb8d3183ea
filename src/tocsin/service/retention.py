"""Retention: what waited too long ends, what is finished and old is removed, step by step.

Done by one node at a time. Each step is a transaction that is right whoever else does the same, and
counts what it removes; between two steps there is a pause, longer while events are published.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

from tocsin.clock import Clock
from tocsin.domain.ids import floor
from tocsin.storage.base import Store
from tocsin.storage.control import Connection, retention
from tocsin.storage.control.retention import Late, Overdue
from tocsin.telemetry.families import DELIVERIES_FINISHED, PURGED
from tocsin.telemetry.instruments import Sample, Tally

ROWS_LOOKED_AT_MAX = 5_000
ENDED_PER_STEP_MAX = 500
FORGOTTEN_PER_STEP_MAX = 1_000
STEPS_MAX = 10_000
ROUND_SECONDS_MAX = 600.0
TELL_SECONDS = 30.0

QUIET_SHARE, BUSY_SHARE = 0.5, 0.2
"""Of the writer's time, without and with events being published."""
PAUSE_SECONDS_MAX = 1.0

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

_log = logging.getLogger(__name__)


class Retention:
    """Keeps the log for `days`, and lets nothing wait longer than `waiting_hours`.

    `published` counts the events of this node; `wake` is `Dispatch.wake`.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        days: int,
        waiting_hours: int,
        published: Callable[[], int],
        wake: Callable[[int], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._days_ms = days * DAY_MS
        self._waiting_ms = waiting_hours * HOUR_MS
        # By then even what a person has re-opened must end.
        self._last_ms = max(self._days_ms - DAY_MS, self._waiting_ms)
        self._published = published
        self._wake = wake
        self._ended = Tally(DELIVERIES_FINISHED)
        self._purged = Tally(PURGED)

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        yield from self._ended.samples()
        yield from self._purged.samples()

    async def run_once(self) -> None:
        """One round; of what takes long, as much as fits into ten minutes."""
        before_ms = self._clock.wall_ms() - self._days_ms
        await self._store.write(lambda c: retention.set_horizon(c, floor(before_ms)))
        await self.expire()
        await self._purge(before_ms)
        await self._forget(before_ms)

    # What waits

    async def expire(self) -> int:
        """End what has waited too long; returns how many."""
        now_ms = self._clock.wall_ms()
        overdue = Overdue(
            through=floor(now_ms - self._waiting_ms),
            last=floor(now_ms - self._last_ms),
            spared_ms=self._waiting_ms,
        )
        ended, above = 0, None
        while True:
            late = await self._late(overdue, above)
            for at in range(0, len(late.found), ENDED_PER_STEP_MAX):
                ended += await self._end(late.found[at : at + ENDED_PER_STEP_MAX], overdue)
            if late.further is None:
                break
            above = late.further
        if ended:
            _log.warning("%d deliveries have waited too long and are given up", ended)
            self._wake(self._clock.storage_ms())
        return ended

    async def _late(self, overdue: Overdue, above: list[Any] | None) -> Late:
        return await self._store.read(
            lambda c: retention.late(c, overdue, above=above, rows_max=ROWS_LOOKED_AT_MAX)
        )

    async def _end(self, found: list[Any], overdue: Overdue) -> int:
        wall_ms, storage_ms = self._clock.wall_ms(), self._clock.storage_ms()

        def step(connection: Connection) -> int:
            return len(
                retention.expire(
                    connection,
                    found,
                    overdue,
                    node=self._store.node,
                    wall_ms=wall_ms,
                    storage_ms=storage_ms,
                )
            )

        began = self._clock.monotonic()
        count = await self._store.write(step)
        self._ended["exhausted",] += count
        await self._pause(self._clock.monotonic() - began, BUSY_SHARE)
        return count

    # What is old

    async def _purge(self, before_ms: int) -> None:
        began = told = self._clock.monotonic()
        rows, published = 0, self._published()
        while True:
            step_began = self._clock.monotonic()
            done = await self._store.purge(before_ms)
            now = self._clock.monotonic()
            for name in retention.COUNTED:
                self._purged[name,] += getattr(done, name)
            rows += done.rows
            if not done.more or now - began > ROUND_SECONDS_MAX:
                break
            if now - told > TELL_SECONDS:
                told = now
                _log.info("removing what is past its retention: %d rows so far", rows)
            if done.rows:
                busy, published = self._published() != published, self._published()
                await self._pause(now - step_began, BUSY_SHARE if busy else QUIET_SHARE)
        if rows:
            left = ", and there is more" if done.more else ""
            _log.info(
                "removed %d rows past their retention in %.1f s%s",
                rows,
                self._clock.monotonic() - began,
                left,
            )

    async def _forget(self, before_ms: int) -> None:
        for _ in range(STEPS_MAX):
            began = self._clock.monotonic()
            if not await self._store.write(
                lambda c: retention.forget(c, before_ms=before_ms, rows_max=FORGOTTEN_PER_STEP_MAX)
            ):
                return
            await self._pause(self._clock.monotonic() - began, BUSY_SHARE)

    async def _pause(self, took: float, share: float) -> None:
        await asyncio.sleep(min(took * (1 / share - 1), PAUSE_SECONDS_MAX))

"""Serving: which minutes this node was there for events from beginning to end.

Alert rules that watch for fewer events ask: a minute in which nobody could accept any is unknown,
and no drop.
"""

from collections.abc import Callable

from tocsin.clock import Clock
from tocsin.domain.alerts import MINUTE_MS, WINDOW_MINUTES_MAX
from tocsin.storage.base import Store
from tocsin.storage.control import alerting

LOOK_SECONDS = 5.0
BREAK_MS = 25_000
"""A node that has not looked for so long may have accepted nothing in the meantime."""
SHIFT_MS = 2_000
"""By more than this, wall time and the machine's own differ only where a clock was set."""
KEPT_MINUTES = 2 * WINDOW_MINUTES_MAX + 60
ROWS_PER_STEP_MAX = 5_000


class Serving:
    """Notes the minutes during all of which this node accepted events."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        ready: Callable[[], bool],
        refused: Callable[[], int],
    ) -> None:
        """`refused` is how many events could not be stored so far, by no fault of theirs."""
        self._store = store
        self._clock = clock
        self._ready = ready
        self._refused = refused
        self._refused_before = refused()
        self._since_ms: int | None = None
        self._looked_ms = 0
        self._looked_at = 0.0
        self._noted = 0

    async def look(self) -> None:
        """Look whether events are accepted, and note the minutes that have passed since they are;
        to be done every few seconds."""
        now_ms, at = self._clock.wall_ms(), self._clock.monotonic()
        passed_ms = now_ms - self._looked_ms
        shifted = abs(passed_ms - (at - self._looked_at) * 1000) > SHIFT_MS
        if not self._accepted():
            self._since_ms = None
        elif self._since_ms is None or shifted or not 0 <= passed_ms <= BREAK_MS:
            self._since_ms = now_ms
        self._looked_ms, self._looked_at = now_ms, at
        if self._since_ms is not None:
            await self._note(-(-self._since_ms // MINUTE_MS), now_ms // MINUTE_MS)

    def _accepted(self) -> bool:
        """Whether events were accepted since the last look."""
        before, self._refused_before = self._refused_before, self._refused()
        return self._ready() and self._refused_before == before

    async def _note(self, first: int, until: int) -> None:
        new = range(max(first, self._noted + 1), until)
        if not new:
            return
        node = self._store.node
        await self._store.write(lambda c: alerting.serve(c, new, node=node))
        self._noted = new[-1]
        before = until - KEPT_MINUTES
        await self._store.write(
            lambda c: alerting.forget_served(c, before_minute=before, rows_max=ROWS_PER_STEP_MAX)
        )

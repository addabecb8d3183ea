"""The only place that reads the time; everything else is handed a `Clock` or a number."""

import time
from collections.abc import Callable

FOLLOW_MS = 2
"""By so much storage time is put right at once, every few seconds."""
FOLLOW_STEP_MS = 1_000
"""Clocks that differ by more have been set."""


class Clock:
    """Wall time for stamps that people see, storage time for due times and leases.

    `wall_ms` follows the machine's clock, steps included. `storage_ms` starts at wall time, never
    below `floor_ms` (the latest stamp in the store), and then runs on the monotonic clock, so a
    step of the wall clock neither hurries nor stalls a waiting retry. Where even the monotonic
    clock goes back (a machine restored from a snapshot), storage time goes on from where it was.

    The two sources are given by tests.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._base_ms = wall_ns() // 1_000_000 - monotonic_ns() // 1_000_000
        self._latest_ms = 0
        self._follows = False

    def start_above(self, floor_ms: int) -> None:
        """Move storage time up so that it never goes below what is stored."""
        behind = floor_ms - self.storage_ms()
        if behind > 0:
            self._base_ms += behind

    def follow(self, now_ms: int, at: float) -> None:
        """Take over another clock, that of a database: it showed `now_ms` at `at` (monotonic, s).

        The first time it is taken as it is. From then on storage time runs on the monotonic clock
        and is put right by a little each time; it follows a step forward, and none back.
        """
        base_ms = now_ms - int(at * 1000)
        if not self._follows:
            self._follows = True
            self._base_ms, self._latest_ms = base_ms, 0
            return
        behind_ms = base_ms - self._base_ms
        if behind_ms > FOLLOW_STEP_MS:
            self._base_ms = base_ms
        elif behind_ms >= -FOLLOW_STEP_MS:
            self._base_ms += max(-FOLLOW_MS, min(FOLLOW_MS, behind_ms))

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return self._wall_ns() // 1_000_000

    def storage_ms(self) -> int:
        """Milliseconds for due times, holds and leases; never goes back within a process."""
        now_ms = self._base_ms + self._monotonic_ns() // 1_000_000
        if now_ms < self._latest_ms:
            self._base_ms += self._latest_ms - now_ms
            return self._latest_ms
        self._latest_ms = now_ms
        return now_ms

    def monotonic(self) -> float:
        """Seconds, for measuring durations."""
        return self._monotonic_ns() / 1e9

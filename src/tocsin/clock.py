"""The only place that reads the time; everything else is handed a `Clock` or a number."""

import time


class Clock:
    """Wall time for stamps that people see, storage time for due times and leases.

    `wall_ms` follows the machine's clock, steps included. `storage_ms` starts at wall time, never
    below `floor_ms` (the latest stamp in the store), and then runs on the monotonic clock, so a
    step of the wall clock neither hurries nor stalls a waiting retry.
    """

    def __init__(self) -> None:
        self._base_ms = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    def start_above(self, floor_ms: int) -> None:
        """Move storage time up so that it never goes below what is stored."""
        behind = floor_ms - self.storage_ms()
        if behind > 0:
            self._base_ms += behind

    def wall_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def storage_ms(self) -> int:
        """Milliseconds for due times, holds and leases; never goes back within a process."""
        return self._base_ms + time.monotonic_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds, for measuring durations."""
        return time.monotonic()

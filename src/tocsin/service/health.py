"""Whether this process can do its work."""

from tocsin.clock import Clock

PING_SECONDS = 1.0
"""How often the database is asked."""


class Health:
    """Ready while no part has failed and the database has answered lately."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered = -1e9
        self.failed = False

    def answered(self) -> None:
        """The database has answered just now."""
        self._answered = self._clock.monotonic()

    def ready(self) -> bool:
        """Whether work can be taken; never blocks."""
        return not self.failed and self._clock.monotonic() - self._answered < 4 * PING_SECONDS

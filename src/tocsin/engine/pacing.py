"""A lane whose attempts fail at once, and without a reply, is not tried as fast as it can fail.

A name that does not resolve, an address that is refused, a port that is closed: no target slows
these down, each costs this node as much as a delivery, and most of them no breaker counts. So after
a few in a row the lane pauses, longer after each. A reply ends it, whatever it says.

The longest pause is the shortest step of a schedule, and the shortest cooldown of a breaker: what
is tried once per step or cooldown never notices.
"""

PAUSE_MS_MIN = 10
PAUSE_MS_MAX = 1_000
FREE = 8
"""So many in a row make no difference."""
PACED_HELD = 8
"""What a lane that pauses can send soon, and is worth holding in memory."""


class Pacing:
    """A row of failures without a reply, and the pause after the last; times are storage ms."""

    __slots__ = ("_failures", "pause_ms", "until_ms")

    def __init__(self) -> None:
        self._failures = 0
        self.pause_ms = 0
        self.until_ms = 0

    def failed(self, lasted_ms: int, now_ms: int) -> None:
        """One more. It makes no difference if it took long by itself, or if it had begun before
        the pause that there is."""
        if lasted_ms >= PAUSE_MS_MAX or now_ms < self.until_ms:
            return
        self._failures += 1
        if self._failures > FREE:
            self.pause_ms = min(PAUSE_MS_MAX, self.pause_ms * 2 or PAUSE_MS_MIN)
            self.until_ms = now_ms + self.pause_ms

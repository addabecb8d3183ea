"""Which lanes are slow: their mean attempt takes over a second, unfinished ones counted.

Looked at a few times a second, so that an attempt costs nothing but a count. By Little's law the
mean time is what was under way, over time, per attempt that ended. That alone would take long to
tell of a fast target that begins to hang, so one more thing makes a lane slow: most of its attempts
were there a second ago.
"""

from collections import deque

TICK_SECONDS = 0.25
SLOW_SECONDS = 1.0
_MARKS = 4
_FADING = 0.9375
"""What is remembered fades within about 4 s."""
_NOTHING = 0.01


class Pace:
    """How fast one lane's attempts end."""

    __slots__ = ("_ended", "_ended_lately", "_load_seconds", "_marks")

    def __init__(self) -> None:
        self._load_seconds = 0.0
        self._ended = 0.0
        # (under way, ended) of the last ticks, the oldest first.
        self._marks: deque[tuple[int, int]] = deque(maxlen=_MARKS)
        self._ended_lately = 0

    def tick(self, in_flight: int, ended: int, seconds: float) -> bool:
        """Note what is under way, and what ended in the last `seconds`; returns whether the lane
        is slow."""
        self._load_seconds = self._load_seconds * _FADING + in_flight * seconds
        self._ended = self._ended * _FADING + ended
        stuck = 0
        if len(self._marks) == _MARKS:
            oldest, oldest_ended = self._marks[0]
            self._ended_lately -= oldest_ended
            # At least so many have been under way for all the time since that mark.
            stuck = oldest - self._ended_lately - ended
        self._marks.append((in_flight, ended))
        self._ended_lately += ended
        if 2 * stuck > in_flight:
            return True
        known = self._ended + in_flight
        return known > _NOTHING and self._load_seconds > SLOW_SECONDS * known

    @property
    def faded(self) -> bool:
        """Whether nothing worth remembering is left."""
        return self._load_seconds < _NOTHING and self._ended < _NOTHING

"""How long attempts took, as counts in 48 buckets of a logarithmic scale; pure.

Bucket 0 is everything below 1.25 ms, each further one reaches 1.25 times as far, and the last one
takes all from 35.9 s on: no attempt lasts much over 30 s. Counts of any number of nodes and minutes
are simply added, and a percentile read from them is at most 25 % off.
"""

from bisect import bisect_right
from collections.abc import Sequence

BUCKETS = 48
FACTOR = 1.25

_BOUNDS = tuple(FACTOR**at for at in range(BUCKETS + 1))
"""Bucket `at` reaches from `_BOUNDS[at]` to `_BOUNDS[at + 1]`; under a millisecond counts as 1."""

_LAST = BUCKETS - 1
# Every attempt of every channel is looked up here: a table is several times faster than a search.
_BUCKET_OF = bytes(bisect_right(_BOUNDS, max(ms, 1)) - 1 for ms in range(int(_BOUNDS[_LAST]) + 1))


def bucket_of(duration_ms: int) -> int:
    """The bucket of a duration, whatever number that is."""
    if 0 <= duration_ms < len(_BUCKET_OF):
        return _BUCKET_OF[duration_ms]
    return 0 if duration_ms < 0 else _LAST


def percentile(counts: Sequence[int], percent: float) -> float | None:
    """The duration (ms) that so many percent of all do not exceed; None without any.

    It is the nearest rank's, interpolated within its bucket.
    """
    total = sum(counts)
    if total <= 0:
        return None
    rank = min(max(percent / 100 * total, 1.0), float(total))
    below = 0
    for at, count in enumerate(counts):
        if count > 0 and below + count >= rank:
            low, high = _BOUNDS[at], _BOUNDS[at + 1]
            return low + (high - low) * (rank - below) / count
        below += count
    return _BOUNDS[BUCKETS]

"""How often somebody may ask: token buckets, one per name, in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Callable

from msgspec import Struct

NAMES_MAX = 20_000

_MINUTE = 60.0


class Budget(Struct, frozen=True):
    """What is left after a request: `allowed` says whether it may go on.

    `reset_seconds` is when the whole budget is back, `retry_after_seconds` when one request is.
    A limit of 0 means that none applies.
    """

    allowed: bool = True
    limit: int = 0
    remaining: int = 0
    reset_seconds: int = 0
    retry_after_seconds: int = 0


UNLIMITED = Budget()


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens = tokens
        self.at = at


class TokenBuckets:
    """A budget of `per_minute` requests for each name, refilled steadily; 0 is off.

    At most `burst` (default: a minute's worth) is there at once. When `names_max` names are known
    the one that asked longest ago is forgotten, which at worst gives it a full budget again.
    """

    def __init__(
        self,
        per_minute: int,
        monotonic: Callable[[], float],
        names_max: int = NAMES_MAX,
        burst: int | None = None,
    ) -> None:
        self._per_minute = per_minute
        self._burst = per_minute if burst is None else burst
        self._per_second = per_minute / _MINUTE
        self._monotonic = monotonic
        self._names_max = names_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, name: str, count: int = 1) -> Budget:
        """Use some of the name's budget, if any is left; what is too much is owed."""
        if not self._per_minute:
            return UNLIMITED
        bucket = self._refilled(name)
        allowed = bucket.tokens >= 1.0
        if allowed:
            bucket.tokens -= count
        return self._budget(bucket, allowed)

    def look(self, name: str) -> Budget:
        """The name's budget, untouched."""
        if not self._per_minute:
            return UNLIMITED
        bucket = self._buckets.get(name) or _Bucket(self._burst, self._monotonic())
        return self._budget(bucket, bucket.tokens >= 1.0)

    def _refilled(self, name: str) -> _Bucket:
        now = self._monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            while len(self._buckets) >= self._names_max:
                self._buckets.popitem(last=False)
            bucket = self._buckets[name] = _Bucket(self._burst, now)
            return bucket
        self._buckets.move_to_end(name)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._per_second)
        bucket.at = now
        return bucket

    def _budget(self, bucket: _Bucket, allowed: bool) -> Budget:
        missing = self._burst - bucket.tokens
        return Budget(
            allowed=allowed,
            limit=self._per_minute,
            remaining=max(0, int(bucket.tokens)),
            reset_seconds=math.ceil(missing / self._per_second),
            retry_after_seconds=0 if allowed else self._wait(bucket),
        )

    def _wait(self, bucket: _Bucket) -> int:
        return max(1, math.ceil((1.0 - bucket.tokens) / self._per_second))

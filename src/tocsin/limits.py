"""How often somebody may ask, or fail: counted by name, in bounded memory."""

import math
from collections import OrderedDict, deque
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


class Failures:
    """At most `failures_max` failed tries of a name within `window_seconds`.

    A try counts as failed from its beginning, so that many at once are no way around; `succeeded`
    takes it back. A maximum of 0 is none. When `names_max` names are known the one that tried
    longest ago is forgotten.
    """

    def __init__(
        self,
        failures_max: int,
        window_seconds: float,
        monotonic: Callable[[], float],
        names_max: int = NAMES_MAX,
    ) -> None:
        self._failures_max = failures_max
        self._window = window_seconds
        self._monotonic = monotonic
        self._names_max = names_max
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, name: str) -> int:
        """Seconds until the name may try again; 0: now."""
        tries = self._live(name)
        if not self._failures_max or len(tries) < self._failures_max:
            return 0
        return max(1, math.ceil(tries[0] + self._window - self._monotonic()))

    def begin(self, name: str) -> None:
        """Count a try."""
        if not self._failures_max:
            return
        while len(self._tries) >= self._names_max and name not in self._tries:
            self._tries.popitem(last=False)
        self._tries.setdefault(name, deque()).append(self._monotonic())
        self._tries.move_to_end(name)

    def succeeded(self, name: str, *, wholly: bool = False) -> None:
        """Take the last try back; `wholly` all of them."""
        tries = self._tries.get(name)
        if tries:
            tries.pop()
        if wholly or not tries:
            self._tries.pop(name, None)

    def _live(self, name: str) -> deque[float]:
        tries = self._tries.get(name)
        if tries is None:
            return deque()
        since = self._monotonic() - self._window
        while tries and tries[0] <= since:
            tries.popleft()
        return tries

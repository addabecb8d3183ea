"""The token bucket of a channel with a rate limit: at most `count` sends per `per_seconds`.

It lives in the memory of the node that serves the lane. Nobody knows what an earlier process sent
last, so a bucket starts with no more than what has come in since this one began: the rate holds
across a restart, and a slow one waits after it.
"""

from tocsin.domain.model import RateLimit

SOON_MS = 1_000
"""What can be sent within this is worth holding in memory."""


class Bucket:
    """Tokens that come back steadily, at most `count` at once; times are storage ms."""

    __slots__ = ("_at_ms", "_count", "_per_ms", "_tokens")

    def __init__(self, rate: RateLimit, *, since_ms: int, now_ms: int) -> None:
        self._count = rate.count
        self._per_ms = rate.count / (rate.per_seconds * 1000)
        self._at_ms = since_ms
        self._tokens = 0.0
        self._refill(now_ms)

    def change(self, rate: RateLimit, now_ms: int) -> None:
        """Another rate from now on; what was saved up stays, as far as it may."""
        self._refill(now_ms)
        self._count = rate.count
        self._per_ms = rate.count / (rate.per_seconds * 1000)
        self._tokens = min(self._tokens, self._count)

    def take(self, now_ms: int) -> bool:
        """Use a token, if there is one."""
        self._refill(now_ms)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def put_back(self) -> None:
        """The token was not used after all."""
        self._tokens = min(self._tokens + 1, self._count)

    def next_ms(self, now_ms: int) -> int:
        """When there is a token: now, or later."""
        self._refill(now_ms)
        missing = 1 - self._tokens
        return now_ms if missing <= 0 else now_ms + int(missing / self._per_ms) + 1

    def soon(self, now_ms: int) -> int:
        """How many tokens there are soon."""
        self._refill(now_ms)
        return int(self._tokens + SOON_MS * self._per_ms)

    def full(self, now_ms: int) -> bool:
        """Whether nothing is missing: then it may be forgotten."""
        self._refill(now_ms)
        return self._tokens >= self._count

    def _refill(self, now_ms: int) -> None:
        if now_ms > self._at_ms:
            gained = (now_ms - self._at_ms) * self._per_ms
            self._tokens = min(self._count, self._tokens + gained)
            self._at_ms = now_ms

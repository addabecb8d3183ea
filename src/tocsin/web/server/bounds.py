"""What a client may hold open, and for how long."""

from collections import Counter
from collections.abc import Iterator

from tocsin.config import Settings
from tocsin.telemetry.families import HTTP_CONNECTIONS, HTTP_REFUSED
from tocsin.telemetry.instruments import Sample, Tally
from tocsin.web.address import Addresses, is_loopback

HEAD_BYTES_MAX = 32_768
HEAD_FIELDS_MAX = 100
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
REST_SECONDS = 5.0
"""For the rest of a body after its reply."""


class Bounds:
    """Limits that all connections share, and who holds how many."""

    def __init__(
        self,
        settings: Settings,
        *,
        head_seconds: float = HEAD_SECONDS,
        body_seconds: float = BODY_SECONDS,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self.head_seconds = head_seconds
        self.body_seconds = body_seconds
        self.rest_seconds = min(rest_seconds, body_seconds)
        self._connections_max = settings.connections_max
        self._per_address_max = settings.connections_per_address_max
        self._addresses = Addresses(settings.trusted_proxies)
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self.refused = Tally(HTTP_REFUSED)

    def enter(self, address: str) -> bool:
        """Count a connection; false when it is one too many."""
        self._total += 1
        self._by_address[address] += 1
        if self._total > self._connections_max:
            return False
        if self._by_address[address] <= self._per_address_max:
            return True
        return is_loopback(address) or self._addresses.trusts(address)

    def leave(self, address: str) -> None:
        """A connection has ended."""
        self._total -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def samples(self) -> Iterator[Sample]:
        """What a scrape of the metrics asks for."""
        yield Sample(HTTP_CONNECTIONS, (), self._total)
        yield from self.refused.samples()

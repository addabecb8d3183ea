"""What each part counts while it works: one object a part, which nobody else writes to.

`samples` gives the samples of a scrape; what a part can tell without counting (how long a queue is)
it tells itself, where it is asked.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from tocsin.domain.model import Status
from tocsin.telemetry import families as of
from tocsin.telemetry.instruments import Histogram, Sample, Tally

RAW_MAX = 2_000
"""So many durations are noted before they are counted."""
MS = 0.001
"""Durations are counted in milliseconds and told in seconds."""


class PublishCounts:
    """What becomes of published events."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicate = 0
        self.unmatched = 0
        self.deliveries = 0
        self.refused = 0
        """Could not be stored, by no fault of theirs; no metric."""
        self.batches = Histogram(of.PUBLISH_BATCH)

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        yield Sample(of.EVENTS_ACCEPTED, (), self.accepted)
        yield Sample(of.EVENTS_DUPLICATE, (), self.duplicate)
        yield Sample(of.EVENTS_UNMATCHED, (), self.unmatched)
        yield Sample(of.DELIVERIES_CREATED, (), self.deliveries)
        yield from self.batches.samples()


class AttemptCounts:
    """The attempts of a node, by channel type."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}
        self._delays = Histogram(of.FIRST_ATTEMPT_SECONDS, scale=MS)

    def attempt(
        self,
        channel_type: str,
        outcome: str,
        error: str | None,
        took_ms: int,
        delay_ms: int | None,
    ) -> None:
        """An attempt has its outcome; `error` begins with the reason's code.

        `delay_ms` is from the event's acceptance to the start of a first attempt. Nearly every
        delivery of the service comes by here, so it only takes notes.
        """
        try:
            kind = self._kinds[channel_type]
        except KeyError:
            kind = self._kinds[channel_type] = _Kind(channel_type)
        if error is not None:
            kind.failed[channel_type, outcome, error.partition(":")[0]] += 1
        taken = kind.raw
        taken.append(took_ms)
        if delay_ms is not None:
            # It is negative after the wall clock was put back.
            self._delays.raw.append(delay_ms if delay_ms > 0 else 0)
        if len(taken) >= RAW_MAX:
            kind.fold()
            self._delays.fold()

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        for name, kind in sorted(dict(self._kinds).items()):
            delivered = kind.count - sum(kind.failed.values())
            yield Sample(of.ATTEMPTS, (name, "delivered", ""), delivered)
            yield from kind.failed.samples()
            yield from kind.samples()
        yield from self._delays.samples()


class _Kind(Histogram):
    __slots__ = ("failed",)

    def __init__(self, channel_type: str) -> None:
        super().__init__(of.ATTEMPT_SECONDS_TAKEN, channel_type, scale=MS)
        self.failed = Tally(of.ATTEMPTS)


class SettleCounts:
    """What recording attempts has done."""

    def __init__(self) -> None:
        self._finished = Tally(of.DELIVERIES_FINISHED)
        self._batches = Histogram(of.SETTLE_BATCH)
        self.superseded = 0
        self.disabled = 0
        self.opened = 0

    def settled(self, statuses: Sequence[str]) -> None:
        """These deliveries have got their statuses in one transaction."""
        self._batches.observe(len(statuses))
        left = len(statuses)
        for status in _ENDS:
            if not left:
                return
            if count := statuses.count(status):
                self._finished[status,] += count
                left -= count

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        yield from self._finished.samples()
        yield from self._batches.samples()
        yield Sample(of.ATTEMPTS_SUPERSEDED, (), self.superseded)
        yield Sample(of.CHANNELS_DISABLED, (), self.disabled)
        yield Sample(of.BREAKERS_OPENED, (), self.opened)


_ENDS = (Status.DELIVERED.value, Status.EXHAUSTED.value, Status.REJECTED.value)


class StoreCounts:
    """Write transactions."""

    def __init__(self) -> None:
        self._outcomes = Tally(of.STORE_TRANSACTIONS)
        self._operations = Histogram(of.STORE_OPERATIONS)
        self._seconds = Histogram(of.STORE_SECONDS)
        self._commits = Histogram(of.STORE_COMMIT_SECONDS)

    def committed(self, operations: int, began: float, ready: float, ended: float) -> None:
        """A transaction of so many operations is committed; the commit itself began when it was
        `ready`. In seconds of any one clock."""
        self._outcomes["committed",] += 1
        self._operations.observe(operations)
        self._seconds.observe(ended - began)
        self._commits.observe(ended - ready)

    def failed(self, outcome: str) -> None:
        """A transaction was rolled back, or its commit's outcome is unknown."""
        self._outcomes[outcome,] += 1

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        for part in (self._outcomes, self._operations, self._seconds, self._commits):
            yield from part.samples()


class RequestCounts:
    """Requests that were answered, and events that were not taken."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], Calls] = {}
        self._refused = Tally(of.EVENTS_REFUSED)

    def calls(self, dialect: str, method: str) -> "Calls":
        """The requests of a dialect; `method` is read or write."""
        calls = self._calls.get((dialect, method))
        if calls is None:
            calls = self._calls[dialect, method] = Calls(dialect, method)
        return calls

    def refused(self, code: str) -> None:
        """An event was not taken."""
        self._refused[code,] += 1

    def samples(self) -> Iterator[Sample]:
        """The samples of a scrape."""
        for _, calls in sorted(dict(self._calls).items()):
            yield from calls.statuses()
            yield from calls.samples()
        yield from self._refused.samples()


class Calls(Histogram):
    """Requests of one dialect and method class."""

    __slots__ = ("_names", "_statuses")

    def __init__(self, dialect: str, method: str) -> None:
        super().__init__(of.HTTP_SECONDS, dialect, method)
        self._names = (dialect, method)
        self._statuses = [0] * 6

    def answered(self, status: int, seconds: float) -> None:
        """One is answered."""
        self._statuses[status // 100] += 1
        self._counts[bisect_left(_REQUEST_SECONDS, seconds)] += 1
        self._total += seconds

    def statuses(self) -> Iterator[Sample]:
        """How many there were of each class."""
        for hundreds, count in enumerate(self._statuses):
            if count:
                yield Sample(of.HTTP_REQUESTS, (*self._names, f"{hundreds}xx"), count)


_REQUEST_SECONDS = of.HTTP_SECONDS.bounds

"""Plain numbers that count, and what is read of them.

None has a lock: each is written by one thread, and a reader that is a moment behind does no harm.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from tocsin.telemetry.families import Family


class Buckets(Struct, frozen=True):
    """What a histogram has seen: how many up to each bound and above the last, and their sum."""

    counts: tuple[int, ...]
    total: float


class Sample(Struct, frozen=True):
    """One value of a family, with its labels' values in the family's order."""

    family: Family
    labels: tuple[str, ...]
    value: float | Buckets


Source = Callable[[], Iterable[Sample]]


class Tally(defaultdict[tuple[str, ...], int]):
    """Counts by labels: `tally["delivered",] += 1`."""

    def __init__(self, family: Family) -> None:
        super().__init__(int)
        self._family = family

    def samples(self) -> Iterator[Sample]:
        """The counts, the labels in order."""
        for labels, count in sorted(self.copy().items()):
            yield Sample(self._family, labels, count)

    def copy(self) -> "dict[tuple[str, ...], int]":  # type: ignore[override]
        """A plain copy, made in one step of the interpreter: another thread may be counting."""
        return dict(self)


class Histogram:
    """Counts values by bounds; `scale` is what one unit of them is in the unit of the bounds.

    Where every part of a microsecond counts, a caller does itself what `observe` does.
    """

    __slots__ = ("_family", "_labels", "_scale", "bounds", "counts", "total")

    def __init__(self, family: Family, *labels: str, scale: float = 1.0) -> None:
        self._family = family
        self._labels = labels
        self._scale = scale
        # Whole numbers are compared with whole numbers: that is twice as fast.
        self.bounds = [_whole(bound / scale) for bound in family.bounds]
        self.counts = [0] * (len(self.bounds) + 1)
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def samples(self) -> Iterator[Sample]:
        """What it has seen."""
        buckets = Buckets(tuple(self.counts), self.total * self._scale)
        yield Sample(self._family, self._labels, buckets)


def _whole(bound: float) -> float:
    return round(bound) if abs(bound - round(bound)) < 1e-9 else bound

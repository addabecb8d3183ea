"""Plain numbers that count, and what is read of them.

None has a lock: each is written by one thread, and a reader that is a moment behind does no harm.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
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

    Where every part of a microsecond counts, a caller appends to `raw` in place of `observe`, and
    calls `fold` when it is long: many values together cost far less.
    """

    __slots__ = ("_bounds", "_counts", "_family", "_labels", "_scale", "_total", "raw")

    def __init__(self, family: Family, *labels: str, scale: float = 1.0) -> None:
        self._family = family
        self._labels = labels
        self._scale = scale
        # Whole numbers are compared with whole numbers: that is twice as fast.
        self._bounds = [_whole(bound / scale) for bound in family.bounds]
        self._counts = [0] * (len(self._bounds) + 1)
        self._total: float = 0
        self.raw: list[float] = []

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def fold(self) -> None:
        """Count what is in `raw`."""
        if self.raw:
            for value, count in Counter(self.raw).items():
                self._counts[bisect_left(self._bounds, value)] += count
                self._total += value * count
            self.raw.clear()

    @property
    def count(self) -> int:
        """How many it has seen."""
        return sum(self._counts) + len(self.raw)

    def samples(self) -> Iterator[Sample]:
        """What it has seen."""
        self.fold()
        buckets = Buckets(tuple(self._counts), self._total * self._scale)
        yield Sample(self._family, self._labels, buckets)


def _whole(bound: float) -> float:
    return round(bound) if abs(bound - round(bound)) < 1e-9 else bound

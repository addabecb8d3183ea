"""Durations in buckets, and percentiles read from these."""

from random import Random

import pytest

from tocsin.domain.latency import BUCKETS, bucket_of, percentile


def counts_of(durations: list[int]) -> list[int]:
    counts = [0] * BUCKETS
    for duration in durations:
        counts[bucket_of(duration)] += 1
    return counts


def test_every_duration_has_a_bucket_and_longer_ones_have_no_lower() -> None:
    assert [bucket_of(ms) for ms in (-5, 0, 1)] == [0, 0, 0]
    assert bucket_of(30_000) < BUCKETS - 1
    assert [bucket_of(ms) for ms in (36_000, 10**6, 2**31, 2**70)] == [BUCKETS - 1] * 4
    found = [bucket_of(ms) for ms in range(40_000)]
    assert found == sorted(found)


def test_without_any_there_is_no_percentile() -> None:
    assert percentile([0] * BUCKETS, 50) is None
    assert percentile([], 99) is None


def test_of_one_duration_every_percentile_is_near() -> None:
    for ms in range(1, 40_000):
        for percent in (0, 50, 95, 100):
            found = percentile(counts_of([ms]), percent)
            assert found is not None
            assert ms * 0.75 <= found <= ms * 1.25, (ms, percent)


@pytest.mark.parametrize("seed", range(20))
def test_percentiles_are_at_most_a_quarter_off(seed: int) -> None:
    random = Random(seed)
    spread = random.choice((3, 50, 1_000, 30_000))
    durations = sorted(
        min(max(1, round(random.lognormvariate(0, 2) * spread / 10)), 40_000)
        for _ in range(random.randrange(1, 2_000))
    )
    for percent in (50, 90, 95, 99):
        rank = max(1, -(-percent * len(durations) // 100))
        exact = durations[rank - 1]
        found = percentile(counts_of(durations), percent)
        assert found is not None
        assert exact * 0.75 <= found <= exact * 1.25


def test_added_counts_are_those_of_all() -> None:
    one, other = [5, 70, 700], [6, 7_000]
    both = [a + b for a, b in zip(counts_of(one), counts_of(other), strict=True)]
    assert both == counts_of(one + other)

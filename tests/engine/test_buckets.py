"""Token buckets: never more than the rate, whenever they are asked."""

from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.model import RateLimit
from tocsin.engine.buckets import Bucket

TEN = RateLimit(count=10, per_seconds=1)


def test_it_starts_with_what_has_come_in_since() -> None:
    assert not Bucket(TEN, since_ms=1_000, now_ms=1_000).take(1_000)
    later = Bucket(TEN, since_ms=1_000, now_ms=1_250)
    assert [later.take(1_250) for _ in range(3)] == [True, True, False]
    full = Bucket(TEN, since_ms=0, now_ms=10**9)
    assert [full.take(10**9) for _ in range(11)] == [True] * 10 + [False]


def test_it_says_when_the_next_token_comes() -> None:
    bucket = Bucket(RateLimit(count=1, per_seconds=60), since_ms=0, now_ms=0)
    at_ms = bucket.next_ms(0)
    assert 60_000 <= at_ms <= 60_001
    assert not bucket.take(at_ms - 2)
    assert bucket.take(at_ms)
    assert bucket.next_ms(at_ms) > at_ms
    bucket.put_back()
    assert bucket.next_ms(at_ms) == at_ms


def test_another_rate_keeps_what_was_saved_as_far_as_it_may() -> None:
    bucket = Bucket(TEN, since_ms=0, now_ms=5_000)
    bucket.change(RateLimit(count=2, per_seconds=10), 5_000)
    assert [bucket.take(5_000) for _ in range(3)] == [True, True, False]


def test_what_can_be_sent_soon_is_what_may_be_held() -> None:
    assert Bucket(TEN, since_ms=0, now_ms=0).soon(0) == 10
    assert Bucket(RateLimit(count=1, per_seconds=60), since_ms=0, now_ms=0).soon(0) == 0


@given(
    st.integers(1, 50),
    st.integers(1, 100),
    st.lists(st.integers(0, 5_000), min_size=1, max_size=200),
)
def test_the_rate_is_never_exceeded(count: int, per_seconds: int, waits: list[int]) -> None:
    bucket = Bucket(RateLimit(count=count, per_seconds=per_seconds), since_ms=0, now_ms=0)
    now_ms, taken = 0, []
    for wait in waits:
        now_ms += wait
        if bucket.take(now_ms):
            taken.append(now_ms)
    for first, began in enumerate(taken):
        for number, at in enumerate(taken[first:], 1):
            allowed = count + (at - began) * count / (per_seconds * 1000)
            assert number <= allowed + 1e-6

"""When a lane is slow: its mean attempt takes over a second, unfinished ones counted."""

from tocsin.engine.slowness import TICK_SECONDS, Pace

SECOND = round(1 / TICK_SECONDS)


def run(pace: Pace, seconds: int, in_flight: int, per_second: int) -> bool:
    slow = False
    for _ in range(seconds * SECOND):
        slow = pace.tick(in_flight, per_second // SECOND, TICK_SECONDS)
    return slow


def test_a_fast_one_is_not_slow_however_busy() -> None:
    assert not run(Pace(), 20, 64, 6_400)


def test_one_of_two_seconds_is() -> None:
    assert run(Pace(), 20, 32, 16)


def test_one_that_begins_to_hang_is_slow_before_its_first_timeout() -> None:
    pace = Pace()
    run(pace, 20, 64, 6_400)
    for _ in range(SECOND - 1):
        assert not pace.tick(64, 0, TICK_SECONDS)
    assert pace.tick(64, 0, TICK_SECONDS)


def test_a_single_attempt_is_slow_after_a_second() -> None:
    pace = Pace()
    assert not pace.tick(1, 0, TICK_SECONDS)
    assert run(pace, 2, 1, 0)


def test_it_recovers_and_is_forgotten() -> None:
    pace = Pace()
    run(pace, 30, 32, 0)
    assert not run(pace, 30, 8, 800)
    run(pace, 60, 0, 0)
    assert pace.faded

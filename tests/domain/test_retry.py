import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tocsin.domain.errors import Invalid
from tocsin.domain.model import DEFAULT_SCHEDULE
from tocsin.domain.retry import (
    DAY_MS,
    RETRY_AFTER_MS_MAX,
    next_delay_ms,
    parse_duration,
    parse_retry_after,
    parse_schedule,
)

NOW = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("text", "ms"),
    [("1s", 1000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 7 * DAY_MS), ("900s", 900_000)],
)
def test_durations(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    ["", "0s", "05s", "5", "s", "5S", "-5s", "1.5s", "5s\n", " 5s", "5 s", "٥s", "9" * 30 + "s"],
)
def test_no_durations(text: str) -> None:
    assert parse_duration(text) is None


def test_the_default_schedule() -> None:
    minute, hour = 60_000, 3_600_000
    assert parse_schedule(DEFAULT_SCHEDULE) == (
        5_000,
        5 * minute,
        30 * minute,
        2 * hour,
        5 * hour,
        10 * hour,
        10 * hour,
    )
    assert parse_schedule([]) == ()


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        (["5s", "1m", "soon"], "retry.schedule[2]"),
        (["8d"], "retry.schedule[0]"),
        (["1s"] * 21, "retry.schedule"),
        (["6d", "6d"], "retry.schedule"),
    ],
)
def test_bad_schedules_are_named(texts: list[str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_schedule(texts)
    assert caught.value.problems[0].field == field


def test_the_longest_schedules_pass() -> None:
    assert sum(parse_schedule(["7d", "4d"])) == 11 * DAY_MS
    assert len(parse_schedule(["1s"] * 20)) == 20


def test_delays_are_jittered_by_a_fifth_and_end() -> None:
    assert next_delay_ms((1000, 2000), 0, lambda: 0.0) == 800
    assert next_delay_ms((1000, 2000), 1, lambda: 0.5) == 2000
    assert next_delay_ms((1000, 2000), 1, lambda: 0.9999999) == 2400
    assert next_delay_ms((1000, 2000), 2, lambda: 0.5) is None
    assert next_delay_ms((), 0, lambda: 0.5) is None


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("+5", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٥", None),
        ("0", 0),
        ("0000000000000000005", 5_000),
        (" 120 ", 120_000),
        ("1.9", 1_000),
        ("86400", RETRY_AFTER_MS_MAX),
        ("86401", RETRY_AFTER_MS_MAX),
        ("9" * 5000, RETRY_AFTER_MS_MAX),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60_000),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60_000),
        ("Tue Nov 14 22:14:20 2023", 60_000),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_MS_MAX),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
        ("Tue, 14 Nov 2023 22:14:20 +99999", None),
        ("2023-11-14", None),
        ("2023-11-14T22:14:20Z", None),
    ],
)
def test_retry_after(value: str | None, wait_ms: int | None) -> None:
    assert parse_retry_after(value, NOW) == wait_ms


@given(st.text(max_size=80) | st.from_regex(r"\A\w{3}, \d+ \w{3} \d+ \d+:\d+:\d+ \S*\Z"))
@example("0 0 0 0:0:0 -9999999999")
@example("Mon, 1 Jan 1 0:0:0 +2359")
def test_retry_after_survives_anything(value: str) -> None:
    wait_ms = parse_retry_after(value, NOW)
    assert wait_ms is None or 0 <= wait_ms <= RETRY_AFTER_MS_MAX

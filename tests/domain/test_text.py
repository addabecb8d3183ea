from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.errors import Invalid
from tocsin.domain.text import (
    MASK,
    bounded,
    check_short,
    iso,
    parse_time,
    plain,
    shortened,
    visible,
)


def test_the_mask_is_four_bullets() -> None:
    assert [ord(character) for character in MASK] == [0x2022] * 4


def test_control_characters_are_made_visible() -> None:
    assert visible("a\x1b[31m\r\nb\tc\0\x7f") == "a␛[31m␍␊b␉c␀␡"
    assert visible("a\n\tb\x1b", keep_layout=True) == "a\n\tb␛"
    assert visible("safe \u202eevil\u2028\x85") == "safe <U+202E>evil<U+2028><U+0085>"
    assert visible("grün 日本 🎉") == "grün 日本 🎉"
    assert visible("\ud800") == "\ufffd"


def test_people_get_text_without_control_characters() -> None:
    assert plain("a\0b\x1b[0m\n\tc") == "ab[0m\n\tc"


@given(st.binary(max_size=200), st.integers(1, 64))
def test_foreign_bytes_become_bounded_utf8(raw: bytes, bytes_max: int) -> None:
    check_bounded(bounded(raw, bytes_max), bytes_max)


@given(st.text(st.characters(), max_size=200), st.integers(1, 64))
def test_foreign_text_becomes_bounded_utf8(raw: str, bytes_max: int) -> None:
    check_bounded(bounded(raw, bytes_max), bytes_max)


def check_bounded(text: str, bytes_max: int) -> None:
    assert len(text.encode()) <= bytes_max
    assert "\0" not in text
    assert not any(ord(c) < 32 and c not in "\n\t" for c in text)


def test_a_cut_falls_between_characters() -> None:
    assert bounded("äöü".encode(), 5) == "äö"
    assert bounded("äöü", 5) == "äö"
    assert bounded(b"ab\xffcd", 100) == "ab\ufffdcd"
    assert bounded(b"one\r\ntwo", 100) == "one\ntwo"
    assert bounded(b"\0" * 10, 10) == "␀␀␀"


def test_shortened() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("abcd", 3) == "ab…"


def test_short_fields() -> None:
    check_short("line\n\ttwo", "name", 128)
    check_short("", "name", 128, chars_min=0)
    for text in ("", "a" * 129, "a\0b", "a\x1bb", "a\rb", "a\x85b", "a\ud800b"):
        with pytest.raises(Invalid) as caught:
            check_short(text, "name", 128)
        assert caught.value.problems[0].field == "name"


def test_times_on_the_wire() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert iso(1_795_298_400_007) == "2026-11-21T22:00:00.007Z"
    assert iso(-1) == "1969-12-31T23:59:59.999Z"


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_read_back_as_written(ms: int) -> None:
    assert parse_time(iso(ms)) == ms
    assert len(iso(ms)) == 24


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01t00:00:01z", 1000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:00.1Z", 100),
        ("1970-01-01T00:00:00.123999999Z", 123),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1969-12-31T19:00:00-05:00", 0),
    ],
)
def test_times_that_are_read(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1970-01-01",
        "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z",
        "1970-01-01T00:00:00Z\n",
        "1970-02-30T00:00:00Z",
        "1970-01-01T25:00:00Z",
        "1970-01-01T00:00:60Z",
        "1970-01-01T00:00:00+99:00",
        "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00Z",
        "1795298400",
        "١٩٧٠-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
    ],
)
def test_times_that_are_refused(text: str) -> None:
    with pytest.raises(Invalid, match="occurred_at"):
        parse_time(text)


def test_the_edge_of_the_calendar() -> None:
    assert iso(parse_time("0001-01-01T00:00:00Z")) == "0001-01-01T00:00:00.000Z"
    assert iso(int(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1000)).startswith("9999")

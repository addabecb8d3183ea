"""Cursors can't be made up or moved; budgets refill and forget."""

import base64
import ipaddress
from urllib.parse import quote

import pytest

from tocsin.domain.errors import Invalid
from tocsin.limits import UNLIMITED, TokenBuckets
from tocsin.web.address import Addresses, bucket_of, is_loopback
from tocsin.web.cursors import Cursors
from tocsin.web.query import Query

HERE = {"list": "channels", "organization": "a" * 24}


def test_cursor_comes_back() -> None:
    cursors = Cursors(b"k" * 32)
    text = cursors.make("f" * 24, **HERE)
    assert text is not None
    assert cursors.read(text, **HERE) == "f" * 24
    assert cursors.make(None, **HERE) is None


def test_foreign_and_broken_cursors_are_refused() -> None:
    cursors = Cursors(b"k" * 32)
    text = cursors.make("f" * 24, **HERE)
    assert text is not None
    flipped = ("A" if text[0] != "A" else "B") + text[1:]
    made_up = base64.urlsafe_b64encode(b"0" * 12 + b"f" * 24).decode()
    for bad in ("", "x", "ä", "=", text[:-1], text + "A", flipped, made_up, "A" * 500, "%%%"):
        with pytest.raises(Invalid):
            cursors.read(bad, **HERE)
    for place in (HERE | {"list": "events"}, HERE | {"organization": "b" * 24}):
        with pytest.raises(Invalid):
            cursors.read(text, **place)
    with pytest.raises(Invalid):
        Cursors(b"other").read(text, **HERE)


def test_budget_is_used_up_and_comes_back() -> None:
    now = 0.0
    buckets = TokenBuckets(60, lambda: now)
    taken = [buckets.take("a") for _ in range(61)]
    assert [budget.remaining for budget in taken[:3]] == [59, 58, 57]
    assert all(budget.allowed for budget in taken[:60])
    assert not taken[60].allowed
    assert taken[60].retry_after_seconds == 1
    assert taken[60].reset_seconds == 60
    assert buckets.take("b").allowed
    now = 1.0
    assert buckets.take("a").allowed
    assert not buckets.take("a").allowed
    now = 1000.0
    assert buckets.take("a").remaining == 59


def test_looking_takes_nothing() -> None:
    buckets = TokenBuckets(10, lambda: 0.0)
    assert buckets.look("a").remaining == 10
    buckets.take("a")
    assert buckets.look("a").remaining == buckets.look("a").remaining == 9


def test_off() -> None:
    buckets = TokenBuckets(0, lambda: 0.0)
    assert buckets.take("a") is UNLIMITED
    assert (UNLIMITED.limit, UNLIMITED.remaining, UNLIMITED.reset_seconds) == (0, 0, 0)


def test_memory_is_bounded() -> None:
    buckets = TokenBuckets(10, lambda: 0.0, names_max=3)
    for name in "abcda":
        buckets.take(name)
    assert len(buckets._buckets) == 3
    assert buckets.look("a").remaining == 9


def test_forwarded_address() -> None:
    proxies = Addresses([ipaddress.ip_network("10.0.0.0/8")])
    header = [(b"x-forwarded-for", b"1.2.3.4, 203.0.113.7, 10.1.1.1")]
    assert proxies.of("10.0.0.1", header) == "203.0.113.7"
    assert proxies.of("8.8.8.8", header) == "8.8.8.8"
    assert proxies.of("10.0.0.1", []) == "10.0.0.1"
    assert proxies.of("10.0.0.1", [(b"x-forwarded-for", b"junk")]) == "10.0.0.1"
    assert Addresses().of("10.0.0.1", header) == "10.0.0.1"


def test_buckets_of_addresses() -> None:
    assert bucket_of("203.0.113.7") == "203.0.113.7"
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::2")
    assert bucket_of("2001:db8::1") != bucket_of("2001:db8:0:1::1")
    assert is_loopback("127.8.8.8")
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("203.0.113.7")


@pytest.mark.parametrize("text", ["0", "201", "-1", "+5", "1.0", "", " 5", "٣", "x", "9" * 30])
def test_query_integers_are_strict(text: str) -> None:
    with pytest.raises(Invalid):
        Query(f"limit={quote(text)}".encode()).integer("limit", default=50, least=1, most=200)


@pytest.mark.parametrize("raw", [b"a=%ff", b"\xff", b"&".join([b"a=1"] * 200)])
def test_unreadable_queries(raw: bytes) -> None:
    with pytest.raises(Invalid):
        Query(raw)


def test_burst_and_debt() -> None:
    now = 0.0
    buckets = TokenBuckets(60, lambda: now, burst=2)
    assert buckets.take("a", 10).allowed
    assert buckets.look("a").remaining == 0
    assert buckets.take("a").retry_after_seconds == 9
    now = 9.0
    assert buckets.take("a").allowed
    now = 1000.0
    assert buckets.look("a").remaining == 0  # looking does not refill
    assert buckets.take("a").remaining == 1

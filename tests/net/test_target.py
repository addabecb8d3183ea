"""The one parser of target URLs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.net import TargetInvalid, parse_target


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://example.com", "http://example.com", "/"),
        ("HTTPS://EXAMPLE.com/A?b=C", "https://example.com", "/A?b=C"),
        ("https://example.com:443/", "https://example.com", "/"),
        ("https://example.com:8443/", "https://example.com:8443", "/"),
        ("http://example.com?x=1", "http://example.com", "/?x=1"),
        ("http://example.com/a#b?c", "http://example.com", "/a"),
        ("http://example.com#b", "http://example.com", "/"),
        ("http://example.com./", "http://example.com", "/"),
        ("http://localhost:9000/x", "http://localhost:9000", "/x"),
        ("http://my_service:9000/", "http://my_service:9000", "/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example", "/"),
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example", "/"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example", "/"),
        ("http://xn--strae-oqa.example/", "http://xn--strae-oqa.example", "/"),
        ("http://example.com/ü?q=€", "http://example.com", "/%C3%BC?q=%E2%82%AC"),
        ("http://example.com/a@b:c", "http://example.com", "/a@b:c"),
        ("http://93.184.216.34:8080/", "http://93.184.216.34:8080", "/"),
        ("http://[2606:4700::1]/", "http://[2606:4700::1]", "/"),
        ("http://[2606:4700:0:0:0:0:0:1]:81/", "http://[2606:4700::1]:81", "/"),
        ("http://[::FFFF:1.2.3.4]/", "http://[::ffff:102:304]", "/"),
    ],
)
def test_accepts(url: str, origin: str, path: str) -> None:
    target = parse_target(url)
    assert (target.origin, target.path) == (origin, path)
    assert target.path.isascii()


def test_literals_carry_their_address() -> None:
    assert parse_target("http://127.0.0.1:80/").addresses == ("127.0.0.1",)
    assert parse_target("http://[::1]/").addresses == ("::1",)
    assert parse_target("http://[::1]/").server_name == "::1"
    assert parse_target("http://example.com/").addresses == ()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http:/example.com",
        "http:example.com",
        "http://",
        "http:///path",
        "http://:80/",
        "http://?x",
        " http://example.com",
        "http://example.com ",
        "http://example.com/a b",
        "http://example.com/\t",
        "http://example.com/\r\nx: y",
        "http://example.com/\n",
        "http://exam\x00ple.com/",
        "http://example.com/\x7f",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/\\x",
        "http://user@example.com/",
        "http://user:pass@example.com/",
        "http://@example.com/",
        "http://example.com:/",
        "http://example.com:0/",
        "http://example.com:080/",
        "http://example.com:65536/",
        "http://example.com:99999999/",
        "http://example.com:+80/",
        "http://example.com:８０/",
        "http://example.com:80:80/",
        "http://exa%6dple.com/",
        "http://127.0.0.1%2f/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[::1]:/",
        "http://[127.0.0.1]/",
        "http://[]/",
        "http://[v1.x]/",
        "http://[::127.1]/",
        # every other spelling of an IPv4 address
        "http://0x7f.1/",
        "http://0x7f000001/",
        "http://0x/",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0177.0.0.01/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1./",
        "http://127.0.0.0x1/",
        "http://127.0.0.256/",
        "http://1.2.3.4.5/",
        "http://foo.1/",
        "http://１２７.0.0.1/",
        "http://127。0。0。1/",
        "http://①②⑦.0.0.1/",
        "http://0x7F.0x0.0x0.0X1/",
        # names
        "http://-example.com/",
        "http://example-.com/",
        "http://exa..mple.com/",
        "http://.example.com/",
        "http://example.com../",
        "http://exa!mple.com/",
        "http://exa<mple.com/",
        "http://exam^ple.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 127 + "com/",
        "http://faß.example/",
        "http://a\u200db.example/",
        "http://\u202eexample.com/",
        "http://exam\ud800ple.com/",
        "http://example.com/\ud800",
        "http://xn--/",
        "http://xn--a/",
        "http://xn--abc-.example/",
        "http://xn--99999999.example/",
        "http://example.com/" + "a" * 8192,
    ],
)
def test_refuses(url: str) -> None:
    with pytest.raises(TargetInvalid) as refusal:
        parse_target(url)
    assert "127" not in refusal.value.message


@given(st.text(max_size=60))
def test_a_target_is_always_clean(rest: str) -> None:
    try:
        target = parse_target("http://" + rest)
    except TargetInvalid:
        return
    assert target.host == target.host.lower()
    assert target.host.isascii()
    assert target.path.startswith("/")
    assert all(" " < character < "\x7f" for character in target.host + target.path)
    assert parse_target(target.origin + target.path) == target


@given(st.from_regex(r"\A[0-9a-fxA-FX.]{1,30}\Z"))
def test_what_ends_in_a_number_is_dotted_decimal_or_nothing(host: str) -> None:
    try:
        target = parse_target(f"http://{host}/")
    except TargetInvalid:
        return
    last = target.host.rpartition(".")[2]
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):
        assert target.addresses == (host,)

"""The head of a request."""

import pytest

from tocsin.domain.exchange import Request
from tocsin.net import parse_target
from tocsin.net.wire import OWNED_HEADERS, RequestInvalid, request_head

URL = "http://example.com:8080/a?b"


def head(*headers: tuple[str, str], method: str = "POST", body: bytes = b"{}") -> bytes:
    request = Request(url=URL, headers=headers, body=body, method=method)
    return request_head(parse_target(URL), request)


def test_golden() -> None:
    assert head(("x-b", "2"), ("x-a", "é"), ("x-b", "")) == (
        b"POST /a?b HTTP/1.1\r\nhost: example.com:8080\r\nx-b: 2\r\nx-a: \xc3\xa9\r\nx-b: \r\n"
        b"content-length: 2\r\n\r\n"
    )
    assert head() == b"POST /a?b HTTP/1.1\r\nhost: example.com:8080\r\ncontent-length: 2\r\n\r\n"


def test_length_of_nothing() -> None:
    assert b"content-length: 0\r\n" in head(body=b"")
    assert b"content-length" not in head(body=b"", method="GET")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "\r\n", "a\0b", "\ud800"])
def test_no_value_leaves_its_line(value: str) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        head(("x-a", "1"), ("x-b", value))
    assert value not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "A", "é", *sorted(OWNED_HEADERS)])
def test_names_are_tokens_and_not_ours(name: str) -> None:
    with pytest.raises(RequestInvalid):
        head((name, "1"))


@pytest.mark.parametrize("method", ["HEAD", "CONNECT", "post", "", "GET /x HTTP/1.1\r\n"])
def test_methods(method: str) -> None:
    with pytest.raises(RequestInvalid):
        head(method=method)

"""The operator's proxy: to the vetted address and nowhere else, and what its failures say."""

import socket
from base64 import b64encode
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from tests.net.authority import Authority
from tests.net.conftest import LOOPBACK
from tests.net.hostile import always, target, until
from tests.net.test_client import failure, send
from tests.net.tunnel import ESTABLISHED, proxy, says

from tocsin.domain.outcome import BREAKER_REASONS, Reason
from tocsin.net import (
    Client,
    Guard,
    PhaseLimits,
    ProxyInvalid,
    Resolver,
    SendFailed,
    parse_proxy,
)

pytestmark = pytest.mark.anyio

USER = "operator:s3cr3t%21"


def through(resolver: Resolver, url: str, guard: Guard = LOOPBACK) -> Client:
    return Client(resolver, guard, proxy=parse_proxy(url), tick_seconds=0.02)


async def test_a_request_goes_through_to_the_vetted_address(resolver: Resolver) -> None:
    async with target(always()) as t, proxy() as p, through(resolver, p.url(USER)) as client:
        for _ in range(3):
            assert (await send(client, t.url("localhost"))).body == b"ok"
        assert p.places == [f"127.0.0.1:{t.port}"]
        assert b"localhost" not in p.asked[0]
        credentials = b64encode(b"operator:s3cr3t!")
        assert b"\r\nproxy-authorization: Basic %s\r\n" % credentials in p.asked[0]
        # What the proxy is told is for the proxy alone.
        assert all(b"proxy-" not in request for request in t.requests)
        assert t.requests[0].startswith(b"POST /hook HTTP/1.1\r\nhost: localhost:")
        assert (len(p.asked), t.connections) == (1, 1)


async def test_tls_inside_is_with_the_target(
    resolver: Resolver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    server = authority.server(x509.DNSName("localhost"))
    async with (
        target(always(), server) as t,
        proxy() as p,
        Client(
            resolver,
            LOOPBACK,
            proxy=parse_proxy(p.url()),
            make_context=authority.client,
        ) as client,
    ):
        assert (await send(client, t.url("localhost"))).body == b"ok"
        assert p.places == [f"127.0.0.1:{t.port}"]
        assert b"proxy-authorization" not in p.asked[0]
        failed = await failure(client, t.url("127.0.0.1"))
        assert (failed.reason, failed.detail) == (
            Reason.TLS_FAILED,
            "the certificate is for another host",
        )


async def test_the_guard_judges_the_target_and_not_the_proxy(resolver: Resolver) -> None:
    async with target(always()) as t, proxy() as p:
        async with through(resolver, p.url(), Guard()) as client:
            for host in ("127.0.0.1", "localhost"):
                assert (await failure(client, t.url(host))).reason is Reason.ADDRESS_REFUSED
            assert p.asked == []
        async with through(resolver, p.url(), Guard()) as client:
            failed = await failure(client, "http://192.0.2.1:81/")
            assert failed.reason is Reason.ADDRESS_REFUSED
            assert p.asked == []


async def test_an_ipv6_address_is_in_brackets(resolver: Resolver) -> None:
    async with proxy(says(b"HTTP/1.1 502 No\r\n\r\n")) as p:
        async with through(resolver, p.url(), Guard()) as client:
            assert (await failure(client, "http://[2600::1]:81/")).reason is Reason.PROXY_FAILED
        assert p.places == ["[2600::1]:81"]
        assert b"\r\nhost: [2600::1]:81\r\n" in p.asked[0]


async def test_a_proxy_with_a_name(resolver: Resolver) -> None:
    async with (
        target(always()) as t,
        proxy() as p,
        through(resolver, p.url(host="localhost")) as client,
    ):
        assert (await send(client, t.url())).status == 200


async def test_no_proxy_is_taken_from_the_environment(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with target(always()) as t, proxy() as p:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, p.url())
        assert (await send(client, t.url())).status == 200
        assert p.asked == []


@pytest.mark.parametrize(
    ("answer", "then", "detail"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "wait", "the proxy answered 407"),
        (b"HTTP/1.1 403 Forbidden\r\nx: s3cr3t\r\n\r\nbody", "wait", "the proxy answered 403"),
        (b"HTTP/1.0 502 Bad\r\n\r\n", "close", "the proxy answered 502"),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n", "wait", "the proxy answered 302"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "wait", "the proxy answered 100"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "wait", "the proxy answered 101"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "wait", "the proxy's answer is not HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "wait", "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 999 Odd\r\n\r\n", "wait", "the proxy's answer is not HTTP"),
        (b"HTTP/1.1 200\nOK\r\n\r\n", "wait", "the proxy's answer is not HTTP"),
        (b"", "close", "the proxy closed the connection"),
        (b"HTTP/1.1 200 OK\r\n", "close", "the proxy closed the connection"),
        (b"x" * 40_000, "wait", "the proxy's answer is too large"),
        (ESTABLISHED + b"HTTP/1.1 200", "wait", "the proxy sent more than its answer"),
    ],
)
async def test_a_proxy_that_refuses_or_lies(
    resolver: Resolver, answer: bytes, then: str, detail: str
) -> None:
    async with proxy(says(answer, then)) as p, through(resolver, p.url(USER)) as client:
        failed = await failure(client, "http://127.0.0.1:81/")
        assert (failed.reason, failed.detail) == (Reason.PROXY_FAILED, detail)
        assert "s3cr3t" not in str(failed)
        assert client.pool.open_count == 0
        await until(lambda: p.open == 0)


async def test_a_proxy_that_hangs(resolver: Resolver) -> None:
    for answer in (b"", b"HTTP/1.1 200 OK\r\n"):
        async with proxy(says(answer, "wait")) as p, through(resolver, p.url()) as client:
            failed = await failure(client, "http://127.0.0.1:81/", seconds=1.0)
            assert (failed.reason, failed.detail) == (
                Reason.PROXY_FAILED,
                "no connection through the proxy in time",
            )
            await until(lambda: p.open == 0)


async def test_a_proxy_s_own_limit_is_inside_the_attempt_s(resolver: Resolver) -> None:
    async with (
        proxy(says(b"", "wait")) as p,
        Client(
            resolver,
            LOOPBACK,
            proxy=parse_proxy(p.url()),
            phase_limits=PhaseLimits(proxy_seconds=0.1),
        ) as client,
    ):
        failed = await failure(client, "http://127.0.0.1:81/", seconds=30)
        assert failed.reason is Reason.PROXY_FAILED


async def test_a_proxy_that_is_not_there(resolver: Resolver, free_port: int) -> None:
    for url in (f"http://127.0.0.1:{free_port}", "http://no-such-host.invalid:3128"):
        async with through(resolver, url) as client:
            failed = await failure(client, "http://127.0.0.1:81/")
            assert failed.reason is Reason.PROXY_FAILED
            assert "no-such-host" not in str(failed)


@pytest.fixture
async def free_port(anyio_backend: object) -> AsyncIterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def test_proxy_failures_leave_the_breaker() -> None:
    assert Reason.PROXY_FAILED not in BREAKER_REASONS


@pytest.mark.parametrize(
    ("text", "name", "pair"),
    [
        ("http://proxy.example:3128", "proxy.example:3128", None),
        ("HTTP://Proxy.Example:3128/", "proxy.example:3128", None),
        ("http://user:pa%3Ass@10.0.0.1:80", "10.0.0.1:80", b"user:pa:ss"),
        ("http://user@[2001:db8::1]:80", "2001:db8::1:80", b"user:"),
    ],
)
def test_proxies(text: str, name: str, pair: bytes | None) -> None:
    parsed = parse_proxy(text)
    expected = None if pair is None else f"Basic {b64encode(pair).decode()}"
    assert (parsed.name, parsed.authorization) == (name, expected)
    assert "pass" not in repr(parsed)
    assert "Basic" not in repr(parsed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy.example:3128",
        "http://proxy.example",
        "https://proxy.example:443",
        "socks5://proxy.example:1080",
        "http://proxy.example:3128/path",
        "http://proxy.example:3128?x",
        "http://proxy.example:0",
        "http://proxy.example:70000",
        "http://s3cr3t@pass@proxy.example:3128",
        "http://user:s3cr3t@:3128",
        "http://user:s3cr3t@-:3128",
        "http://user:s3cr3t@proxy example:3128",
        "http://user:s3cr3t@1.2.3:3128",
        "http://user:s3cr3t\r\n@proxy.example:3128",
    ],
)
def test_what_is_no_proxy(text: str) -> None:
    with pytest.raises(ProxyInvalid) as refused:
        parse_proxy(text)
    assert "s3cr3t" not in str(refused.value)


async def test_nothing_of_the_proxy_reaches_a_tenant(resolver: Resolver) -> None:
    async with proxy(says(b"HTTP/1.1 407 s3cr3t\r\n\r\n")) as p:
        async with through(resolver, p.url(USER)) as client:
            with pytest.raises(SendFailed) as failed:
                await send(client, "http://127.0.0.1:81/")
        for hidden in ("s3cr3t", "operator", str(p.port)):
            assert hidden not in f"{failed.value} {failed.value!r}"

"""TLS: who is trusted, for which name, and what a failure says."""

import ipaddress
import ssl

import pytest
from cryptography import x509
from tests.net.authority import Authority
from tests.net.conftest import LOOPBACK
from tests.net.hostile import Peer, Script, always, once, target
from tests.net.test_client import failure, post, send

from tocsin.domain.outcome import Reason
from tocsin.net import Client, Resolver

pytestmark = pytest.mark.anyio


LOCALHOST = x509.DNSName("localhost")
LOOPBACK_IP = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


async def test_a_good_certificate_for_name_and_address(
    authority: Authority, resolver: Resolver
) -> None:
    server = authority.server(LOCALHOST, LOOPBACK_IP)
    async with (
        target(always(), server) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        for host in ("localhost", "127.0.0.1"):
            for _ in range(2):
                assert (await send(client, t.url(host))).body == b"ok"
        assert t.connections == 2
    assert client.pool.open_count == 0


@pytest.mark.parametrize(
    ("names", "days", "host", "detail"),
    [
        ([LOCALHOST], -1, "localhost", "certificate has expired"),
        ([x509.DNSName("other.example")], 10, "localhost", "the certificate is for another host"),
        ([LOCALHOST], 10, "127.0.0.1", "the certificate is for another host"),
    ],
)
async def test_a_bad_certificate(
    authority: Authority,
    resolver: Resolver,
    names: list[x509.GeneralName],
    days: int,
    host: str,
    detail: str,
) -> None:
    async with (
        target(always(), authority.server(*names, days=days)) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        failed = await failure(client, t.url(host))
        assert (failed.reason, failed.detail) == (Reason.TLS_FAILED, detail)
        assert t.requests == []


async def test_an_unknown_authority(authority: Authority, client: Client) -> None:
    async with target(always(), authority.server(LOCALHOST)) as t:
        failed = await failure(client, t.url("localhost"))
        assert failed.reason is Reason.TLS_FAILED
        assert "issuer" in failed.detail


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(authority: Authority, resolver: Resolver) -> None:
    server = authority.server(LOCALHOST)
    server.minimum_version = ssl.TLSVersion.TLSv1
    server.maximum_version = ssl.TLSVersion.TLSv1_1
    server.set_ciphers("ALL:@SECLEVEL=0")
    async with (
        target(always(), server) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        # A server that finds no common version may close without saying so.
        failed = await failure(client, t.url("localhost"))
        assert failed.reason in (Reason.TLS_FAILED, Reason.CONNECTION_RESET)
        assert t.requests == []


async def test_a_target_that_does_not_speak_tls(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.closed()

    async with target(script) as t:
        url = t.url("localhost").replace("http:", "https:")
        assert (await failure(client, url)).reason is Reason.TLS_FAILED


@pytest.mark.parametrize("then", ["close", "reset", "wait"])
async def test_a_handshake_that_does_not_end(client: Client, then: str) -> None:
    async with target(_after_hello(then)) as t:
        url = t.url("localhost").replace("http:", "https:")
        failed = await failure(client, url, seconds=0.5 if then == "wait" else 30)
        expected = Reason.TIMEOUT if then == "wait" else Reason.CONNECTION_RESET
        assert failed.reason is expected


def _after_hello(then: str) -> Script:
    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.closed()

    return script


@pytest.mark.parametrize(
    ("reply", "then", "note"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "close", "cut"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", "close", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd", "wait", None),
    ],
)
async def test_ends_of_a_reply_under_tls(
    authority: Authority, resolver: Resolver, reply: bytes, then: str, note: str | None
) -> None:
    async with (
        target(once(reply, then), authority.server(LOCALHOST)) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        got = await send(client, t.url("localhost"))
        assert (got.status, got.body, got.note) == (200, b"abc", note)
        assert client.pool.idle_count == 0


async def test_a_large_body_under_tls(authority: Authority, resolver: Resolver) -> None:
    body = bytes(range(256)) * 4096
    async with (
        target(always(), authority.server(LOCALHOST)) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        await client.send(post(t.url("localhost"), body), organization="acme", timeout_seconds=30)
        assert t.requests[0].endswith(body)

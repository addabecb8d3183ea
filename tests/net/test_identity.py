"""Client certificates and resumed sessions: what is presented, to whom, and what is shared."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from tests.net.authority import Authority, key_pem
from tests.net.conftest import LOOPBACK
from tests.net.hostile import OK, Peer, always, target
from tests.net.test_client import post

from tocsin.crypto.certificates import identity
from tocsin.domain.exchange import Identity, Reply
from tocsin.domain.outcome import Reason
from tocsin.net import Client, NotSent, Resolver, SendFailed

pytestmark = pytest.mark.anyio

LOCALHOST = x509.DNSName("localhost")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
async def trusting(authority: Authority, resolver: Resolver) -> AsyncIterator[Client]:
    async with Client(resolver, LOOPBACK, make_context=authority.client) as client:
        yield client
    assert client.pool.open_count == 0


async def send(
    client: Client, url: str, who: Identity | None = None, organization: str = "acme"
) -> Reply:
    request = post(url)
    request = type(request)(url=url, headers=request.headers, body=request.body, identity=who)
    return await client.send(request, organization=organization, timeout_seconds=20)


def names(authority: Authority, name: str) -> Identity:
    return identity(*authority.pair(name=name))


Script = Callable[[Peer], Awaitable[None]]


def who_is_it(seen: list[str]) -> Script:
    """Note the name in the certificate of each connection, and answer everything."""

    async def script(peer: Peer) -> None:
        made = peer.writer.get_extra_info("ssl_object")
        certificate = made.getpeercert()
        seen.append(certificate["subject"][0][0][1] if certificate else "nobody")
        while True:
            await peer.request()
            await peer.say(OK)

    return script


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["P-256", "Ed25519", "RSA"])
async def test_the_certificate_is_presented(
    authority: Authority, trusting: Client, version: ssl.TLSVersion, kind: str
) -> None:
    server = authority.server(LOCALHOST, asks_client=True)
    server.maximum_version = version
    match kind:
        case "RSA":
            pair = authority.pair(rsa.generate_private_key(65537, 2048))
        case "Ed25519":
            pair = authority.pair(ed25519.Ed25519PrivateKey.generate())
        case _:
            pair = authority.pair(ec.generate_private_key(ec.SECP256R1()))
    chain = pair[0] + authority.pem
    seen: list[str] = []
    async with target(who_is_it(seen), server) as t:
        for _ in range(2):
            assert (
                await send(trusting, t.url("localhost"), identity(chain, pair[1]))
            ).status == 200
    assert seen == ["Client"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_target_that_asks_and_gets_nobody_or_a_stranger(
    authority: Authority,
    trusting: Client,
    version: ssl.TLSVersion,
    tmp_path: Path,
) -> None:
    server = authority.server(LOCALHOST, asks_client=True)
    server.maximum_version = version
    stranger = names(Authority(tmp_path), "Stranger")
    async with target(always(), server) as t:
        for who in (None, stranger):
            with pytest.raises(SendFailed) as failed:
                await send(trusting, t.url("localhost"), who)
            # The target may hang up before its alert is read.
            assert failed.value.reason in (Reason.TLS_FAILED, Reason.CONNECTION_RESET)
        assert t.requests == []
        assert (await send(trusting, t.url("localhost"), names(authority, "x"))).status == 200


async def test_connections_and_sessions_are_one_identity_s(
    authority: Authority, trusting: Client
) -> None:
    server = authority.server(LOCALHOST)
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(cadata=authority.pem)
    seen: list[str] = []
    ann, bob = names(authority, "Ann"), names(authority, "Bob")
    async with target(who_is_it(seen), server) as t:
        for who in (ann, bob, None, bob, ann, None):
            await send(trusting, t.url("localhost"), who)
        assert sorted(seen) == ["Ann", "Bob", "nobody"]
        await send(trusting, t.url("localhost"), ann, organization="other")
        assert seen[3:] == ["Ann"]


async def test_a_request_may_not_change_its_identity_at_the_gate(
    authority: Authority, trusting: Client
) -> None:
    async with target(always(), authority.server(LOCALHOST)) as t:
        plain = post(t.url("localhost"))
        signed = type(plain)(
            url=plain.url, headers=plain.headers, body=b"", identity=names(authority, "Ann")
        )
        with pytest.raises(SendFailed) as failed:
            await trusting.send(plain, organization="acme", timeout_seconds=20, gate=lambda: signed)
        assert failed.value.reason is Reason.INTERNAL_ERROR
        with pytest.raises(NotSent):
            await trusting.send(plain, organization="acme", timeout_seconds=20, gate=lambda: None)
        assert t.requests == []


@pytest.mark.parametrize("bad", ["no key", "another key", "encrypted", "no chain"])
async def test_a_pair_that_can_t_be_used(authority: Authority, trusting: Client, bad: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate, good = authority.pair(key)
    who = {
        "no key": identity(certificate, "c4n4ry"),
        "another key": identity(certificate, authority.pair()[1]),
        "encrypted": identity(certificate, key_pem(key, password=b"c4n4ry")),
        "no chain": identity("c4n4ry", good),
    }[bad]
    async with target(always(), authority.server(LOCALHOST, asks_client=True)) as t:
        for _ in range(2):
            with pytest.raises(SendFailed) as failed:
                await send(trusting, t.url("localhost"), who)
            assert str(failed.value) == "tls_failed: the client certificate can't be used"


async def test_contexts_are_made_once_and_for_the_last_used(
    authority: Authority, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def make() -> ssl.SSLContext:
        nonlocal made
        made += 1
        return authority.client()

    monkeypatch.setattr("tocsin.net.tls.IDENTITIES_KEPT_MAX", 2)
    people = [names(authority, name) for name in ("Ann", "Bob", "Cy")]
    script = always(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    async with (
        target(script, authority.server(LOCALHOST)) as t,
        Client(resolver, LOOPBACK, make_context=make) as client,
    ):
        ann, bob, cy = people
        both = [send(client, t.url("localhost"), who) for who in (None, None, ann, ann, bob, bob)]
        await asyncio.gather(*both)
        assert made == 3
        for who in (ann, None, cy, ann, None, cy):
            await send(client, t.url("localhost"), who)
        assert made == 4
        await send(client, t.url("localhost"), bob)
        assert made == 5


@asynccontextmanager
async def counting(server: ssl.SSLContext) -> AsyncIterator[tuple[str, list[bool]]]:
    """A target that closes after each reply, and for each connection whether it was resumed."""
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        resumed.append(peer.writer.get_extra_info("ssl_object").session_reused)
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with target(script, server) as t:
        yield t.url("localhost"), resumed


@pytest.mark.parametrize("version", VERSIONS)
async def test_sessions_are_resumed_where_they_were_made(
    authority: Authority, trusting: Client, version: ssl.TLSVersion
) -> None:
    server = authority.server(LOCALHOST)
    server.maximum_version = version
    ann = names(authority, "Ann")
    async with counting(server) as (url, resumed):
        for _ in range(3):
            await send(trusting, url)
        assert resumed == [False, True, True]
        await send(trusting, url, organization="other")
        await send(trusting, url, ann)
        assert resumed[3:] == [False, False]
        await send(trusting, url, organization="other")
        await send(trusting, url, ann)
        assert resumed[5:] == [True, True]


async def test_a_session_ends_and_is_forgotten_when_a_handshake_fails(
    authority: Authority, trusting: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with counting(authority.server(LOCALHOST)) as (url, resumed):
        monkeypatch.setattr("tocsin.net.tls.SESSION_SECONDS_MAX", -1.0)
        await send(trusting, url)
        monkeypatch.undo()
        await send(trusting, url)
        await send(trusting, url)
        assert resumed == [False, False, True]


async def test_a_resumed_session_does_not_move_to_another_server(
    authority: Authority, resolver: Resolver
) -> None:
    """A server that doesn't know the session makes a new one; its certificate is verified."""
    port = 0

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with Client(resolver, LOOPBACK, make_context=authority.client) as client:
        async with target(script, authority.server(LOCALHOST)) as t:
            await send(client, t.url("localhost"))
            port = t.port
        other = authority.server(x509.DNSName("other.example"))
        async with target(script, other, port=port) as t:
            with pytest.raises(SendFailed) as failed:
                await send(client, t.url("localhost"))
            assert failed.value.detail == "the certificate is for another host"
            assert t.requests == []

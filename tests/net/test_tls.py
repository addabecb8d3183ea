"""TLS: who is trusted, for which name, and what a failure says."""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.net.conftest import LOOPBACK
from tests.net.hostile import Peer, Script, always, once, target
from tests.net.test_client import failure, post, send

from tocsin.domain.outcome import Reason
from tocsin.net import Client, Resolver, default_ssl_context

pytestmark = pytest.mark.anyio


class Authority:
    """A certificate authority for one test run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), [], 10, authority=True)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def server(self, *names: x509.GeneralName, days: int = 10) -> ssl.SSLContext:
        """A server context with a certificate for these names; negative days have passed."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Target")])
        certificate = self._sign(subject, key.public_key(), names, days)
        path = self.folder / f"{certificate.serial_number}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def client(self) -> ssl.SSLContext:
        """The product's own context, trusting this authority too."""
        context = default_ssl_context()
        context.load_verify_locations(cadata=self.pem.decode())
        return context

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        days: int,
        *,
        authority: bool = False,
    ) -> x509.Certificate:
        end = datetime.now(UTC) + timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=20))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


LOCALHOST = x509.DNSName("localhost")
LOOPBACK_IP = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_a_good_certificate_for_name_and_address(
    authority: Authority, resolver: Resolver
) -> None:
    server = authority.server(LOCALHOST, LOOPBACK_IP)
    async with (
        target(always(), server) as t,
        Client(resolver, LOOPBACK, ssl_context=authority.client()) as client,
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
        Client(resolver, LOOPBACK, ssl_context=authority.client()) as client,
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
        Client(resolver, LOOPBACK, ssl_context=authority.client()) as client,
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
        failed = await failure(client, url, seconds=0.1 if then == "wait" else 5)
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
        Client(resolver, LOOPBACK, ssl_context=authority.client()) as client,
    ):
        got = await send(client, t.url("localhost"))
        assert (got.status, got.body, got.note) == (200, b"abc", note)
        assert client.pool.idle_count == 0


async def test_a_large_body_under_tls(authority: Authority, resolver: Resolver) -> None:
    body = bytes(range(256)) * 4096
    async with (
        target(always(), authority.server(LOCALHOST)) as t,
        Client(resolver, LOOPBACK, ssl_context=authority.client()) as client,
    ):
        await client.send(post(t.url("localhost"), body), organization="acme", timeout_seconds=5)
        assert t.requests[0].endswith(body)

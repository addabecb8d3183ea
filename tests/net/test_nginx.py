"""The client against nginx: what a real server does with keep-alive, sizes, TLS and certificates.

Skipped, and said so, where nginx is not installed.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.blackbox.server import until as eventually
from tests.net.authority import Authority
from tests.net.conftest import LOOPBACK
from tests.net.hostile import until
from tests.net.test_client import post
from tests.net.tunnel import proxy

from tocsin.crypto.certificates import identity
from tocsin.domain.exchange import Identity, Reply, Request
from tocsin.domain.outcome import Reason
from tocsin.net import Client, Resolver, SendFailed, parse_proxy

NGINX = os.environ.get("NGINX") or shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(NGINX is None, reason="NGINX IS NOT INSTALLED: not tested against it"),
]

CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type text/plain; lingering_close off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {pair}; ssl_certificate_key {pair}; ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:s:1m;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{secure} ssl;
    client_max_body_size 100k;
    location /ok {{ return 200 "ok"; }}
    {statuses}
    location /moved {{ return 302 /ok; }}
    location /cut {{ return 444; }}
    location /close {{ keepalive_timeout 0; return 200 "bye"; }}
    location /reused {{ return 200 $ssl_session_reused; }}
    location /twice {{ keepalive_requests 2; return 200 $connection; }}
    location /large {{ alias {folder}/large; error_page 405 =200 $uri; }}
    location /upload {{ proxy_pass http://127.0.0.1:{plain}/ok; }}
  }}
  server {{
    listen 127.0.0.1:{asking} ssl;
    ssl_client_certificate {authority}; ssl_verify_client on;
    location / {{ return 200 $ssl_client_s_dn; }}
  }}
}}
"""
STATUSES = (200, 201, 204, 304, 400, 404, 410, 413, 429, 500, 503)


class Nginx:
    """A running nginx and its ports."""

    def __init__(self, authority: Authority, plain: int, secure: int, asking: int) -> None:
        self.authority = authority
        self.plain = f"http://localhost:{plain}"
        self.secure = f"https://localhost:{secure}"
        self.asking = f"https://localhost:{asking}"


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = Authority(folder)
    (folder / "large").write_bytes(b"a" * 300_000)
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for sock in (a, b, c):
            sock.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in (a, b, c)]
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(
            folder=folder,
            pair=authority.files(x509.DNSName("localhost")),
            authority=authority.path,
            plain=ports[0],
            secure=ports[1],
            asking=ports[2],
            statuses=" ".join(
                f'location /s{status} {{ return {status} "{status}"; }}' for status in STATUSES
            ),
        )
    )
    assert NGINX is not None
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")],
            stdout=output,
            stderr=output,
        )
    try:
        _listening(process, ports, folder)
        yield Nginx(authority, *ports)
    finally:
        process.terminate()
        process.wait(30)


def _listening(process: "subprocess.Popen[bytes]", ports: list[int], folder: Path) -> None:
    def all_open() -> bool:
        assert process.poll() is None, (folder / "output").read_text()
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    eventually(all_open, "nginx listens", 30)


@pytest.fixture
async def client(nginx: Nginx, resolver: Resolver) -> AsyncIterator[Client]:
    async with Client(resolver, LOOPBACK, make_context=nginx.authority.client) as client:
        yield client
    assert client.pool.open_count == 0


async def send(client: Client, url: str, body: bytes = b"{}", who: Identity | None = None) -> Reply:
    plain = post(url)
    request = Request(url=url, headers=plain.headers, body=body, identity=who)
    return await client.send(request, organization="acme", timeout_seconds=30)


@pytest.mark.parametrize("scheme", ["plain", "secure"])
async def test_replies_keep_the_connection(nginx: Nginx, client: Client, scheme: str) -> None:
    base = getattr(nginx, scheme)
    for status in STATUSES:
        assert (await send(client, f"{base}/s{status}")).status == status
    moved = await send(client, f"{base}/moved")
    assert (moved.status, moved.note) == (302, None)
    await until(lambda: client.pool.open_count == 1)


@pytest.mark.parametrize("scheme", ["plain", "secure"])
async def test_ends_of_a_connection(nginx: Nginx, client: Client, scheme: str) -> None:
    base = getattr(nginx, scheme)
    assert (await send(client, f"{base}/close")).body == b"bye"
    assert client.pool.idle_count == 0
    connections = {(await send(client, f"{base}/twice")).body for _ in range(6)}
    assert len(connections) == 3
    with pytest.raises(SendFailed) as failed:
        await send(client, f"{base}/cut")
    assert failed.value.reason is Reason.CONNECTION_RESET


@pytest.mark.parametrize("scheme", ["plain", "secure"])
@pytest.mark.parametrize("size", [200_000, 3_000_000])
async def test_a_body_that_is_refused_early(
    nginx: Nginx, client: Client, scheme: str, size: int
) -> None:
    """nginx answers from the head and closes with the body unread."""
    for _ in range(10):
        reply = await send(client, f"{getattr(nginx, scheme)}/upload", b"a" * size)
        assert reply.status == 413
        assert client.pool.idle_count == 0


@pytest.mark.parametrize("scheme", ["plain", "secure"])
async def test_a_large_reply_is_not_read(nginx: Nginx, client: Client, scheme: str) -> None:
    reply = await send(client, f"{getattr(nginx, scheme)}/large")
    assert (reply.status, reply.body, reply.note) == (200, b"a" * 4096, "truncated")


async def test_sessions_are_resumed(nginx: Nginx, client: Client) -> None:
    marks = []
    for _ in range(3):
        marks.append((await send(client, f"{nginx.secure}/reused")).body)
        (connection,) = client.pool._open
        connection.abort()
        await until(lambda: client.pool.open_count == 0)
    assert marks == [b".", b"r", b"r"]


async def test_a_client_certificate(nginx: Nginx, client: Client, tmp_path: Path) -> None:
    ann = identity(*nginx.authority.pair(name="Ann"))
    assert (await send(client, nginx.asking, who=ann)).body == b"CN=Ann"
    # nginx answers 400 to those it does not know, in HTTP.
    for stranger in (None, identity(*Authority(tmp_path).pair(name="Ann"))):
        assert (await send(client, nginx.asking, who=stranger)).status == 400
    assert (await send(client, nginx.asking, who=ann)).body == b"CN=Ann"


async def test_through_a_proxy(nginx: Nginx, resolver: Resolver) -> None:
    async with (
        proxy() as p,
        Client(
            resolver,
            LOOPBACK,
            proxy=parse_proxy(p.url("a:b")),
            make_context=nginx.authority.client,
        ) as client,
    ):
        for base in (nginx.plain, nginx.secure):
            assert (await send(client, f"{base}/ok")).body == b"ok"
        assert len(p.asked) == 2


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=25,
)
@given(
    sends=st.lists(
        st.tuples(
            st.sampled_from(["plain", "secure"]),
            st.sampled_from([*(f"s{status}" for status in STATUSES), "close", "twice", "upload"]),
            st.sampled_from([0, 1, 60_000, 90_000, 150_000]),
        ),
        min_size=1,
        max_size=12,
    )
)
async def test_any_sequence_of_requests(
    nginx: Nginx, client: Client, sends: list[tuple[str, str, int]]
) -> None:
    """Each has its own reply, at once or one after the other, on whatever connection."""

    def expected(path: str, size: int) -> int:
        if size > 102_400:
            return 413
        return int(path[1:]) if path[0] == "s" else 200

    async def one(scheme: str, path: str, size: int) -> None:
        reply = await send(client, f"{getattr(nginx, scheme)}/{path}", b"a" * size)
        assert (path, reply.status) == (path, expected(path, size))

    for each in sends:
        await one(*each)
    await asyncio.gather(*[one(*each) for each in sends])

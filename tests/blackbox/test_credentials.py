"""Through the whole product: a proxy, TLS with a client certificate, and Authorization."""

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tests.blackbox.conftest import NewServer
from tests.blackbox.server import Server, Tenant
from tests.net.authority import Authority
from tests.net.hostile import OK, Peer, target
from tests.net.tunnel import Tunnel, proxy

pytestmark = pytest.mark.anyio

MASK = "\u2022\u2022\u2022\u2022"
PASSWORD = "c4n4ry-password"
TOKEN = "c4n4ry-token"
PROXY_PASSWORD = "c4n4ry-proxy"
BASIC = {"type": "basic", "username": "user", "password": PASSWORD}


async def test_a_delivery_with_every_credential(
    tmp_path: Path, new_server: NewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    certificate, key = authority.pair(name="Tocsin")
    clients: list[str] = []

    async def script(peer: Peer) -> None:
        shown = peer.writer.get_extra_info("ssl_object").getpeercert()
        clients.append(shown["subject"][0][0][1])
        while True:
            await peer.request()
            await peer.say(OK)

    asking = authority.server(x509.DNSName("localhost"), asks_client=True)
    async with target(script, asking) as t, proxy() as p:
        server = new_server(proxy=p.url(f"operator:{PROXY_PASSWORD}"))
        settings = {
            "url": t.url("localhost"),
            "auth": BASIC,
            "client_certificate": {"certificate": certificate, "private_key": key},
        }
        await asyncio.to_thread(_deliver, server, settings)
        assert set(clients) == {"Tocsin"}
        assert p.places == [f"127.0.0.1:{t.port}"] * len(p.places)
        first, second = t.requests
        assert b"\r\nauthorization: Basic %s\r\n" % b64encode(b"user:c4n4ry-password") in first
        assert f"\r\nauthorization: Bearer {TOKEN}\r\n".encode() in second
        await asyncio.to_thread(_fail, server, settings, p)
        await asyncio.to_thread(_nothing_is_readable, server, key)


def _deliver(server: Server, settings: dict[str, Any]) -> None:
    tenant = server.start().tenant("acme")
    channel = tenant.channel(**settings_of(settings))
    pair = settings["client_certificate"]
    assert channel["settings"]["auth"] == BASIC | {"password": MASK}
    assert channel["settings"]["client_certificate"] == pair | {"private_key": MASK}
    _settled(tenant, "delivered")
    # The masked settings keep what is stored; one of them is changed.
    bearer = {"type": "bearer", "token": TOKEN}
    changed = tenant.change(channel["id"], settings=channel["settings"] | {"auth": bearer})
    assert changed["settings"]["auth"] == bearer | {"token": MASK}
    _settled(tenant, "delivered")
    moved = tenant.change(channel["id"], settings={"url": "https://localhost:9/"}, enabled=False)
    assert moved["settings"].keys() == {"url", "send_token", "signing_secret"}


def _fail(server: Server, settings: dict[str, Any], p: Tunnel) -> None:
    tenant = server.tenant("other")
    without = {"url": settings["url"], "auth": BASIC}
    channel = tenant.channel(**settings_of(without))
    error = _settled(tenant, "exhausted")["last_error"]
    assert error.startswith(("tls_failed: ", "connection_reset: ")), error
    # Nothing listens there, which only the proxy can tell.
    tenant.change(channel["id"], settings={"url": "http://127.0.0.1:9/"})
    error = _settled(tenant, "exhausted")["last_error"]
    assert error.startswith("proxy_failed: the proxy"), error
    assert p.places[-1] == "127.0.0.1:9"


def settings_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `Tenant.channel`."""
    return {"url": settings["url"], "settings": settings, "retry": {"schedule": []}}


def _settled(tenant: Tenant, status: str) -> Any:
    return tenant.settled(tenant.publish()["id"], status, seconds=60)


def _nothing_is_readable(server: Server, key: str) -> None:
    """No secret stands in a file of the service or in its log."""
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    secret_line = key.splitlines()[1].encode()
    for path in [*files, server.log]:
        found = path.read_bytes()
        for secret in (b"c4n4ry", b64encode(b"operator:c4n4ry-proxy"), secret_line):
            assert secret not in found, path.name

"""Recognisable secrets in every place that takes one: none is readable anywhere afterwards."""

import asyncio
import gzip
import json
import sqlite3
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import API, Reply, Server, Tenant, until
from tests.blackbox.slack import CLIENT_SECRET
from tests.blackbox.test_backup import tocsin
from tests.net.authority import Authority
from tests.net.hostile import OK, Peer, target
from tests.net.tunnel import proxy

from tocsin.crypto.sealing import new_master_key

pytestmark = pytest.mark.anyio

WORD = "c4n4ry"
OPERATOR_TOKEN = f"{WORD}-operator-token-0123456789abcdef"
PASSWORD = f"{WORD} horse battery staple"
PROXY_LOGIN = f"operator:{WORD}-proxy"
SMTP_LOGIN = f"mailer:{WORD}-smtp"
HOOKSTREAM = "/v1/notification-channels"
SETTLED = ("delivered", "exhausted", "rejected")
PUBLIC = ("/api/openapi.json", "/api/docs", "/healthz", "/readyz")
VIEWED = (
    *("", "/projects", "/channels", "/events", "/deliveries", "/attempts", "/jobs"),
    *("/keys", "/audit", "/members"),
)


class Planted:
    """Every secret there is, by what it is; each in all the forms it could be written in."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {"the word in all of them": WORD}

    def __setitem__(self, name: str, secret: str) -> None:
        assert len(secret) >= 6
        self.secrets[name] = secret

    def found_in(self, content: bytes) -> set[str]:
        """The names of those that can be read in it."""
        return {name for name, secret in self.secrets.items() if any_form(secret, content)}


def any_form(secret: str, content: bytes) -> bool:
    raw = secret.encode()
    escaped = json.dumps(secret)[1:-1].encode()
    forms = {raw, escaped, quote(secret, safe="").encode()}
    # Of base64 the middle, which is the same whatever stands before and after.
    forms |= {b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)}
    return any(form in content for form in forms if len(form) >= 6)


@pytest.mark.long
async def test_no_secret_can_be_read_where_it_does_not_belong(
    tmp_path: Path,
    new_server: NewServer,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(OK)

    asking = authority.server(x509.DNSName("localhost"), asks_client=True)
    pair = authority.pair(name="Tocsin")
    async with target(script, asking) as secured, proxy() as way:
        planted = Planted()
        old, new = new_master_key(), new_master_key()
        planted["the old master key"], planted["the master key"] = old, new
        planted["login of the proxy"] = PROXY_LOGIN
        planted["login of the mail server"] = SMTP_LOGIN
        planted["Slack's client secret"] = CLIENT_SECRET
        server = new_server(
            log_level="debug",
            log_format="json",
            operator_token=OPERATOR_TOKEN,
            master_key=old,
            proxy=way.url(PROXY_LOGIN),
            smtp_url=f"smtp://{SMTP_LOGIN}@127.0.0.1:9",
            smtp_from="tocsin@example.com",
            slack_client_id="4724469134.4644010092",
            slack_client_secret=CLIENT_SECRET,
        )
        await asyncio.to_thread(
            exercise, server, planted, receiver, secured.url("localhost"), pair, new
        )


def exercise(
    server: Server,
    planted: Planted,
    receiver: Receiver,
    secured: str,
    pair: tuple[str, str],
    new_key: str,
) -> None:
    tenant = server.start().tenant("acme", projects=("app",))
    planted["an admin's key"] = tenant.key
    channels = plant(tenant, planted, receiver, secured, pair)
    cookie = sign_in(tenant, planted)
    viewer = make_key(tenant, planted)
    deliver(tenant, channels)
    provoke(tenant, channels)
    rotate(tenant, planted, channels[0])
    deliver(tenant, channels)
    sees_nothing(tenant, planted, viewer, channels, cookie)
    prints_nothing(server, planted)
    stores_nothing(server, planted)
    # Once more, after everything was sealed anew and the process has ended.
    assert server.stop() == 0
    server.settings["TOCSIN_MASTER_KEY"] = f"{new_key},{server.settings['TOCSIN_MASTER_KEY']}"
    server.start()
    told = tocsin(server, "rotate-master-key", "--token", OPERATOR_TOKEN)
    assert told.returncode == 0, told.stderr
    assert not planted.found_in((told.stdout + told.stderr).encode())
    deliver(tenant, channels)
    server.kill()
    stores_nothing(server, planted)


# Planting


def plant(
    tenant: Tenant, planted: Planted, receiver: Receiver, secured: str, pair: tuple[str, str]
) -> list[str]:
    """Channels of every type with a secret in every place; their ids."""
    receiver.behave("/hook", always(reply(400, b"no")))
    certificate, private_key = pair
    planted["a client's private key"] = private_key.splitlines()[1]
    for name in ("basic", "bearer", "header", "signing", "hookstream", "slack", "discord"):
        planted[name] = f"{WORD}-{name}-0123456789"
    secrets = planted.secrets
    webhooks: list[dict[str, Any]] = [
        {
            "url": secured,
            "auth": {"type": "basic", "username": "u", "password": secrets["basic"]},
            "client_certificate": {"certificate": certificate, "private_key": private_key},
            "signing_secret": secrets["signing"],
            "send_token": True,
            "asymmetric_signature": True,
        },
        {"url": receiver.url(), "auth": {"type": "bearer", "token": secrets["bearer"]}},
        {"url": receiver.url(), "signing_secret": secrets["signing"]},
    ]
    made = [
        tenant.channel(
            one["url"],
            settings=one,
            headers={"x-secret": secrets["header"]},
            retry={"schedule": []},
        )
        for one in webhooks
    ]
    for number, one in enumerate(made):
        planted[f"signing secret {number}"] = one["secret"].removeprefix("whsec_")
    paths = {
        "slack": f"/services/T000/B000/{secrets['slack']}",
        "discord": f"/api/webhooks/123456789012345678/{secrets['discord']}",
    }
    for type, path in paths.items():
        url = receiver.url(path, always(reply(500, b"no")))
        body = {"name": type, "type": type, "settings": {"url": url}, "retry": {"schedule": []}}
        made.append(created(tenant, body))
    email = {"name": "m", "type": "email", "settings": {"to": ["a@example.com"]}}
    made.append(created(tenant, email | {"retry": {"schedule": []}}))
    body = {
        "name": "old",
        "channel_type": "webhook",
        "config": {"url": receiver.url(), "secret": secrets["hookstream"]},
    }
    answer = tenant.server.call("POST", HOOKSTREAM, body, token=tenant.key)
    assert answer.status == 201, answer
    ids = [*(one["id"] for one in made), answer.json()["channel"]["id"]]
    tenant.change(ids[-1], retry={"schedule": []})
    return ids


def created(tenant: Tenant, body: dict[str, Any]) -> Any:
    made = tenant.call("POST", "/channels", body)
    assert made.status == 201, made
    return made.json()


def sign_in(tenant: Tenant, planted: Planted) -> str:
    """A person with a password; the cookie of the session."""
    server = tenant.server
    planted["a password"] = PASSWORD
    body = {"email": "ann@example.com", "organization": tenant.organization, "role": "viewer"}
    made = server.call("POST", f"{API}/users", body, token=OPERATOR_TOKEN)
    assert made.status == 201, made
    link = made.json()["link"]["url"].rpartition("/")[2]
    planted["a link"] = link
    path = f"{API}/auth/links/{link}"
    used = server.call("POST", path, {"password": PASSWORD}, token=None)
    assert used.status == 200, used
    wrong = {"email": "ann@example.com", "password": f"{WORD} is not the password"}
    assert server.call("POST", f"{API}/auth/sign-in", wrong, token=None).status == 401
    right = {"email": "ann@example.com", "password": PASSWORD}
    given = server.call("POST", f"{API}/auth/sign-in", right, token=None)
    assert given.status == 200, given
    cookie = given.headers["set-cookie"].partition(";")[0]
    planted["a session"] = cookie.partition("=")[2]
    return cookie


def make_key(tenant: Tenant, planted: Planted) -> str:
    made = tenant.call("POST", "/keys", {"name": "v", "role": "viewer"})
    token: str = made.json()["token"]
    planted["a viewer's key"] = token
    return token


# Using


def deliver(tenant: Tenant, channels: list[str]) -> None:
    """One event to every channel: one target takes it, others fail in their own ways."""
    event = tenant.publish(data={"n": 1}, channel_ids=channels)

    def ended() -> list[Any] | None:
        found = tenant.deliveries(event["id"])
        return found if all(one["status"] in SETTLED for one in found) else None

    found = until(ended, "all deliveries have ended", 60)
    statuses = {one["channel_id"]: one["status"] for one in found}
    assert statuses.pop(channels[0]) == "delivered"
    assert len(statuses) == len(channels) - 1
    assert "exhausted" in statuses.values()


def provoke(tenant: Tenant, channels: list[str]) -> None:
    """Requests that are refused while they carry secrets."""
    secret = f"{WORD}-refused"
    for settings in (
        {"url": f"https://user:{secret}@example.com/"},
        {"auth": {"type": "bearer", "token": f"{secret} with blanks"}},
        {"auth": {"type": "basic", "username": "a:b", "password": secret}},
        {"client_certificate": {"certificate": secret, "private_key": secret}},
        {"signing_secret": secret * 200},
    ):
        refused = tenant.call("PATCH", f"/channels/{channels[0]}", {"settings": settings})
        assert refused.status == 400, refused
        assert WORD.encode() not in refused.body
    for token in (f"toc_{WORD}", f"{OPERATOR_TOKEN}x"):
        refused = tenant.server.call("GET", f"{API}/organizations", token=token)
        assert refused.status == 401
        assert WORD.encode() not in refused.body
    assert tenant.call("POST", f"/channels/{channels[1]}/test").status == 200


def rotate(tenant: Tenant, planted: Planted, channel_id: str) -> None:
    given = tenant.call("POST", f"/channels/{channel_id}/rotate-secret", {})
    assert given.status == 200, given
    planted["a rotated secret"] = given.json()["secret"].removeprefix("whsec_")


# Looking


def sees_nothing(
    tenant: Tenant, planted: Planted, viewer: str, channels: list[str], cookie: str
) -> None:
    """Neither a viewer's key nor a person who may view, nor a stranger, is shown a secret."""
    server = tenant.server
    paths = [f"{tenant.root}{path}" for path in VIEWED]
    paths += [f"{tenant.root}/channels/{id}" for id in channels]
    paths += [f"{tenant.root}/deliveries/{one['id']}" for one in tenant.all("/deliveries")]
    paths += [HOOKSTREAM, f"{API}/channel-types", *PUBLIC]
    for path in paths:
        check(server.call("GET", path, token=viewer), planted, path)
        check(server.call("GET", path, token=None, headers={"cookie": cookie}), planted, path)
    metrics = server.call("GET", "/metrics", token=OPERATOR_TOKEN)
    assert metrics.status == 200
    check(metrics, planted, "/metrics")
    shown = tenant.call("GET", f"/channels/{channels[0]}/secret")
    assert planted.found_in(shown.body) == {"a rotated secret"}
    for id in channels:
        assert server.call("GET", f"{tenant.root}/channels/{id}/secret", token=viewer).status == 403
        # Nor does whoever may change everything see what a target is sent.
        seen = tenant.call("GET", f"/channels/{id}")
        check(seen, planted, f"channel {id}")


def check(answer: Reply, planted: Planted, where: str) -> None:
    found = planted.found_in(answer.body + repr(answer.headers).encode())
    assert not found, f"{where}: {found}"


def prints_nothing(server: Server, planted: Planted) -> None:
    """What the operator's commands print and write holds none."""
    folder = server.data_dir.parent
    told = tocsin(server, "config")
    assert told.returncode == 0, told.stderr
    outputs = [told.stdout + told.stderr]
    told = tocsin(server, "doctor")
    outputs.append(told.stdout + told.stderr)
    export = folder / "export.tar.gz"
    told = tocsin(server, "export-org", "acme", str(export), "--token", OPERATOR_TOKEN)
    assert told.returncode == 0, told.stderr
    outputs.append(told.stdout + told.stderr)
    for output in outputs:
        found = planted.found_in(output.encode())
        assert not found, found
    found = planted.found_in(gzip.decompress(export.read_bytes()))
    assert not found, f"export: {found}"
    backup = folder / "backup.db"
    told = tocsin(server, "backup", str(backup))
    assert told.returncode == 0, told.stderr
    found = planted.found_in(backup.read_bytes())
    assert not found, f"backup: {found}"
    backup.unlink()


def stores_nothing(server: Server, planted: Planted) -> None:
    """The files of the service, and its log, hold none; what is stored is sealed or hashed."""
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert {"tocsin.db", "sending.journal"} <= {path.name for path in files}
    for path in [*files, server.log]:
        found = planted.found_in(path.read_bytes())
        assert not found, f"{path.name}: {found}"
    with sqlite3.connect(f"file:{server.data_dir / 'tocsin.db'}?mode=ro", uri=True) as database:
        blobs = [row[0] for row in database.execute("SELECT sealed FROM channels")]
    database.close()
    assert blobs
    assert all(bytes(blob).startswith(b"gAAAA") for blob in blobs)

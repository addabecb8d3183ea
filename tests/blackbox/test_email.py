"""E-mail through the front door: made in two dialects, sent by a real mail server, in the log."""

import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from tests.blackbox.conftest import NewServer
from tests.blackbox.server import Reply, Server, Tenant, until
from tests.net.authority import Authority
from tests.net.mail_server import MailServer, Receipt

PASSWORD = "c4n4ry p:/ss"
LOGIN_URL = "tocsin:c4n4ry%20p%3A%2Fss"
SENDER = "Fjord <tocsin@fjord.example>"
CHANNELS = "/v1/notification-channels"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mail_server(authority: Authority) -> Iterator[MailServer]:
    """Offers STARTTLS, and takes no mail without a login."""
    tls = authority.server(x509.DNSName("localhost"))
    with MailServer(tls=tls, login=("tocsin", PASSWORD)) as server:
        yield server


@pytest.fixture(scope="module")
def posting(
    authority: Authority, mail_server: MailServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A service that may call no address of this machine, and yet reaches its mail server."""
    folder = tmp_path_factory.mktemp("email")
    (folder / "authority.pem").write_text(authority.pem)
    trusting = f"SSL_CERT_FILE={folder / 'authority.pem'}"
    server = Server(
        folder / "data",
        {
            "requests_per_minute": 0,
            "stranger_requests_per_minute": 0,
            "log_level": "debug",
            "allow_networks": "",
            "smtp_url": mail_server.url(LOGIN_URL),
            "smtp_from": SENDER,
        },
        command=("env", trusting, sys.executable, "-m", "tocsin", "serve"),
    )
    try:
        yield server.start()
        assert server.stop() == 0, server.said()
        for path in (*server.data_dir.rglob("*"), server.log):
            held = path.read_bytes() if path.is_file() else b""
            assert b"c4n4ry" not in held, path
    finally:
        server.close()


@pytest.fixture
def fjord(posting: Server) -> Tenant:
    return posting.tenant(f"fjord-{next(_numbers)}", projects=["app"])


def address(name: str) -> str:
    """An address that no other test writes to."""
    return f"{name}-{next(_numbers)}@example.com"


def sent(mail_server: MailServer, to: str) -> list[Receipt]:
    return [one for one in mail_server.receipts if to in one.to]


def make(tenant: Tenant, config: Any) -> Reply:
    body = {"name": "On call", "channel_type": "email", "config": config}
    return tenant.server.call("POST", CHANNELS, body, token=tenant.key)


def made(tenant: Tenant, *to: str, **fields: Any) -> Any:
    body = {"name": "On call", "type": "email", "settings": {"to": list(to)}, **fields}
    reply = tenant.call("POST", "/channels", body)
    assert reply.status == 201, reply
    return reply.json()


def test_through_hookstream_from_the_form_to_the_mailbox(
    fjord: Tenant, mail_server: MailServer
) -> None:
    to = address("ana")
    reply = make(fjord, {"email": to})
    assert reply.status == 201, reply
    channel = reply.json()["channel"]
    assert (channel["channel_type"], channel["last_error"]) == ("email", None)
    assert json.loads(channel["config"]) == {"to": [to]}

    path = f"{CHANNELS}/{channel['id']}"
    tested = fjord.server.call("POST", f"{path}/test", token=fjord.key)
    assert (tested.status, tested.json()) == (200, {"success": True, "error": None})
    (greeting,) = sent(mail_server, to)
    assert (greeting.secure, greeting.login) == (True, "tocsin")
    assert greeting.message["Subject"] == "Hello from Tocsin"
    assert "“On call”" in greeting.part("plain")

    event = fjord.publish(
        "build.created", {"app": "Fjord", "version": "4.3", "url": "https://x.example/1"},
        project="app",
    )  # fmt: skip
    delivery = fjord.settled(event["id"], "delivered", seconds=60)
    mail = sent(mail_server, to)[1]
    assert mail.message["Message-ID"] == f"<{delivery['id']}@fjord.example>"
    assert mail.message["From"] == "Fjord <tocsin@fjord.example>"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert "https://x.example/1" in mail.part("plain")
    assert 'href="https://x.example/1"' in mail.part("html")
    (attempt,) = fjord.attempts(delivery["id"])
    assert (attempt["outcome"], attempt["status_code"], attempt["error"]) == (
        *("delivered", None, None),
    )

    changed = fjord.server.call("PATCH", path, {"config": {"to": [to, "b@x.example"]}},
                                token=fjord.key)  # fmt: skip
    assert json.loads(changed.json()["channel"]["config"]) == {"to": [to, "b@x.example"]}
    assert fjord.get(f"/channels/{channel['id']}")["settings"] == {"to": [to, "b@x.example"]}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "config.to"),
        ({"to": []}, "config.to"),
        ({"to": "a@x.example", "email": "a@x.example"}, "config."),
        ({"email": "ana@x.example\r\nRCPT TO:<eve@x.example>"}, "config.email"),
        ({"email": ["ana@x.example", "Eve <eve@x.example>"]}, "config.email[1]"),
        ({"to": ["a@x.example"] * 11}, "config.to"),
        ({"to": ["a@x.example"], "from": "eve@x.example"}, "config.from"),
    ],
)
def test_what_is_no_recipient_is_refused(fjord: Tenant, config: Any, field: str) -> None:
    reply = make(fjord, config)
    assert reply.status == 400, reply
    assert field in reply.json()["error"]


def test_words_of_an_event_stay_words(fjord: Tenant, mail_server: MailServer) -> None:
    to = address("victim")
    made(fjord, to)
    evil = "x\r\nBcc: eve@example.com\r\n\r\n<script>alert(1)</script>\r\n.\r\nQUIT"
    event = fjord.publish("a.b", {"message": evil, evil: evil}, title=f"hi\n{evil}")
    fjord.settled(event["id"], "delivered", seconds=60)
    (mail,) = sent(mail_server, to)
    assert mail.to == (to,)
    assert mail.message["Bcc"] is None
    assert "<script>" not in mail.part("html")
    assert "<script>alert(1)</script>\n.\nQUIT" in mail.part("plain")


def test_what_the_server_refuses(fjord: Tenant, mail_server: MailServer) -> None:
    """5xx is final; 4xx is tried again by the schedule; one of several recipients is enough."""
    never, later, some = address("never"), address("later"), address("some")
    mail_server.answers[never] = f"550 5.1.1 <{never}> unknown at 10.0.0.5"
    mail_server.answers[later] = "451 4.7.1 greylisted"
    made(fjord, never, event_types=["never.*"])
    made(fjord, later, event_types=["later.*"], retry={"schedule": ["1s"] * 20})
    made(fjord, never, some, event_types=["some.*"])

    rejected = fjord.settled(fjord.publish("never.x")["id"], "rejected", seconds=60)
    assert rejected["last_error"] == (
        "smtp_reply: 550 5.1.1: the address does not exist or is not accepted"
    )
    waiting = fjord.publish("later.x")["id"]
    until(lambda: fjord.deliveries(waiting)[0]["attempt_count"], "a first attempt", 60)
    del mail_server.answers[later]
    delivered = fjord.settled(waiting, "delivered", seconds=60)
    first, *_, last = fjord.attempts(delivered["id"])
    assert (first["outcome"], first["error"]) == (
        *("retry", "smtp_reply: 451 4.7.1: the mail server's rules forbid it"),
    )
    assert last["outcome"] == "delivered"
    assert len(sent(mail_server, later)) == 1

    partly = fjord.settled(fjord.publish("some.x")["id"], "delivered", seconds=60)
    (attempt,) = fjord.attempts(partly["id"])
    assert attempt["response_body"] == "1 of 2 recipients refused: 550 5.1.1"
    (mail,) = sent(mail_server, some)
    assert mail.to == (some,)


def test_it_is_in_the_catalogue(fjord: Tenant) -> None:
    assert catalogue(fjord)["available"] is True
    assert catalogue(fjord)["install"] is None


def test_without_a_mail_server_it_says_what_to_set(tenant: Tenant) -> None:
    kind = catalogue(tenant)
    assert kind["available"] is False
    assert "TOCSIN_SMTP_URL" in kind["install"]
    body = {"name": "n", "type": "email", "settings": {"to": ["ana@example.com"]}}
    reply = tenant.call("POST", "/channels", body)
    assert reply.status == 400, reply
    assert "TOCSIN_SMTP_URL" in reply.json()["detail"]
    assert "TOCSIN_SMTP_FROM" in reply.json()["detail"]


def test_a_mail_server_needs_a_sender(new_server: NewServer) -> None:
    server = new_server(smtp_url="smtp://mail.example")
    process = server.spawn()
    try:
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    assert "TOCSIN_SMTP_FROM" in server.said()
    assert "Traceback" not in server.said()


def catalogue(tenant: Tenant) -> Any:
    kinds = tenant.server.call("GET", "/api/v1/channel-types", token=tenant.key).json()["data"]
    (found,) = (kind for kind in kinds if kind["name"] == "email")
    return found

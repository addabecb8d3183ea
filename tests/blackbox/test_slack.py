"""Slack through the front door: made by OAuth or by URL, in every dialect, down to the message."""

import itertools
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import HANG, Answer, Receiver, always, reply
from tests.blackbox.server import Reply, Server, Tenant
from tests.blackbox.slack import (
    BOT_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    REDIRECT_URI,
    FakeSlack,
    answer,
    refusal,
)
from tests.channels.block_kit import words

MASK = "••••"

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with Receiver() as receiver:
        yield FakeSlack(receiver)


@pytest.fixture(scope="module")
def connected(slack: FakeSlack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that Slack knows; when all tests are done no secret stands in its files."""
    server = Server(
        tmp_path_factory.mktemp("slack") / "data",
        {
            "requests_per_minute": 0,
            "stranger_requests_per_minute": 0,
            "log_level": "debug",
            "slack_client_id": CLIENT_ID,
            "slack_client_secret": CLIENT_SECRET,
            "slack_api_url": slack.api_url,
        },
    )
    try:
        yield server.start()
        check_nothing_leaked(server)
        assert server.stop() == 0, server.said()
        check_nothing_leaked(server)
    finally:
        server.close()


@pytest.fixture
def fjord(connected: Server) -> Tenant:
    return connected.tenant(f"fjord-{next(_numbers)}", projects=["app"])


def check_nothing_leaked(server: Server) -> None:
    """No code, URI, token or webhook of any test in any file or in the log."""
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    for path in (*files, server.log):
        held = path.read_bytes()
        for secret in ("c0d3-", "hook-of-", REDIRECT_URI, CLIENT_SECRET, BOT_TOKEN):
            assert secret.encode() not in held, (path.name, secret)


def code() -> str:
    return f"c0d3-{next(_numbers)}.4644010092"


def notifications(tenant: Tenant, *, organization_level: bool = False) -> str:
    below = "" if organization_level else "/apps/app"
    return f"/v1/organizations/{tenant.organization}{below}/notifications"


def connect(tenant: Tenant, code: str, *, key: str | None = None, **members: Any) -> Reply:
    """The documented call of an application, with members laid over."""
    setup = {"slack": {"code": code, "redirectUri": REDIRECT_URI}}
    body = {"type": "slack", "events": {"buildCreated": True}, "setup": setup, **members}
    reply = tenant.server.call("POST", notifications(tenant), body, token=key or tenant.key)
    assert code.encode() not in reply.body
    assert REDIRECT_URI.encode() not in reply.body
    return reply


def channels(tenant: Tenant) -> list[Any]:
    return list(tenant.all("/channels"))


def error(reply: Reply) -> Any:
    assert reply.json()["status"] is False
    return reply.json()["error"]


def test_a_consent_becomes_a_channel_that_delivers(fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    path = slack.consent(mine)
    made = connect(fjord, mine)
    assert made.status == 200, made
    assert sum(mine.encode() in asked.body for asked in slack.asked) == 1
    data = made.json()["data"]
    assert data["type"] == "slack"
    assert data["config"] == {"slack": {"team": "Fjord AS", "channel": "#builds"}}
    assert data["events"]["buildCreated"] is True
    assert data["events"]["feedbackCreated"] is False
    assert "description" not in data
    (channel,) = channels(fjord)
    assert channel["name"] == "slack Fjord AS/#builds"
    assert channel["project_id"] == data["application"]
    assert channel["settings"] == {
        "url": slack.receiver.url(f"/services/T024F4A92/B07GBUE3Z/{MASK}"),
        "team": "Fjord AS",
        "channel": "#builds",
    }
    event = fjord.publish(data={"title": "Build 7", "note": "<!channel> *x*"}, project="app")
    (receipt,) = slack.receiver.wait(1, path)
    assert fjord.settled(event["id"], "delivered", "rejected")["status"] == "delivered"
    shown = words(receipt.json()).splitlines()
    assert shown[:3] == ["📦 Build 7", "*Note*", "<!channel> *x*"]
    assert b"<!channel>" not in receipt.body


def test_reads_show_no_secret_in_any_dialect(fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    slack.consent(mine)
    made = connect(fjord, mine, description="Builds").json()["data"]
    one = f"{notifications(fjord)}/{made['id']}"
    hookstream = f"/v1/notification-channels/{made['id']}?org_id={fjord.organization}"
    for path in (notifications(fjord), one, hookstream, f"{fjord.root}/channels/{made['id']}"):
        read = fjord.server.call("GET", path, token=fjord.key)
        assert read.status == 200, read
        for secret in ("hook-of", mine, REDIRECT_URI, CLIENT_SECRET, BOT_TOKEN):
            assert secret.encode() not in read.body
    listed = fjord.server.call("GET", f"{notifications(fjord)}?type=slack", token=fjord.key)
    assert listed.json()["data"]["items"] == [made]
    assert made["description"] == "Builds"
    assert channels(fjord)[0]["name"] == "Builds"


def test_an_organization_connects_too(fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    path = slack.consent(mine, team=None, channel="#\u202eall\x00\n")
    setup = {"slack": {"code": mine, "redirectUri": REDIRECT_URI}, "webhook": "ignored"}
    body = {"type": "slack", "events": {"feedbackCreated": True}, "setup": setup}
    place = notifications(fjord, organization_level=True)
    made = fjord.server.call("POST", f"{place}/", body, token=fjord.key)
    assert made.status == 200, made
    data = made.json()["data"]
    assert "application" not in data
    assert data["config"] == {"slack": {"team": None, "channel": "#<U+202E>all␀␊"}}
    fjord.publish("bug.created", {"summary": "It fell over"})
    (receipt,) = slack.receiver.wait(1, path)
    assert words(receipt.json()).startswith("🐞 Bug created\nIt fell over\n")


def test_a_code_works_once(fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    slack.consent(mine)
    assert connect(fjord, mine).status == 200
    again = connect(fjord, mine)
    assert again.status == 400
    assert error(again) == {
        "code": 5010,
        "message": "Slack authorization failed",
        "data": {"slack": "code_already_used"},
    }
    assert len(channels(fjord)) == 1


REFUSALS = {
    "invalid_code": (refusal("invalid_code"), "invalid_code"),
    "with 4xx": (reply(400, b'{"ok":false,"error":"invalid_code"}'), "invalid_code"),
    "hostile": (refusal("<b>\u202e\x1b[31m&" + "x" * 500), "b_31m_" + "x" * 57),
    "an echo": (refusal(f"bad secret {CLIENT_SECRET}"), "unknown_error"),
    "no name": (answer({"ok": False}), "unknown_error"),
    "odd name": (refusal({"a": 1}), "unknown_error"),
    "empty name": (refusal("  "), "unknown_error"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_told_by_slack_s_name(name: str, fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    slack.answers[mine], shown = REFUSALS[name]
    refused = connect(fjord, mine)
    assert refused.status == 400
    assert error(refused) == {
        "code": 5010,
        "message": "Slack authorization failed",
        "data": {"slack": shown},
    }
    assert channels(fjord) == []


def granted(**webhook: Any) -> Answer:
    return answer({"ok": True, "access_token": BOT_TOKEN, "team": {"name": "T"}, **webhook})


# (what Slack answers, the seconds to wait)
TROUBLE = {
    "500": (reply(500, b"oops"), 10),
    "503": (reply(503, b"", retry_after="77"), 77),
    "429": (reply(429, b'{"ok":false,"error":"ratelimited"}', retry_after="30"), 30),
    "ratelimited": (refusal("ratelimited"), 10),
    "internal_error": (refusal("internal_error"), 10),
    "redirect": (reply(302, b"", location="https://elsewhere.example/"), 10),
    "no JSON": (reply(200, b"<html>We are down</html>"), 10),
    "4xx, no JSON": (reply(404, b"not here"), 10),
    "no object": (reply(200, b"[1]"), 10),
    "no UTF-8": (reply(200, b'{"ok":true,"x":"\xff"}'), 10),
    "too deep": (reply(200, b"[" * 60_000), 10),
    "too long": (reply(200, b'{"ok":true,"x":"' + b"x" * 100_000 + b'"}'), 10),
    "empty": (reply(204), 10),
    "not ok": (answer({"ok": "yes"}), 10),
    "no webhook": (granted(), 10),
    "webhook null": (granted(incoming_webhook=None), 10),
    "webhook without URL": (granted(incoming_webhook={"channel": "#x"}), 10),
    "webhook with odd URL": (granted(incoming_webhook={"url": "javascript:alert(1)"}), 10),
    "webhook with a mask": (granted(incoming_webhook={"url": f"https://x/{MASK}"}), 10),
    "webhook in a forbidden place": (granted(incoming_webhook={"url": "http://10.1.2.3/x"}), 10),
    "cut": (Answer(b'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"ok":', then="close"), 10),
    "no HTTP": (Answer(b"SSH-2.0-OpenSSH\r\n", then="close"), 10),
    "reset": (Answer(b"", then="reset"), 10),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_slack_s_trouble_is_not_the_caller_s(name: str, fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    slack.answers[mine], seconds = TROUBLE[name]
    refused = connect(fjord, mine)
    assert refused.status == 503, refused
    assert refused.headers["retry-after"] == str(seconds)
    assert error(refused) == {"code": 1001, "message": "Service unavailable"}
    assert channels(fjord) == []


@pytest.mark.long
def test_a_slow_slack_is_given_up(fjord: Tenant, slack: FakeSlack) -> None:
    mine = code()
    slack.answers[mine] = HANG
    refused = connect(fjord, mine)
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    assert channels(fjord) == []


def test_a_slack_that_is_not_there(new_server: NewServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        there = {
            "closed": f"http://127.0.0.1:{closed.getsockname()[1]}",
            "guarded": "http://10.1.2.3/api/",
        }
        for name, url in there.items():
            server = new_server(
                name,
                slack_client_id=CLIENT_ID,
                slack_client_secret=CLIENT_SECRET,
                slack_api_url=url,
            ).start()
            tenant = server.tenant("fjord", projects=["app"])
            refused = connect(tenant, code())
            assert (refused.status, refused.headers["retry-after"]) == (503, "10"), name
            assert channels(tenant) == []
            check_nothing_leaked(server)
            assert server.stop() == 0


def test_without_an_app_there_is_no_consent(service: Server) -> None:
    tenant = service.tenant("no-slack", projects=["app"])
    refused = connect(tenant, "c0d3-unasked")
    assert refused.status == 400
    assert error(refused) == {"code": 5011, "message": "Slack is not configured"}
    assert channels(tenant) == []
    # What is wrong with the call itself is said first.
    refused = connect(tenant, "c0d3-unasked", description="x" * 129)
    assert error(refused)["code"] == 3000


def test_a_wrong_client_secret_is_told(new_server: NewServer, slack: FakeSlack) -> None:
    server = new_server(
        slack_client_id=CLIENT_ID, slack_client_secret="x" * 20, slack_api_url=slack.api_url[:-1]
    ).start()
    tenant = server.tenant("fjord", projects=["app"])
    mine = code()
    slack.consent(mine)
    refused = connect(tenant, mine)
    assert (refused.status, error(refused)["data"]) == (400, {"slack": "bad_client_secret"})
    assert "TOCSIN_SLACK_CLIENT_ID" in server.said()
    check_nothing_leaked(server)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "description": ({"description": "x" * 129}, "description"),
    "control character": ({"description": "a\0b"}, "description"),
    "events": ({"events": {"buildCreated": "yes"}}, "events.buildCreated"),
    "no setup": ({"setup": {}}, "setup.slack"),
    "other setup": ({"setup": {"webhook": {"url": "https://example.com"}}}, "setup.slack"),
    "no code": ({"setup": {"slack": {"redirectUri": REDIRECT_URI}}}, "setup.slack.code"),
    "no URI": ({"setup": {"slack": {"code": "c"}}}, "setup.slack.redirectUri"),
    "empty code": (
        {"setup": {"slack": {"code": "", "redirectUri": REDIRECT_URI}}},
        "setup.slack.code",
    ),
    "long code": (
        {"setup": {"slack": {"code": "c" * 257, "redirectUri": REDIRECT_URI}}},
        "setup.slack.code",
    ),
    "long URI": (
        {"setup": {"slack": {"code": "c", "redirectUri": "https://" + "x" * 249}}},
        "setup.slack.redirectUri",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_slack_is_not_asked_in_vain(name: str, fjord: Tenant, slack: FakeSlack) -> None:
    before = len(slack.asked)
    body, field = BAD[name]
    refused = connect(fjord, code(), **body)
    assert refused.status == 400
    assert error(refused)["code"] == 3000
    assert error(refused)["data"]["errors"][0]["field"] == field
    assert len(slack.asked) == before
    assert channels(fjord) == []


def test_slack_is_not_asked_by_who_may_not_create(fjord: Tenant, slack: FakeSlack) -> None:
    before = len(slack.asked)
    made = fjord.call("POST", "/keys", {"name": "viewer", "role": "viewer"})
    refused = connect(fjord, code(), key=made.json()["token"])
    assert (refused.status, error(refused)["code"]) == (403, 4003)
    assert connect(fjord, code(), key="toc_none").status == 401
    elsewhere = fjord.server.tenant(f"elsewhere-{next(_numbers)}")
    refused = connect(fjord, code(), key=elsewhere.key)
    assert (refused.status, error(refused)["code"]) == (404, 3001)
    assert len(slack.asked) == before


def test_slack_is_not_asked_beyond_the_quota(new_server: NewServer, slack: FakeSlack) -> None:
    server = new_server(
        slack_client_id=CLIENT_ID,
        slack_client_secret=CLIENT_SECRET,
        slack_api_url=slack.api_url,
        channels_per_organization_max=1,
    ).start()
    tenant = server.tenant("fjord", projects=["app"])
    first, second = code(), code()
    slack.consent(first)
    slack.consent(second)
    assert connect(tenant, first).status == 200
    refused = connect(tenant, second)
    assert (refused.status, error(refused)["code"]) == (409, 5001)
    assert second not in slack.used
    assert len(channels(tenant)) == 1


def test_a_channel_by_url_natively(fjord: Tenant, slack: FakeSlack) -> None:
    url = slack.webhook("hook-of-hand")
    (kind,) = (
        one
        for one in fjord.server.call("GET", "/api/v1/channel-types", token=fjord.key).json()["data"]
        if one["name"] == "slack"
    )
    assert (kind["available"], kind["secret_fields"]) == (True, ["url"])
    assert kind["schema"]["properties"]["url"]["writeOnly"] is True
    body = {"name": "ops", "type": "slack", "settings": {"url": url}}
    made = fjord.call("POST", "/channels", body)
    assert made.status == 201, made
    channel = made.json()
    masked = slack.receiver.url(f"/services/T024F4A92/B07GBUE3Z/{MASK}")
    assert channel["settings"] == {"url": masked}
    assert (channel["headers"], channel["format"]) == (None, None)
    assert "secret" not in channel
    tested = fjord.call("POST", f"/channels/{channel['id']}/test")
    assert (tested.status, tested.json()["success"]) == (200, True), tested
    (receipt,) = slack.receiver.at("/services/T024F4A92/B07GBUE3Z/hook-of-hand")
    assert "👋 Hello from Tocsin" in words(receipt.json())
    for settings, field in (
        ({"url": masked}, "settings.url"),
        ({"url": ""}, "settings.url"),
        ({}, "settings.url"),
        ({"url": "http://10.1.2.3/x"}, "settings.url"),
        ({"url": url, "token": "x"}, "settings.token"),
    ):
        refused = fjord.call("POST", "/channels", {**body, "settings": settings})
        assert refused.status == 400, refused
        assert refused.json()["errors"][0]["field"] == field
    for extra in ({"headers": {"X-A": "1"}}, {"format": "tocsin"}):
        assert fjord.call("POST", "/channels", {**body, **extra}).status == 400
    assert len(channels(fjord)) == 1


@pytest.mark.parametrize("key", ["url", "webhook_url"])
def test_a_channel_by_url_in_hookstream(key: str, fjord: Tenant, slack: FakeSlack) -> None:
    url = slack.webhook(f"hook-of-hookstream-{key}")
    body = {"name": "ops", "channel_type": "slack", "config": {key: url}}
    made = fjord.server.call("POST", "/v1/notification-channels", body, token=fjord.key)
    assert made.status == 201, made
    masked = slack.receiver.url(f"/services/T024F4A92/B07GBUE3Z/{MASK}")
    assert made.json()["channel"]["config"] == json.dumps(
        {"url": masked}, separators=(",", ":"), ensure_ascii=False
    )
    for config, field in (
        ({key: masked}, f"config.{key}"),
        ({"url": url, "webhook_url": url}, "config."),
        ({key: url, "team": "x"}, "config.team"),
        ({}, "config.url"),
    ):
        wrong = {**body, "config": config}
        refused = fjord.server.call("POST", "/v1/notification-channels", wrong, token=fjord.key)
        assert refused.status == 400, refused
        assert field in refused.json()["error"]


@pytest.mark.parametrize(
    ("status", "body", "ends", "said"),
    [
        (403, b"invalid_token", "rejected", "http_status: 403 invalid_token: the webhook is not"),
        (404, b"no_service", "rejected", "http_status: 404 no_service: the webhook was removed"),
        (400, b"invalid_blocks", "rejected", "http_status: 400"),
        (410, b"channel_is_archived", "waiting", "http_status: 410 channel_is_archived: "),
    ],
)
def test_what_slack_will_never_take(
    status: int, body: bytes, ends: str, said: str, fjord: Tenant, slack: FakeSlack
) -> None:
    path = f"/services/T/B/hook-of-{status}-{next(_numbers)}"
    url = slack.receiver.url(path, always(reply(status, body)))
    made = fjord.call("POST", "/channels", {"name": "x", "type": "slack", "settings": {"url": url}})
    event = fjord.publish()
    slack.receiver.wait(1, path)
    fjord.settled(event["id"], ends)
    delivery = next(d for d in fjord.deliveries(event["id"]))
    assert delivery["waiting_for"] == ("channel_disabled" if status == 410 else None)
    (attempt,) = fjord.attempts(delivery["id"])
    assert attempt["error"].startswith(said)
    channel = fjord.get(f"/channels/{made.json()['id']}")
    assert channel["last_error"].startswith(said)
    assert channel["enabled"] is (status != 410)
    assert "hook-of" not in json.dumps([attempt, channel, delivery])

"""Applivery and hookstream: names, shapes and numbers as their clients know them."""

import json
from typing import Any

import pytest
from msgspec import UNSET
from tests.web.fakes import ACME, BLOG, OPERATOR, RIVAL, SECRET, SHOP, Client, Fake

from tocsin.domain.model import Format

pytestmark = pytest.mark.anyio

A = f"/v1/organizations/acme/apps/{SHOP}/notifications"
O = "/v1/organizations/acme/notifications"  # noqa: E741 - the contract's name
H = "/v1/notification-channels"
HOOK = {"webhook": {"url": "https://hooks.example/x"}}


async def test_applivery_create(fake: Fake, call: Client) -> None:
    body = {
        "type": "webhook",
        "events": {"buildCreated": True, "feedbackCreated": True, "unknown": 7},
        "description": "string",
        "setup": HOOK | {"slack": "ignored"},
        "more": None,
    }
    answer = await call("POST", A, body)
    assert answer.status == 200
    data = answer.json()["data"]
    assert answer.json()["status"] is True
    assert data == {
        "id": data["id"],
        "organization": ACME,
        "application": SHOP,
        "description": "string",
        "type": "webhook",
        "config": {"webhook": {"url": "https://hooks.example/x", "token": SECRET}},
        "events": {
            "buildCreated": True,
            "buildProcessed": False,
            "feedbackCreated": True,
            "certificateWillExpire": False,
        },
        "updatedAt": "2027-01-15T08:00:00.000Z",
        "createdAt": "2027-01-15T08:00:00.000Z",
    }
    (draft,) = fake.channels.drafts
    assert (draft.format, draft.project, draft.name) == (Format.APPLIVERY, SHOP, "string")
    assert draft.event_types == ["build.created", "feedback.created", "bug.created"]

    answer = await call("POST", O, {"type": "webhook", "events": {}, "setup": HOOK})
    data = answer.json()["data"]
    assert "application" not in data
    assert "description" not in data
    assert len(data["events"]) == 18
    draft = fake.channels.drafts[-1]
    assert (draft.name, draft.project, draft.event_types) == ("webhook hooks.example", None, [])


APPLIVERY_BAD: dict[str, tuple[str, Any, str]] = {
    "no type": (A, {}, "type"),
    "type": (A, {"type": "email", "setup": HOOK}, "type"),
    "no setup": (A, {"type": "webhook"}, "setup.webhook"),
    "null setup": (A, {"type": "webhook", "setup": None}, "setup.webhook"),
    "other member": (A, {"type": "webhook", "setup": {"slack": {}}}, "setup.webhook"),
    "no url": (A, {"type": "webhook", "setup": {"webhook": {}}}, "setup.webhook.url"),
    "url type": (A, {"type": "webhook", "setup": {"webhook": {"url": 1}}}, "setup.webhook.url"),
    "bad url": (A, {"type": "webhook", "setup": {"webhook": {"url": "x"}}}, "setup.webhook.url"),
    "long url in A": (
        A,
        {"type": "webhook", "setup": {"webhook": {"url": "https://a/" + "x" * 250}}},
        "setup.webhook.url",
    ),
    "long url in O": (
        O,
        {"type": "webhook", "events": {}, "setup": {"webhook": {"url": "https://a/" + "x" * 500}}},
        "setup.webhook.url",
    ),
    "no events in O": (O, {"type": "webhook", "setup": HOOK}, "events"),
    "null events in O": (O, {"type": "webhook", "events": None, "setup": HOOK}, "events"),
    "flag": (
        A,
        {"type": "webhook", "events": {"buildCreated": 1}, "setup": HOOK},
        "events.buildCreated",
    ),
    "long description": (
        A,
        {"type": "webhook", "description": "x" * 129, "setup": HOOK},
        "description",
    ),
    "NUL": (A, {"type": "webhook", "description": "a\0", "setup": HOOK}, "description"),
    "no code": (A, {"type": "slack", "setup": {"slack": {"redirectUri": "x"}}}, "setup.slack.code"),
    "malformed": (A, b'{"type": "webhook", "x": 1e999}', ""),
    "deep": (A, b'{"type": "webhook", "x": ' + b"[" * 100_000 + b"}", ""),
}


@pytest.mark.parametrize(("path", "body", "field"), APPLIVERY_BAD.values(), ids=APPLIVERY_BAD)
async def test_applivery_refuses(path: str, body: Any, field: str, call: Client) -> None:
    answer = await call("POST", path, body)
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["code"], error["message"]) == (3000, "Validation Error")
    assert error["data"]["errors"][0]["field"] == field


async def test_applivery_urls_between_the_levels(call: Client) -> None:
    setup = {"webhook": {"url": "https://a/" + "x" * 400}}
    body = {"type": "webhook", "events": {}, "setup": setup}
    assert (await call("POST", O, body)).status == 200
    assert (await call("POST", A, body)).status == 400


async def test_applivery_slack(call: Client) -> None:
    consent = {"slack": {"code": "c", "redirectUri": "https://x"}}
    answer = await call("POST", A, {"type": "slack", "setup": consent})
    assert (answer.status, answer.json()["error"]) == (
        400,
        {"code": 5011, "message": "Slack is not configured"},
    )


async def test_applivery_reads(fake: Fake, call: Client) -> None:
    for number in range(5):
        fake.channels.add(name=f"n{number}", event_types=("build.*",))
    whole = fake.channels.add(project_id=None)
    email = fake.channels.add(type="email")
    other = fake.channels.add(project_id=BLOG)
    data = (await call("GET", A + "?limit=2&page=2&sort=createdAt&type=webhook")).json()["data"]
    items = data.pop("items")
    assert len(items) == 2
    assert items[0]["events"]["buildCreated"] is True
    assert data == {
        "totalDocs": 5,
        "limit": 2,
        "page": 2,
        "totalPages": 3,
        "hasPrevPage": True,
        "hasNextPage": True,
        "prevPage": 1,
        "nextPage": 3,
    }
    data = (await call("GET", A + "?page=9&sort=")).json()["data"]
    assert (data["items"], data["prevPage"], data["nextPage"]) == ([], 8, None)
    data = (await call("GET", f"/v1/organizations/ACME/apps/{BLOG}/notifications/")).json()["data"]
    assert [one["id"] for one in data["items"]] == [other.channel.id]
    for bad in ("page=0", "limit=101", "limit=x", "sort=name", "sort=createdAt:up", "type=email"):
        answer = await call("GET", f"{A}?{bad}")
        assert (answer.status, answer.json()["error"]["code"]) == (400, 3000), bad
    assert (await call("GET", f"{O}/{whole.channel.id.upper()}")).status == 200
    for path in (
        f"{A}/{whole.channel.id}",
        f"{A}/{email.channel.id}",
        f"{A}/{other.channel.id}",
        f"{O}/{other.channel.id}",
        f"{A}/nope",
        f"{O}/" + "0" * 24,
        "/v1/organizations/a_b/notifications",
        "/v1/organizations/ab/notifications",
    ):
        answer = await call("GET", path)
        assert (answer.status, answer.json()["error"]["code"]) == (404, 3001), path
    token = (await call("GET", A, token="viewer")).status
    assert token == 200  # `*.list` covers `mad.application.notification.list`
    seen = (await call("GET", f"{O}/{whole.channel.id}", token="viewer")).json()["data"]
    assert seen["config"]["webhook"]["token"] == "whsec_••••"


async def test_hookstream_create(fake: Fake, call: Client) -> None:
    body = {
        "name": "string",
        "channel_type": "webhook",
        "config": {"url": "https://hooks.example/x", "secret": "s3cret"},
        "env_id": f"env_{SHOP.upper()}",
        "org_id": RIVAL,
        "other": 1,
    }
    answer = await call("POST", H, body)
    assert answer.status == 201
    channel = answer.json()["channel"]
    assert channel == {
        "id": channel["id"],
        "org_id": ACME,
        "env_id": SHOP,
        "name": "string",
        "channel_type": "webhook",
        "config": '{"url":"https://hooks.example/x","secret":"••••"}',
        "enabled": 1,
        "last_sent_at": None,
        "error_count": 0,
        "last_error": None,
        "created_at": "2027-01-15T08:00:00.000Z",
        "updated_at": "2027-01-15T08:00:00.000Z",
        "type": "webhook",
        "event_types": ["*"],
    }
    (draft,) = fake.channels.drafts
    assert (draft.format, draft.event_types) == (Format.HOOKSTREAM, UNSET)
    assert draft.settings == {"url": "https://hooks.example/x", "signing_secret": "s3cret"}


URL = {"url": "https://x.example"}
HOOKSTREAM_BAD: dict[str, tuple[Any, str]] = {
    "no name": ({"channel_type": "webhook", "config": URL}, "name"),
    "no config": ({"name": "n", "channel_type": "webhook"}, "config"),
    "config type": ({"name": "n", "channel_type": "webhook", "config": "{}"}, "config"),
    "unknown type": ({"name": "n", "channel_type": "pigeon", "config": {}}, "webhook"),
    "missing key": ({"name": "n", "channel_type": "webhook", "config": {}}, "config.url"),
    "unknown key": ({"name": "n", "channel_type": "webhook", "config": URL | {"a": 1}}, "config.a"),
    "empty secret": (
        {"name": "n", "channel_type": "webhook", "config": URL | {"secret": ""}},
        "config.secret",
    ),
    "bad url": ({"name": "n", "channel_type": "webhook", "config": {"url": "x"}}, "config.url"),
    "no environment": ({"name": "n", "channel_type": "webhook", "config": URL}, "env_id"),
    "environment elsewhere": (
        {"name": "n", "channel_type": "webhook", "config": URL, "env_id": "3" * 24},
        "env_id",
    ),
    "malformed": (b"{", "JSON"),
}


@pytest.mark.parametrize(("body", "word"), HOOKSTREAM_BAD.values(), ids=HOOKSTREAM_BAD)
async def test_hookstream_refuses(body: Any, word: str, call: Client) -> None:
    if isinstance(body, dict) and not word.startswith("env_id"):
        body = body | {"env_id": SHOP}
    answer = await call("POST", H, body)
    assert answer.status == 400
    error = answer.json()
    assert set(error) == {"error", "status", "request_id"}
    assert word in error["error"]
    assert error["status"] == 400
    assert error["request_id"] == answer.headers["x-request-id"]
    assert len(error["request_id"]) == len("req_") + 12


async def test_hookstream_environments(fake: Fake, call: Client) -> None:
    body: dict[str, Any] = {"name": "n", "channel_type": "webhook", "config": URL}
    assert (await call("POST", H, body, token="bound")).json()["channel"]["env_id"] == SHOP
    assert (await call("POST", H, body | {"env_id": BLOG}, token="bound")).status == 400
    # The only environment of an organization needs no name, its only organization neither.
    assert (await call("POST", H, body, token="rival")).status == 201
    answer = await call("POST", H, body, token=OPERATOR)
    assert (answer.status, "org_id" in answer.json()["error"]) == (400, True)
    answer = await call("POST", H, body | {"org_id": RIVAL}, token=OPERATOR)
    assert answer.json()["channel"]["org_id"] == RIVAL
    assert (await call("GET", H + "?org_id=nowhere", token=OPERATOR)).status == 400
    assert len((await call("GET", H + f"?org_id={RIVAL}", token=OPERATOR)).json()["channels"]) == 2


async def test_hookstream_reads(fake: Fake, call: Client) -> None:
    for number in range(7):
        fake.channels.add(project_id=(SHOP, BLOG, None)[number % 3], enabled=number != 0)
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await call("GET", f"{H}?limit=2{cursor}")).json()
        seen += [one["id"] for one in page["channels"]]
        if not page["has_more"]:
            assert page["cursor"] is None
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == [f"{n:024x}" for n in (7, 5, 4, 2, 1)]
    shop = (await call("GET", H + f"?env_id={SHOP}")).json()
    assert [one["id"][-1] for one in shop["channels"]] == ["7", "4", "1"]
    assert shop["channels"][-1]["enabled"] == 0
    assert json.loads(shop["channels"][0]["config"]) == {"url": "https://example.com/hook"}
    for bad in ("limit=0", "limit=101", "cursor=x", "env_id=nowhere"):
        assert (await call("GET", f"{H}?{bad}")).status == 400, bad
    taken = (await call("GET", f"{H}?limit=1", token="rival")).json()
    assert taken == {"channels": [], "cursor": None, "has_more": False}
    first, whole = f"{1:024x}", f"{3:024x}"
    for id, token, status in (
        (first, "admin", 200),
        (f"chan_{first}", "admin", 200),
        (first.upper(), "viewer", 200),
        (first, "bound", 200),
        (f"{2:024x}", "bound", 404),
        (whole, "admin", 404),
        (first, "rival", 404),
        (first, OPERATOR, 200),
        ("nope", "admin", 404),
    ):
        answer = await call("GET", f"{H}/{id}", token=token)
        assert answer.status == status, (id, token)
        assert answer.headers["ratelimit-limit"] in ("6000", "0")
        assert answer.headers["x-request-id"].startswith("req_")


async def test_unexpected_errors_in_each_shape(fake: Fake, call: Client) -> None:
    async def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("secret detail")

    fake.channels.list = fake.channels.page = broken  # type: ignore[method-assign]
    answer = await call("GET", A)
    assert answer.status == 500
    assert answer.json() == {"status": False, "error": {"code": 1000, "message": "Internal error"}}
    answer = await call("GET", H)
    assert (answer.status, answer.json()["error"]) == (500, "Internal error")
    answer = await call("GET", "/api/v1/organizations/acme/channels")
    assert (answer.status, answer.json()["code"]) == (500, "internal")
    assert b"secret" not in answer.body

"""The objects of `wire/native.md` section 3, word by word: members, defaults, statuses."""

import re
import zlib
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, MASK, Tenant, times
from tests.hostile.world import API

pytestmark = pytest.mark.anyio

STAMPS = ("created_at", "updated_at")


async def test_organizations(tenant: Tenant) -> None:
    made = await tenant.post(API, {"name": "Caf\u00e9 \u2615 9"}, token="operator")
    shown = await tenant.get(f"{API}/{made['slug'].upper()}", token="operator")
    assert shown == made
    assert made["slug"].startswith("cafe-9")
    again = await tenant.post(API, {"name": "Caf\u00e9 \u2615 9", "slug": None}, token="operator")
    assert again["slug"] != made["slug"]
    taken = await tenant.call("POST", API, {"name": "n", "slug": made["slug"]}, token="operator")
    assert (taken.status, taken.json()["code"]) == (409, "conflict")
    assert taken.json()["errors"][0]["field"] == "slug"
    path = f"{API}/{made['id'].upper()}"
    changed = await tenant.call("PATCH", path, {"name": "Other"}, token="operator")
    assert (changed.status, changed.json()["name"]) == (200, "Other")
    assert changed.json()["slug"] == made["slug"]
    same = await tenant.call("PATCH", path, {}, token="operator")
    assert same.json() == changed.json()
    key = (await tenant.post(f"{path}/keys", {"name": "k"}, token="operator"))["token"]
    gone = await tenant.call("DELETE", f"{path}?confirm={made['slug']}", token="operator")
    assert gone.status == 202
    assert (await tenant.call("GET", path, token="operator")).status == 404
    assert (await tenant.call("GET", path, token=key)).json()["code"] == "invalid_token"
    times(made, *STAMPS)
    assert made.keys() == {"name", "slug"}


async def test_projects(tenant: Tenant) -> None:
    made = await tenant.post("/projects", {"name": "0123456789abcdef01234567"})
    assert not re.fullmatch("[0-9a-f]{24}", made["slug"])
    assert await tenant.get(f"/projects/{made['slug']}") == made
    taken = await tenant.call("POST", "/projects", {"name": "n", "slug": "one"})
    assert taken.status == 409
    assert (await tenant.call("PATCH", "/projects/two", {"slug": "one"})).status == 409
    channel = await tenant.channel(project=made["slug"])
    gone = await tenant.call("DELETE", f"/projects/{made['id']}")
    assert (gone.status, gone.body) == (204, b"")
    await tenant.get(f"/projects/{made['id']}", status=404)
    await tenant.get(f"/channels/{channel['id']}", status=404)
    times(made, *STAMPS)
    assert made == {
        "organization_id": tenant.names["org"],
        "name": "0123456789abcdef01234567",
        "slug": made["slug"],
    }


async def test_keys(tenant: Tenant) -> None:
    body = {"name": "k", "permissions": ["*.list"], "expires_at": "2099-01-01T00:00:00+01:00"}
    made = await tenant.post("/keys", body | {"project": "one"})
    token = made.pop("token")
    assert re.fullmatch(r"toc_[A-Za-z0-9_-]{43}[A-Za-z0-9_-]{6}", token)
    assert zlib.crc32(token[:47].encode()) >= 0
    listed = await tenant.get("/keys")
    assert listed["data"][0] == made
    assert token.startswith(made["token_prefix"])
    assert len(made["token_prefix"]) < 16
    key_id = made["id"]
    times(made, "created_at")
    made.pop("token_prefix")
    assert made == {
        "name": "k",
        "role": None,
        "permissions": ["*.list"],
        "project_id": tenant.names["project"],
        "expires_at": "2098-12-31T23:00:00.000Z",
        "last_used_at": None,
    }
    assert (await tenant.call("GET", "/channels", token=token)).status == 200
    gone = await tenant.call("DELETE", f"/keys/{key_id.upper()}")
    assert (gone.status, gone.body) == (204, b"")
    refused = await tenant.call("GET", "/channels", token=token)
    assert (refused.status, refused.json()["code"]) == (401, "invalid_token")
    assert (await tenant.call("DELETE", f"/keys/{key_id}")).status == 404
    plain = await tenant.post("/keys", {"name": "k"})
    assert (plain["role"], plain["permissions"], plain["project_id"]) == (None, [], None)


DEFAULTS: dict[str, Any] = {
    "project_id": None,
    "name": "n",
    "type": "webhook",
    "description": None,
    "settings": {"url": HOOK, "send_token": False, "signing_secret": None},
    "event_types": ["*"],
    "filter": [],
    "enabled": True,
    "headers": {},
    "format": "tocsin",
    "retry": {"schedule": ["5s", "5m", "30m", "2h", "5h", "10h", "10h"]},
    "timeout_seconds": 15,
    "rate_limit": None,
    "max_in_flight": None,
    "ordered": False,
    "breaker": {"failures": 5, "cooldown_seconds": 60},
    "status": "active",
    "disabled_reason": None,
    "last_sent_at": None,
    "error_count": 0,
    "last_error": None,
}
NULLED = {name: None for name in DEFAULTS if name in (
    *("description", "event_types", "filter", "enabled", "headers", "format", "retry"),
    *("timeout_seconds", "rate_limit", "max_in_flight", "ordered"),
)}  # fmt: skip


async def test_channel_defaults(tenant: Tenant) -> None:
    body = {"name": "n", "type": "webhook", "settings": {"url": HOOK}}
    for more, expected in (
        ({}, DEFAULTS),
        (NULLED, DEFAULTS),
        ({"breaker": None}, DEFAULTS | {"breaker": None}),
        ({"ordered": True}, DEFAULTS | {"ordered": True, "breaker": None}),
        ({"project": "ONE"}, DEFAULTS | {"project_id": tenant.names["project"]}),
    ):
        made = await tenant.post("/channels", body | more)
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", made.pop("secret"))
        assert await tenant.get(f"/channels/{made['id']}") == made
        times(made, *STAMPS)
        assert made == expected | {"organization_id": tenant.names["org"]}, more


async def test_what_is_given_reads_back_and_null_undoes_it(tenant: Tenant) -> None:
    given = {
        "description": "d",
        "event_types": ["build.*", "a.b"],
        "filter": [{"field": "a.0.b", "op": "in", "value": [1, "x", None]}],
        "enabled": False,
        "headers": {"X-One": "1"},
        "format": "cloudevents",
        "retry": {"schedule": ["60s", "1m"]},
        "timeout_seconds": 1.5,
        "rate_limit": {"count": 3, "per_seconds": 60},
        "max_in_flight": 7,
        "breaker": {"failures": 2, "cooldown_seconds": 3},
    }
    made = await tenant.channel(**given)
    channel = f"/channels/{made['id']}"
    masked = {"headers": {"X-One": MASK}}
    assert {name: made[name] for name in given} == given | masked
    assert (made["status"], made["disabled_reason"]) == ("disabled", None)
    for change, after in (
        ({}, {}),
        ({"headers": {"x-two": "2"}}, {"headers": {"X-One": MASK, "x-two": MASK}}),
        ({"headers": {"X-ONE": None}}, {"headers": {"x-two": MASK}}),
        ({"breaker": {"failures": 9}}, {"breaker": {"failures": 9, "cooldown_seconds": 3}}),
        ({"retry": {"schedule": []}}, {"retry": {"schedule": []}}),
        ({"event_types": []}, {"event_types": []}),
        ({"settings": {"send_token": True}}, {"settings": made["settings"] | {"send_token": True}}),
        ({"settings": {"signing_secret": "s"}},
         {"settings": {"url": HOOK, "send_token": True, "signing_secret": MASK}}),
        ({"settings": {"signing_secret": MASK}}, {}),
        ({"settings": {"signing_secret": None, "send_token": None}},
         {"settings": made["settings"]}),
        (NULLED, {name: DEFAULTS[name] for name in NULLED} | {"status": "active"}),
        ({"breaker": None}, {"breaker": None}),
        ({"breaker": {}}, {"breaker": DEFAULTS["breaker"]}),
        ({"ordered": True}, {"ordered": True, "breaker": None}),
    ):  # fmt: skip
        before = await tenant.get(channel)
        changed = await tenant.call("PATCH", channel, change)
        assert changed.status == 200, (change, changed)
        now = changed.json()
        assert now == await tenant.get(channel)
        assert now | {"updated_at": ""} == before | after | {"updated_at": ""}, change
    gone = await tenant.call("DELETE", channel)
    assert (gone.status, gone.body) == (204, b"")
    assert (await tenant.call("PATCH", channel, {})).status == 404


async def test_a_slack_channel(tenant: Tenant) -> None:
    url = "http://127.0.0.9/services/T0/B0/hush"
    body = {"name": "s", "type": "slack", "settings": {"url": url}, "enabled": False}
    made = await tenant.post("/channels", body)
    assert "secret" not in made
    masked = f"http://127.0.0.9/services/T0/B0/{MASK}"
    assert (made["headers"], made["format"], made["settings"]["url"]) == (None, None, masked)
    channel = f"/channels/{made['id']}"
    await tenant.get(channel + "/secret", status=404)
    kept = await tenant.call("PATCH", channel, {"settings": {"url": masked}})
    assert (kept.status, kept.json()["updated_at"]) == (200, made["updated_at"])
    for wrong in (f"http://127.0.0.9/services/T0/B1/{MASK}", MASK, url + MASK):
        answer = await tenant.call("PATCH", channel, {"settings": {"url": wrong}})
        assert answer.status == 400, wrong
        assert "hush" not in answer.body.decode()


async def test_credentials_are_forgotten_when_the_origin_changes(tenant: Tenant) -> None:
    made = await tenant.channel(headers={"Authorization": "Bearer x", "X-Y": "z"})
    channel = f"/channels/{made['id']}"
    moved = {"settings": {"url": "http://127.0.0.9:10/hook"}}
    kept = moved | {"headers": {"Authorization": MASK}}
    answer = await tenant.call("PATCH", channel, kept)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (400, "headers.Authorization")
    path = {"settings": {"url": "http://127.0.0.9:9/other"}}
    assert (await tenant.call("PATCH", channel, path)).json()["headers"] == made["headers"]
    again = moved | {"headers": {"X-Y": "z"}}
    assert (await tenant.call("PATCH", channel, again)).json()["headers"] == {"X-Y": MASK}


async def test_secret_and_test(tenant: Tenant) -> None:
    made = await tenant.channel()
    channel = f"/channels/{made['id']}"
    assert await tenant.get(channel + "/secret") == {"secret": made["secret"]}
    assert (await tenant.call("GET", channel + "/secret", token="viewer")).status == 403
    tested = await tenant.post(channel + "/test", status=200)
    assert tested.keys() == {"success", "attempt"}
    attempt = tested["attempt"]
    assert attempt.keys() == {
        *("number", "started_at", "duration_ms", "outcome", "status_code", "error"),
        *("response_body", "superseded"),
    }
    assert (tested["success"], attempt["number"], attempt["outcome"]) == (False, 1, "retry")
    assert (attempt["status_code"], attempt["superseded"]) == (None, False)
    event = (await tenant.get("/events?type=tocsin.test"))["data"][0]
    (delivery,) = (await tenant.get(f"/events/{event['id']}"))["deliveries"]
    assert (delivery["origin"], delivery["attempt_count"]) == ("test", 1)
    assert (await tenant.call("POST", f"/deliveries/{delivery['id']}/retry")).status == 409
    after = await tenant.get(channel)
    assert (after["error_count"], after["status"]) == (1, "disabled")


async def test_publishing(tenant: Tenant) -> None:
    channel = await tenant.channel(
        event_types=["one.*"], filter=[{"field": "n", "op": "gt", "value": 1}]
    )
    for channel_id in (tenant.names["channel"], tenant.names["whole"], tenant.names["elsewhere"]):
        await tenant.call("DELETE", f"/channels/{channel_id}")
    accepted = {"duplicate": False, "mismatch": False}
    for event, deliveries, unmatched in (
        ({"type": "one.a", "data": {"n": 2}}, 1, None),
        ({"type": "one.a", "data": {"n": 1}}, 0, "filtered"),
        ({"type": "two", "data": {"n": 2}}, 0, "no_type"),
        ({"type": "one", "data": {"n": 2}, "channel_ids": [channel["id"].upper()]}, 1, None),
    ):
        got = await tenant.post("/events", event, status=202)
        times(got, "created_at")
        expected = {"type": event["type"], "deliveries": deliveries, "unmatched": unmatched}
        assert got == accepted | expected
    await tenant.call("DELETE", f"/channels/{channel['id']}")
    got = await tenant.post("/events", {"type": "one.a", "data": 1}, status=202)
    assert got["unmatched"] == "no_channel"


async def test_event_and_delivery(tenant: Tenant) -> None:
    channel = tenant.names["channel"]
    event = {
        "type": "a.b",
        "data": {"x": [1, None, "\0"]},
        "project": "one",
        "idempotency_key": "k",
    }
    event |= {"occurred_at": "2026-01-01T01:00:00.5+01:00", "channel_ids": [channel], "title": "\0"}
    got = await tenant.post("/events", event, status=202)
    again = await tenant.post("/events", event, status=202)
    assert again == got | {"duplicate": True}
    other = await tenant.post("/events", event | {"data": 2}, status=202)
    assert other == got | {"duplicate": True, "mismatch": True}
    elsewhere = await tenant.post("/events", event | {"project": "two"}, status=202)
    assert elsewhere["duplicate"] is False
    shown = await tenant.get(f"/events/{got['id'].upper()}")
    (listed,) = (await tenant.get("/events?project=one&limit=1&type=a.b"))["data"]
    deliveries = shown.pop("deliveries")
    assert listed == shown | {"deliveries": 1}
    assert shown["id"] == got["id"]
    times(shown, "created_at")
    assert shown == {
        "organization_id": tenant.names["org"],
        "project_id": tenant.names["project"],
        "type": "a.b",
        "data": {"x": [1, None, "\0"]},
        "idempotency_key": "k",
        "occurred_at": "2026-01-01T00:00:00.500Z",
        "unmatched": None,
    }
    (delivery,) = deliveries
    single = await tenant.get(f"/deliveries/{delivery['id']}")
    assert single == delivery | {"attempts": []}
    (listed,) = (await tenant.get(f"/deliveries?channel={channel.upper()}&limit=1&project=one"))[
        "data"
    ]
    assert listed == delivery
    times(delivery, "created_at")
    assert delivery == {
        "event_id": got["id"],
        "event_type": "a.b",
        "channel_id": channel,
        "project_id": tenant.names["project"],
        "origin": "event",
        "status": "waiting",
        "waiting_for": "channel_disabled",
        "attempt_count": 0,
        "next_attempt_at": delivery["next_attempt_at"],
        "finished_at": None,
        "last_status_code": None,
        "last_error": None,
    }


async def test_retry(tenant: Tenant) -> None:
    channel = f"/channels/{tenant.names['elsewhere']}"
    delivery = f"/deliveries/{tenant.names['delivery']}"
    refused = await tenant.call("POST", f"{delivery}/retry")
    assert (refused.status, refused.json()["code"]) == (409, "conflict")
    drop = {"enabled": True, "backlog": "cancel"}
    assert (await tenant.call("PATCH", channel, drop)).status == 200
    assert (await tenant.get(delivery))["status"] == "cancelled"
    assert (await tenant.call("PATCH", channel, {"enabled": False})).status == 200
    again = await tenant.post(f"{delivery}/retry", status=202)
    assert again.keys() == (await tenant.get(delivery)).keys() - {"attempts"}
    assert again["status"] == "waiting"
    assert (await tenant.call("DELETE", channel)).status == 204
    assert (await tenant.get(delivery))["status"] == "cancelled"
    assert (await tenant.call("POST", f"{delivery}/retry")).status == 409


async def test_lists(tenant: Tenant) -> None:
    """Newest first, by cursor, and stable while rows are inserted."""
    makers: dict[str, Any] = {
        "/projects": {"name": "p"},
        "/keys": {"name": "k"},
        "/channels": {"name": "n", "type": "webhook", "settings": {"url": HOOK}, "enabled": False},
        "/events": {"type": "a", "data": 1, "channel_ids": [tenant.names["channel"]]},
    }
    for path, body in makers.items():
        status = 202 if path == "/events" else 201
        for _ in range(3):
            await tenant.post(path, body, status=status)
        watched = (path,) if path != "/events" else (path, "/deliveries", "/audit")
        for shown in watched:
            everything = (await tenant.get(f"{shown}?limit=200"))["data"]
            ids = [one["id"] for one in everything]
            assert ids == sorted(ids, reverse=True)
            walked: list[str] = []
            cursor: str | None = ""
            while cursor is not None:
                page = await tenant.get(f"{shown}?limit=2{cursor and '&cursor=' + cursor}")
                assert page.keys() == {"data", "next_cursor"}
                assert len(page["data"]) <= 2
                walked += [one["id"] for one in page["data"]]
                cursor = page["next_cursor"]
                await tenant.post(path, body, status=status)
            assert walked == ids, shown
    assert await tenant.get("/jobs") == {"data": [], "next_cursor": None}


async def test_filters_of_time(tenant: Tenant) -> None:
    first = await tenant.post("/events", {"type": "t", "data": 1}, status=202)
    later = first
    while later["created_at"] == first["created_at"]:
        later = await tenant.post("/events", {"type": "t", "data": 1}, status=202)
    for query, found in (
        (f"after={first['created_at']}&before={later['created_at']}", True),
        (f"before={first['created_at']}", False),
        (f"after={later['created_at']}", False),
    ):
        listed = (await tenant.get(f"/events?type=t&limit=200&{query}"))["data"]
        assert (first["id"] in [one["id"] for one in listed]) is found


async def test_audit(tenant: Tenant) -> None:
    made = await tenant.channel()
    entry = (await tenant.get("/audit"))["data"][0]
    times(entry, "at")
    actor = entry.pop("actor")
    assert (actor["kind"], actor["name"]) == ("key", "admin")
    assert entry.pop("changes").keys() == {"name", "type", "project_id"}
    assert entry == {
        "dialect": "native",
        "address": "203.0.113.9",
        "action": "channel.create",
        "target": {"kind": "channel", "id": made["id"]},
    }


async def test_channel_types(tenant: Tenant) -> None:
    found = (await tenant.get("/api/v1/channel-types", token="viewer"))["data"]
    members = {"name", "title", "schema", "secret_fields", "docs_url", "available", "install"}
    assert {"webhook", "slack"} <= {one["name"] for one in found}
    assert all(one.keys() == members for one in found)
    assert [one["secret_fields"] for one in found if one["name"] == "slack"] == [["url"]]


async def test_methods(tenant: Tenant) -> None:
    answer = await tenant.call("PUT", "/channels", {})
    assert (answer.status, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    answer = await tenant.call("GET", "/events/batch")
    assert answer.status in (404, 405)
    answer = await tenant.call("GET", "/nothing")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("headers", [{"x_api_key": ""}, {"authorization": "bearer "}])
async def test_credentials(tenant: Tenant, headers: dict[str, str]) -> None:
    call = tenant.world.client
    for token, code in ((tenant.tokens["admin"], None), ("x", "invalid_token")):
        named = {name.replace("_", "-"): value + token for name, value in headers.items()}
        answer = await call("GET", tenant.native, headers=named)
        assert answer.status == (200 if code is None else 401)
        assert code is None or answer.json()["code"] == code
    answer = await call("GET", tenant.native)
    assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")

"""The hookstream dialect, line by line of `wire/hookstream.md`: create, list, get of channels."""

import json
import re
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, MASK, Tenant, times

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"name": "n", "channel_type": "webhook", "config": {"url": HOOK}}


async def test_create_and_get(tenant: Tenant) -> None:
    reply = await tenant.post(tenant.h, BODY | {"enabled": 0, "extra": 1}, token="bound")
    assert reply.keys() == {"channel"}
    made = reply["channel"]
    for id in (made["id"], made["id"].upper(), f"chan_{made['id']}", f"x_{made['id'].upper()}"):
        assert await tenant.get(f"{tenant.h}/{id}", token="bound") == reply
    native = await tenant.get(f"/channels/{made['id']}")
    assert (native["format"], native["enabled"]) == ("hookstream", True)
    times(made, "created_at", "updated_at")
    assert made == {
        "org_id": tenant.names["org"],
        "env_id": tenant.names["project"],
        "name": "n",
        "channel_type": "webhook",
        "type": "webhook",
        "config": json.dumps({"url": HOOK}, separators=(",", ":")),
        "enabled": 1,
        "last_sent_at": None,
        "error_count": 0,
        "last_error": None,
        "event_types": ["*"],
    }


@pytest.mark.parametrize(
    ("type", "config", "shown"),
    [
        ("webhook", {"url": HOOK, "secret": "s"}, {"url": HOOK, "secret": MASK}),
        ("webhook", {"url": HOOK, "secret": None}, {"url": HOOK}),
        ("slack", {"url": f"{HOOK}/services/T/B/x"}, {"url": f"{HOOK}/services/T/B/{MASK}"}),
        ("slack", {"webhook_url": "http://127.0.0.9/services/T/B/x"},
         {"url": f"http://127.0.0.9/services/T/B/{MASK}"}),
    ],
)  # fmt: skip
async def test_config(tenant: Tenant, type: str, config: Any, shown: Any) -> None:
    body = {"name": "n", "channel_type": type, "config": config, "event_types": ["a.*"]}
    made = (await tenant.post(tenant.h, body, token="bound"))["channel"]
    assert isinstance(made["config"], str)
    assert " " not in made["config"]
    assert json.loads(made["config"]) == shown
    assert (made["channel_type"], made["type"], made["event_types"]) == (type, type, ["a.*"])
    if type == "webhook":
        assert (await tenant.get(f"/channels/{made['id']}/secret"))["secret"].startswith("whsec_")


async def test_unknown_types_are_told_the_known(tenant: Tenant) -> None:
    answer = await tenant.call("POST", tenant.h, BODY | {"channel_type": "x"}, token="bound")
    assert answer.status == 400
    assert {"channel_type", "webhook", "slack"} <= set(re.findall(r"\w+", answer.json()["error"]))
    for config, field in (({}, "config.url"), ({"url": HOOK, "a": 1}, "config.a")):
        answer = await tenant.call("POST", tenant.h, BODY | {"config": config}, token="bound")
        assert answer.json()["error"].startswith(field)


async def test_lists(tenant: Tenant) -> None:
    ids = [tenant.names["channel"]]
    for _ in range(4):
        ids.append((await tenant.post(tenant.h, BODY, token="bound"))["channel"]["id"])
    ids.reverse()
    whole = await tenant.get(tenant.h, token="bound")
    assert whole.keys() == {"channels", "cursor", "has_more"}
    assert (whole["cursor"], whole["has_more"]) == (None, False)
    assert [one["id"] for one in whole["channels"]] == ids
    walked: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await tenant.get(
            f"{tenant.h}?limit=2{cursor and '&cursor=' + cursor}", token="bound"
        )
        walked += [one["id"] for one in page["channels"]]
        cursor = page["cursor"]
        assert page["has_more"] is (cursor is not None)
        await tenant.post(tenant.h, BODY, token="bound")
    assert walked == ids
    everywhere = await tenant.get(tenant.h)
    assert tenant.names["elsewhere"] in [one["id"] for one in everywhere["channels"]]
    assert tenant.names["whole"] not in [one["id"] for one in everywhere["channels"]]
    two = await tenant.get(f"{tenant.h}?env_id=env_{tenant.names['second']}")
    assert [one["id"] for one in two["channels"]] == [tenant.names["elsewhere"]]


async def test_the_default_page_is_twenty(tenant: Tenant) -> None:
    for _ in range(20):
        await tenant.post(tenant.h, BODY, token="bound")
    page = await tenant.get(tenant.h, token="bound")
    assert (len(page["channels"]), page["has_more"]) == (20, True)


async def test_environments(tenant: Tenant) -> None:
    one, two = tenant.names["project"], tenant.names["second"]
    for token, more, expected in (
        ("bound", {}, one),
        ("bound", {"env_id": f"env_{one.upper()}"}, one),
        ("bound", {"env_id": two}, "env_id"),
        ("bound", {"org_id": "0" * 24}, one),
        ("admin", {}, "env_id"),
        ("admin", {"env_id": two}, two),
        ("admin", {"env_id": "0" * 24}, "env_id"),
        ("operator", {"env_id": two, "org_id": f"org_{tenant.names['org']}"}, two),
        ("operator", {"env_id": two}, "org_id"),
    ):
        answer = await tenant.call("POST", tenant.h, BODY | more, token=token)
        if answer.status == 201:
            assert answer.json()["channel"]["env_id"] == expected, (token, more)
        else:
            assert (answer.status, answer.json()["error"].partition(":")[0]) == (400, expected)
    await tenant.call("DELETE", "/projects/two")
    made = await tenant.post(tenant.h, BODY)
    assert made["channel"]["env_id"] == one


async def test_organization_channels_do_not_exist_here(tenant: Tenant) -> None:
    for id in (tenant.names["whole"], tenant.names["foreign"], "0" * 24, "x"):
        for token in ("admin", "bound"):
            error = await tenant.get(f"{tenant.h}/{id}", token=token, status=404)
            assert (error["error"], error["status"]) == ("Not found", 404)
    await tenant.get(f"{tenant.h}/{tenant.names['elsewhere']}", token="bound", status=404)


async def test_credentials(tenant: Tenant) -> None:
    key, call = tenant.tokens["bound"], tenant.world.client
    cookie = {"Cookie": f"a=b; better-auth.session_token={await tenant.session()}"}
    for headers, status in (
        ({"X-API-Key": key}, 200),
        ({"Authorization": f"bearer {key}"}, 200),
        (cookie, 200),
        ({"X-API-Key": "x"} | cookie, 200),
        ({"Authorization": "Bearer x"} | cookie, 200),
        ({"X-API-Key": key, "Authorization": "Bearer x"}, 200),
        ({"X-API-Key": "x"}, 401),
        ({}, 401),
    ):
        answer = await call("GET", tenant.h, headers=headers)
        assert answer.status == status, headers
        if status == 401:
            assert answer.json()["error"] == "Invalid API key"
            assert answer.headers["x-request-id"] == answer.json()["request_id"]
    answer = await call("POST", tenant.h, BODY, cookie | {"Origin": "https://elsewhere.example"})
    assert answer.status == 403
    assert (await call("POST", tenant.h, BODY, cookie)).status == 201
    forbidden = await tenant.call("POST", tenant.h, BODY, token="viewer")
    assert forbidden.status == 403


async def test_rate_limit_headers(tenant: Tenant) -> None:
    left = []
    for _ in range(2):
        answer = await tenant.call("GET", tenant.h, token="bound")
        assert answer.headers["ratelimit-limit"] == "6000"
        assert 0 <= int(answer.headers["ratelimit-reset"]) <= 60
        assert re.fullmatch(r"req_[0-9a-f]{12}", answer.headers["x-request-id"])
        left.append(int(answer.headers["ratelimit-remaining"]))
    # A hundred a second come in again: on a slow machine the second call finds as many.
    assert left[1] <= left[0] < 6000
    operator = await tenant.call(
        "GET", f"{tenant.h}?org_id={tenant.names['org']}", token="operator"
    )
    assert operator.headers["ratelimit-limit"] == "0"
    for path in ("/v1/nothing", "/v1", tenant.h + "/1/2"):
        answer = await tenant.call("GET", path, token="bound")
        assert answer.status == 404
        assert {"ratelimit-limit", "x-request-id"} <= answer.headers.keys()
    assert (await tenant.call("PUT", tenant.h, BODY, token="bound")).status == 404


async def test_tracking(tenant: Tenant) -> None:
    made = (await tenant.post(tenant.h, BODY, token="bound"))["channel"]
    await tenant.post(f"/channels/{made['id']}/test", status=200)
    after = (await tenant.get(f"{tenant.h}/{made['id']}", token="bound"))["channel"]
    assert (after["error_count"], after["last_sent_at"], after["enabled"]) == (1, None, 1)
    assert isinstance(after["last_error"], str)
    assert HOOK not in after["last_error"]

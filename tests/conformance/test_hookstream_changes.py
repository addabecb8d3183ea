"""The hookstream dialect, line by line of its contract: PATCH, DELETE and test of channels."""

import asyncio
import json
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, MASK, Tenant

pytestmark = pytest.mark.anyio

OTHER = "http://127.0.0.9:9/other"
SLACK = "http://127.0.0.9/services/T1/B1/x"
SLACK_SHOWN = f"http://127.0.0.9/services/T1/B1/{MASK}"
FIELDS = {
    *("id", "org_id", "env_id", "name", "channel_type", "config", "enabled", "last_sent_at"),
    *("error_count", "last_error", "created_at", "updated_at", "type", "event_types"),
}


class One:
    """A channel made through this dialect, and what is said of it here and natively."""

    def __init__(self, tenant: Tenant, made: Any) -> None:
        self.tenant = tenant
        self.made = made
        self.path = f"{tenant.h}/{made['id']}"
        self.native = f"/channels/{made['id']}"

    async def patch(self, body: Any, *, token: str = "bound", status: int = 200) -> Any:
        answer = await self.tenant.call("PATCH", self.path, body, token=token)
        assert answer.status == status, answer
        if status != 200:
            assert answer.json()["status"] == status
            return answer.json()["error"]
        shown = answer.json()["channel"]
        assert shown.keys() == FIELDS
        assert answer.json() == await self.tenant.get(self.path, token=token)
        return shown

    async def config(self, config: Any, *, status: int = 200) -> Any:
        shown = await self.patch({"config": config}, status=status)
        return json.loads(shown["config"]) if status == 200 else shown

    async def settings(self) -> Any:
        return (await self.tenant.get(self.native))["settings"]


async def new(tenant: Tenant, type: str = "webhook", **config: Any) -> One:
    config = config or {"url": HOOK, "secret": "s3cret"}
    body = {"name": "n", "channel_type": type, "config": config}
    return One(tenant, (await tenant.post(tenant.h, body, token="bound"))["channel"])


async def test_what_changes_nothing(tenant: Tenant) -> None:
    one = await new(tenant)
    before = await tenant.get(one.native)
    masked = {"url": HOOK, "secret": MASK}
    nothing: tuple[Any, ...] = (
        {},
        {"unknown": 1, "type": "slack", "id": "0" * 24, "org_id": 7, "error_count": 9},
        {"name": "n"},
        {"enabled": True},
        {"enabled": 1},
        {"channel_type": "webhook"},
        {"event_types": ["*"]},
        {"event_types": None},
        {"config": masked},
        {"name": "n", "config": masked, "enabled": 1, "channel_type": "webhook"},
    )
    for body in nothing:
        assert await one.patch(body) == one.made, body
        assert await tenant.get(one.native) == before, body
    entries = (await tenant.get("/audit"))["data"]
    assert not [entry for entry in entries if entry["action"] == "channel.update"]


async def test_each_field_alone(tenant: Tenant) -> None:
    one = await new(tenant)
    now = one.made

    def same(shown: dict[str, Any], **changed: Any) -> dict[str, Any]:
        assert shown["updated_at"] >= now["updated_at"]
        assert shown == {**now, **changed, "updated_at": shown["updated_at"]}
        return shown

    now = same(await one.patch({"name": "new"}), name="new")
    now = same(await one.patch({"enabled": False}), enabled=0)
    now = same(await one.patch({"enabled": 1}), enabled=1)
    now = same(await one.patch({"enabled": 0}), enabled=0)
    now = same(await one.patch({"event_types": ["build.*", "x"]}), event_types=["build.*", "x"])
    now = same(await one.patch({"event_types": []}), event_types=[])
    config = f'{{"url":"{OTHER}","secret":"{MASK}"}}'
    now = same(await one.patch({"config": {"url": OTHER, "secret": MASK}}), config=config)
    now = same(
        await one.patch({"name": "all", "enabled": True, "event_types": None}),
        name="all",
        enabled=1,
        event_types=["*"],
    )
    entry = (await tenant.get("/audit"))["data"][0]
    assert (entry["action"], entry["dialect"]) == ("channel.update", "hookstream")


async def test_config_is_replaced_as_a_whole(tenant: Tenant) -> None:
    one = await new(tenant)
    whsec = (await tenant.get(one.native + "/secret"))["secret"]
    await tenant.call(
        "PATCH", one.native, {"settings": {"send_token": True}, "headers": {"x": "y"}}
    )
    assert await one.config({"url": OTHER, "secret": MASK}) == {"url": OTHER, "secret": MASK}
    assert (await one.settings())["signing_secret"] == MASK
    # A secret that is left out is removed; what only the native API shows stays.
    assert await one.config({"url": OTHER}) == {"url": OTHER}
    settings = await one.settings()
    assert (settings["send_token"], settings["signing_secret"]) == (True, None)
    assert (await tenant.get(one.native))["headers"] == {"x": MASK}
    assert (await tenant.get(one.native + "/secret"))["secret"] == whsec
    assert await one.config({"url": OTHER, "secret": "again"}) == {"url": OTHER, "secret": MASK}
    assert await one.config({"url": HOOK, "secret": None}) == {"url": HOOK}


async def test_what_a_config_may_not_be(tenant: Tenant) -> None:
    one = await new(tenant)
    bare = await new(tenant, url=HOOK)
    before = await tenant.get(one.path, token="bound")
    wrong: tuple[tuple[Any, str], ...] = (
        ({}, "config.url"),
        ({"secret": "x"}, "config.url"),
        ({"url": None}, "config.url"),
        ({"url": 1}, "config.url"),
        ({"url": "x"}, "config.url"),
        ({"url": "http://127.0.0.1/"}, "config.url"),
        ({"url": HOOK, "secret": ""}, "config.secret"),
        ({"url": HOOK, "secret": 1}, "config.secret"),
        ({"url": HOOK, "secret": f"a{MASK}"}, "config.secret"),
        ({"url": HOOK, "signing_secret": "x"}, "config.signing_secret"),
        ({"url": HOOK, "send_token": True}, "config.send_token"),
        ({"url": f"{HOOK}/{MASK}", "secret": MASK}, "config.url"),
        ("{}", "config"),
        ([], "config"),
        (None, "config"),
    )
    for config, field in wrong:
        text = await one.config(config, status=400)
        assert text.partition(":")[0] == field, (config, text)
    assert (await bare.config({"url": HOOK, "secret": MASK}, status=400)).startswith(
        "config.secret: "
    )
    assert await tenant.get(one.path, token="bound") == before


async def test_a_url_that_is_a_credential(tenant: Tenant) -> None:
    one = await new(tenant, "slack", webhook_url=SLACK)
    assert json.loads(one.made["config"]) == {"url": SLACK_SHOWN}
    for key in ("url", "webhook_url"):
        assert await one.config({key: SLACK_SHOWN}) == {"url": SLACK_SHOWN}
    for config, field in (
        ({"url": SLACK_SHOWN.replace("B1", "B2")}, "config.url"),
        ({"webhook_url": SLACK_SHOWN.replace("127.0.0.9", "127.0.0.8")}, "config.webhook_url"),
        ({"webhook_url": MASK}, "config.webhook_url"),
        ({"url": SLACK, "webhook_url": SLACK}, "config.webhook_url"),
        ({"url": SLACK, "secret": "x"}, "config.secret"),
        ({"url": SLACK, "channel": "#x"}, "config.channel"),
        ({}, "config.url"),
    ):
        text = await one.config(config, status=400)
        assert text.partition(":")[0] == field, (config, text)
        assert "B1/x" not in text
    # What Slack had said of the old one is native only, and stays with it.
    await tenant.call("PATCH", one.native, {"settings": {"channel": "#builds"}})
    await one.config({"url": SLACK_SHOWN})
    assert (await one.settings())["channel"] == "#builds"
    assert await one.config({"webhook_url": SLACK + "y"}) == {"url": SLACK_SHOWN}
    assert "channel" not in await one.settings()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": None}, "name"),
        ({"enabled": None}, "enabled"),
        ({"enabled": 2}, "enabled"),
        ({"enabled": "true"}, "enabled"),
        ({"event_types": ["a b"]}, "event_types[0]"),
        ({"event_types": "*"}, "event_types"),
        ({"channel_type": "slack"}, "channel_type"),
        ({"channel_type": "pager"}, "channel_type"),
        ({"channel_type": None}, "channel_type"),
        ({"name": "new", "config": {"url": "x"}}, "config.url"),
        ([], ""),
        (b"{", ""),
        (b"", ""),
    ],
)
async def test_what_is_refused(tenant: Tenant, body: Any, field: str) -> None:
    one = await new(tenant)
    text = await one.patch(body, status=400)
    assert text.startswith(f"{field}: ") if field else text
    assert await tenant.get(one.path, token="bound") == {"channel": one.made}


async def test_changes_at_once_are_all_kept(tenant: Tenant) -> None:
    one = await new(tenant)
    bodies = ({"name": "new"}, {"enabled": 0}, {"event_types": ["a"]}, {"config": {"url": OTHER}})
    calls = (tenant.call("PATCH", one.path, body, token="bound") for body in bodies)
    assert [answer.status for answer in await asyncio.gather(*calls)] == [200] * 4
    shown = (await tenant.get(one.path, token="bound"))["channel"]
    assert (shown["name"], shown["enabled"], shown["event_types"]) == ("new", 0, ["a"])
    assert json.loads(shown["config"]) == {"url": OTHER}


@pytest.mark.parametrize("call", ["PATCH", "DELETE", "POST /test"])
async def test_ids_and_who_may(tenant: Tenant, call: str) -> None:
    method, _, more = call.partition(" ")
    body = {"name": "x"} if method == "PATCH" else b""
    names = tenant.names
    strange = [names["foreign"]] if names["foreign"] != names["channel"] else []
    for id in (*strange, names["whole"], names["none"], "x", f"a-{names['channel']}"):
        for token in ("admin", "bound", "viewer"):
            answer = await tenant.call(method, f"{tenant.h}/{id}{more}", body, token=token)
            assert answer.status == 404, (id, token)
            assert answer.json()["error"] == "Not found"
    elsewhere = f"{tenant.h}/{names['elsewhere']}{more}"
    assert (await tenant.call(method, elsewhere, body, token="bound")).status == 404
    own = f"{tenant.h}/{names['channel']}{more}"
    assert (await tenant.call(method, own, body, token="viewer")).status == 403
    for token in ("operator", "bound"):
        id = (await new(tenant)).made["id"]
        for spelled in ("chan_" + id.upper(), id) if method != "DELETE" else (f"x_{id}",):
            answer = await tenant.call(method, f"{tenant.h}/{spelled}{more}", body, token=token)
            assert answer.status == 200, (token, answer)


async def test_delete(tenant: Tenant) -> None:
    one = await new(tenant)
    answer = await tenant.call("DELETE", one.path, token="bound")
    assert (answer.status, answer.json()) == (200, {"success": True})
    for method, path in (("GET", one.path), ("DELETE", one.path), ("PATCH", one.path)):
        again = await tenant.call(method, path, {} if method == "PATCH" else b"", token="bound")
        assert (again.status, again.json()["error"]) == (404, "Not found")
    assert (await tenant.call("POST", one.path + "/test", token="bound")).status == 404
    listed = await tenant.get(tenant.h, token="bound")
    assert one.made["id"] not in [shown["id"] for shown in listed["channels"]]
    await tenant.get(one.native, status=404)
    entry = (await tenant.get("/audit"))["data"][0]
    assert (entry["action"], entry["dialect"]) == ("channel.delete", "hookstream")


async def test_a_failed_test_is_200_and_says_why(tenant: Tenant) -> None:
    one = await new(tenant, url=f"{HOOK}?token=abc", secret="s3cret")
    answer = await tenant.call("POST", one.path + "/test", b"ignored", token="bound")
    assert answer.status == 200
    said = answer.json()
    assert said.keys() == {"success", "error"}
    assert said["success"] is False
    assert said["error"].partition(":")[0] == "connection_refused"
    assert "abc" not in said["error"]
    shown = (await tenant.get(one.path, token="bound"))["channel"]
    assert (shown["error_count"], shown["last_error"]) == (1, said["error"])
    assert (shown["last_sent_at"], shown["enabled"]) == (None, 1)
    (delivery,) = (await tenant.get(f"/deliveries?channel={one.made['id']}"))["data"]
    assert (delivery["origin"], delivery["event_type"]) == ("test", "tocsin.test")
    assert (delivery["status"], delivery["attempt_count"]) == ("exhausted", 1)


async def test_tests_are_limited(tenant: Tenant) -> None:
    """At once; how many a minute may have is tested with a clock of its own in tests/service."""
    one = await new(tenant)
    path = one.path + "/test"
    answers = await asyncio.gather(*(tenant.call("POST", path, token="bound") for _ in range(40)))
    assert {answer.status for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.json()["error"] == "Rate limit exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= refused.headers.keys()

"""The hookstream dialect, line by line of its contract: alert rules, and an alert that arrives."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from tests.blackbox.receiver import Receiver, always, reply
from tests.conformance.tenant import ID, TIME, Tenant
from tests.conformance.test_hookstream_keys import pages
from tests.hostile.world import SETTINGS, World

from tocsin.app import App
from tocsin.config import load

pytestmark = pytest.mark.anyio

RULES = "/v1/alert-rules"
DLQ = {"name": "n", "rule_type": "dlq", "rule_config": {"threshold": 3}}
FIELDS = {
    *("id", "org_id", "env_id", "name", "description", "enabled", "rule_type", "rule_config"),
    *("source_id", "destination_id", "channel_ids", "cooldown_minutes", "last_triggered_at"),
    *("trigger_count", "created_at", "updated_at"),
}
SOON_SECONDS_MAX = 60.0


async def new(tenant: Tenant, *, token: str = "bound", **fields: Any) -> Any:
    answer = await tenant.post(RULES, DLQ | fields, token=token)
    assert answer.keys() == {"alert_rule"}
    shown = answer["alert_rule"]
    assert shown.keys() == FIELDS
    return shown


async def patched(tenant: Tenant, rule: Any, body: Any, *, status: int = 200) -> Any:
    answer = await tenant.call("PATCH", f"{RULES}/{rule['id']}", body, token="bound")
    assert answer.status == status, answer
    return answer.json()["alert_rule"] if status == 200 else answer.json()["error"]


async def test_a_rule_with_nothing_but_what_must_be_there(tenant: Tenant) -> None:
    shown = await new(tenant)
    assert TIME.fullmatch(shown["created_at"])
    assert shown["updated_at"] == shown["created_at"]
    assert ID.fullmatch(shown["id"])
    assert shown == shown | {
        "org_id": tenant.names["org"],
        "env_id": tenant.names["project"],
        "name": "n",
        "description": None,
        "enabled": 1,
        "rule_type": "dlq",
        "rule_config": '{"threshold":3}',
        "source_id": None,
        "destination_id": None,
        "channel_ids": "[]",
        "cooldown_minutes": 60,
        "last_triggered_at": None,
        "trigger_count": 0,
    }
    path = f"{RULES}/{shown['id']}"
    assert await tenant.get(path, token="bound") == {"alert_rule": shown, "history": []}
    for token in ("admin", "viewer", "operator"):
        assert (await tenant.get(path, token=token))["alert_rule"] == shown
    entry = (await tenant.get("/audit"))["data"][0]
    assert (entry["action"], entry["dialect"]) == ("alert_rule.create", "hookstream")
    assert entry["target"] == {"kind": "alert_rule", "id": shown["id"]}


async def test_a_rule_with_everything(tenant: Tenant) -> None:
    channel, project = tenant.names["channel"], tenant.names["project"]
    shown = await new(
        tenant,
        description="d",
        rule_type="latency",
        rule_config={"threshold": 250.5, "percentile_target": 99, "window_minutes": 30},
        source_id=f"env_{project.upper()}",
        destination_id=f"ch_{channel}",
        channel_ids=[channel, f"ch_{channel.upper()}"],
        cooldown_minutes=0,
        enabled=False,  # a new rule is enabled
    )
    assert shown == shown | {
        "description": "d",
        "enabled": 1,
        "rule_config": '{"threshold":250.5,"percentile_target":99,"window_minutes":30}',
        "source_id": project,
        "destination_id": channel,
        "channel_ids": f'["{channel}"]',
        "cooldown_minutes": 0,
    }


async def test_what_changes_nothing_and_each_field_alone(tenant: Tenant) -> None:
    rule = await new(tenant, channel_ids=[tenant.names["channel"]])
    before = len((await tenant.get("/audit"))["data"])
    nothing: tuple[Any, ...] = (
        *({}, {"name": "n"}, {"enabled": True}, {"enabled": 1}, {"rule_type": "dlq"}),
        *({"unknown": 1, "trigger_count": 9}, {"rule_config": {"threshold": 3}}),
        {"source_id": None, "description": None, "channel_ids": [tenant.names["channel"]]},
    )
    for body in nothing:
        assert await patched(tenant, rule, body) == rule, body
    assert len((await tenant.get("/audit"))["data"]) == before
    changes: tuple[tuple[Any, Any], ...] = (
        ({"name": "new"}, {"name": "new"}),
        ({"description": "d"}, {"description": "d"}),
        ({"rule_config": {"threshold": 1}}, {"rule_config": '{"threshold":1}'}),
        ({"destination_id": tenant.names["channel"]}, {"destination_id": tenant.names["channel"]}),
        ({"destination_id": None}, {"destination_id": None}),
        ({"source_id": tenant.names["project"]}, {"source_id": tenant.names["project"]}),
        ({"channel_ids": []}, {"channel_ids": "[]"}),
        ({"cooldown_minutes": 5}, {"cooldown_minutes": 5}),
        ({"enabled": False}, {"enabled": 0}),
        ({"enabled": 1}, {"enabled": 1}),
    )
    now = rule
    for body, changed in changes:
        shown = await patched(tenant, rule, body)
        assert shown["updated_at"] >= now["updated_at"]
        assert shown == now | changed | {"updated_at": shown["updated_at"]}, body
        now = shown
    entry = (await tenant.get("/audit"))["data"][0]
    assert (entry["action"], entry["changes"]) == (
        "alert_rule.update",
        {"enabled": {"from": False, "to": True}},
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rule_type": "latency"}, "rule_type"),
        ({"rule_config": {}}, "rule_config.threshold"),
        ({"rule_config": {"threshold": 1, "x": 1}}, "rule_config.x"),
        ({"channel_ids": ["{elsewhere}"]}, "channel_ids[0]"),
        ({"channel_ids": ["{channel}", "{whole}"]}, "channel_ids[1]"),
        ({"channel_ids": None}, "channel_ids"),
        ({"source_id": "{second}"}, "source_id"),
        ({"destination_id": "{elsewhere}"}, "destination_id"),
        ({"destination_id": "{whole}"}, "destination_id"),
        ({"cooldown_minutes": -1}, "cooldown_minutes"),
        ({"enabled": None}, "enabled"),
        ({"name": ""}, "name"),
    ],
)
async def test_what_is_refused(tenant: Tenant, body: Any, field: str) -> None:
    rule = await new(tenant)
    text = json.dumps(body)
    for name, id in tenant.names.items():
        text = text.replace(f"{{{name}}}", id)
    assert (await patched(tenant, rule, text.encode(), status=400)).startswith(f"{field}: ")
    assert (await tenant.get(f"{RULES}/{rule['id']}"))["alert_rule"] == rule


async def test_lists(tenant: Tenant) -> None:
    made = [await new(tenant, name=f"rule {number}") for number in range(5)]
    second = {"env_id": tenant.names["second"]}
    other = await new(tenant, token="admin", **second)
    found = await pages(tenant, RULES, "alert_rules", token="bound")
    assert found[:5] == made[::-1]
    assert other not in found
    assert other in await pages(tenant, RULES, "alert_rules")
    listed = (await tenant.get(f"{RULES}?env_id={tenant.names['second']}"))["alert_rules"]
    assert listed == [other]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_ids_and_who_may(tenant: Tenant, method: str) -> None:
    body: Any = {"name": "x"} if method == "PATCH" else b""
    elsewhere = await new(tenant, token="admin", env_id=tenant.names["second"])
    for id in (tenant.names["none"], tenant.names["channel"], "x", f"a-{elsewhere['id']}"):
        for token in ("admin", "bound", "viewer"):
            answer = await tenant.call(method, f"{RULES}/{id}", body, token=token)
            assert (answer.status, answer.json()["error"]) == (404, "Not found")
    path = f"{RULES}/{elsewhere['id']}"
    assert (await tenant.call(method, path, body, token="bound")).status == 404
    if method != "GET":
        assert (await tenant.call(method, path, body, token="viewer")).status == 403
    path = f"{RULES}/rule_{elsewhere['id'].upper()}"
    answer = await tenant.call(method, path, body, token="operator")
    assert answer.status == 200
    if method == "DELETE":
        assert answer.json() == {"success": True}
        assert (await tenant.call("GET", path, token="operator")).status == 404


async def test_channels_and_projects_that_go(tenant: Tenant) -> None:
    first, second = (await tenant.channel(project="one"), await tenant.channel(project="one"))
    told = await new(tenant, channel_ids=[first["id"], second["id"]])
    on_it = await new(tenant, destination_id=first["id"])
    answer = await tenant.call("DELETE", f"{tenant.h}/{first['id']}", token="bound")
    assert answer.status == 200
    shown = (await tenant.get(f"{RULES}/{told['id']}"))["alert_rule"]
    assert shown == told | {"channel_ids": f'["{second["id"]}"]'}
    shown = (await tenant.get(f"{RULES}/{on_it['id']}"))["alert_rule"]
    assert (shown["enabled"], shown["destination_id"]) == (0, first["id"])
    text = await patched(tenant, on_it, {"enabled": True}, status=400)
    assert text.startswith("destination_id: ")
    shown = await patched(tenant, on_it, {"enabled": True, "destination_id": second["id"]})
    assert shown["enabled"] == 1
    away = await tenant.post("/projects", {"name": "Away"})
    of_it = await new(tenant, token="admin", env_id=away["id"])
    from_it = await new(tenant, token="admin", env_id=tenant.names["project"], source_id=away["id"])
    assert (await tenant.call("DELETE", f"/projects/{away['id']}")).status == 204
    await tenant.get(f"{RULES}/{of_it['id']}", status=404)
    assert (await tenant.get(f"{RULES}/{from_it['id']}"))["alert_rule"]["enabled"] == 0


# From a failing target to the alert


class Watched:
    """A service with a small quota, and a receiver for what it sends."""

    def __init__(self, home: Tenant, receiver: Receiver) -> None:
        self.home = home
        self.receiver = receiver

    async def evaluate(self) -> int:
        """As it would be at the end of the minute that goes on just now."""
        app = self.home.world.app
        return await app.evaluator.evaluate(app.clock.wall_ms() // 60_000 + 1)

    async def until(self, path: str, count: int) -> list[Any]:
        found = await asyncio.to_thread(self.receiver.wait, count, path, seconds=SOON_SECONDS_MAX)
        return list(found)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as opened:
        yield opened


@pytest.fixture(scope="module")
async def watched(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> AsyncIterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("alerts")
    own = {"data_dir": folder, "allow_networks": "127.0.0.0/8"}
    async with App(load(SETTINGS | own | {"alert_rules_per_organization_max": 3})) as app:
        world = World(app)
        yield Watched(Tenant(world, await world.tenant("watched")), receiver)
        world.close()


async def test_an_alert_arrives_signed_and_once(watched: Watched) -> None:
    home, receiver = watched.home, watched.receiver
    failing = receiver.url("/failing", always(reply(500)))
    # The key may be bound to the project, the settings of retries are native.
    target = {"name": "t", "type": "webhook", "settings": {"url": failing}, "project": "one"}
    target = await home.post("/channels", target | {"retry": {"schedule": []}})
    config = {"url": receiver.url("/alerts"), "secret": "s3cret"}
    body = {"name": "On call", "channel_type": "webhook", "config": config, "event_types": []}
    told = (await home.post(home.h, body, token="bound"))["channel"]
    whsec = (await home.get(f"/channels/{told['id']}/secret"))["secret"]
    rule = await new(
        home,
        rule_type="failure_rate",
        rule_config={"threshold": 0.5, "min_attempts": 3},
        destination_id=target["id"],
        channel_ids=[told["id"]],
    )
    for _ in range(4):
        event = {"type": "a.b", "data": 1, "project": "one", "channel_ids": [target["id"]]}
        await home.post("/events", event, status=202)
    await watched.until("/failing", 4)
    until = time.monotonic() + SOON_SECONDS_MAX
    # Until the last attempts are settled; the service itself may be the one who evaluates.
    while not (await home.get(f"{RULES}/{rule['id']}"))["history"]:
        assert time.monotonic() < until
        await watched.evaluate()
        await asyncio.sleep(0.05)
    (receipt,) = await watched.until("/alerts", 1)
    shown = receipt.json()
    assert TIME.fullmatch(shown.pop("timestamp"))
    reason, data = shown.pop("trigger_reason"), shown.pop("trigger_data")
    assert shown == {
        "event": "alert.triggered",
        "alert_rule": {"id": rule["id"], "name": "n", "rule_type": "failure_rate"},
        "org_id": home.names["org"],
        "env_id": home.names["project"],
        "source_id": None,
        "destination_id": target["id"],
    }
    assert data["failure_rate"] == 1.0
    signed = hmac.new(b"s3cret", receipt.body, hashlib.sha256).hexdigest()
    assert receipt.headers["x-hookstream-signature"] == f"sha256={signed}"
    Webhook(whsec).verify(receipt.body, receipt.headers)
    assert await watched.evaluate() == 0  # the cooldown

    found = await home.get(f"{RULES}/{rule['id']}", token="bound")
    (entry,) = found["history"]
    assert (entry["trigger_reason"], json.loads(entry["trigger_data"])) == (reason, data)
    assert (entry["alert_rule_id"], entry["env_id"]) == (rule["id"], home.names["project"])
    assert json.loads(entry["channels_notified"]) == [told["id"]]
    assert found["alert_rule"]["trigger_count"] == 1
    assert found["alert_rule"]["last_triggered_at"] == entry["created_at"]
    # What was sent for the alert is in the log, and in no statistics.
    deliveries = (await home.get(f"/deliveries?channel={told['id']}"))["data"]
    assert [(one["origin"], one["event_type"]) for one in deliveries] == [
        ("alert", "alert.triggered")
    ]
    assert await watched.evaluate() == 0
    assert len(receiver.at("/alerts")) == 1


async def test_a_rule_too_many_is_409(watched: Watched) -> None:
    made = 0
    while (answer := await watched.home.call("POST", RULES, DLQ, token="bound")).status == 201:
        made += 1
    assert answer.status == 409
    assert "at most 3" in answer.json()["error"]
    assert made <= 3

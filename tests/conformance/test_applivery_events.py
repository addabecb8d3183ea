"""The event table of the Applivery contract: a publish of each type reaches exactly the channels
that want it, at both levels, with the right `action`."""

from typing import Any

import msgspec
import pytest
from tests.conformance.tenant import Tenant
from tests.conformance.test_applivery import BODY, LARGE, OS, SMALL, TYPES, data

from tocsin.domain.envelope import render
from tocsin.domain.model import Event, EventId, Format, OrganizationId, Origin

pytestmark = pytest.mark.anyio

ACTIONS = {
    "build.created": "build_created",
    "build.processed": "build_processed",
    "feedback.created": "feedback_created",
    "bug.created": "bug_created",
    "certificate.will_expire": "certificate_will_expire",
    "apple_push.renovation": "apple_push_certification_renovation",
    "inventory.item_registered": "inventory_item_registered",
    **{f"{os}.enrollment.created": f"{os}_enrollment-token_created" for os in OS.values()},
    **{f"{os}.device.created": f"{os}_device_enrolled" for os in OS.values()},
    **{f"{os}.device.changed_mdm_user": f"{os}_device_added_mdm_user" for os in OS.values()},
}
FLAG_OF = {type: flag for flag, types in TYPES.items() for type in types}
OTHERS = ("build", "build.created.again", "shop.order.paid", "android.device.removed")


def test_the_table_is_whole() -> None:
    assert len(ACTIONS) == 19
    assert set(FLAG_OF) == set(ACTIONS)
    assert set(TYPES) == set(LARGE)


@pytest.fixture
async def listeners(tenant: Tenant) -> dict[str, str]:
    """One channel for each flag of each level, and some with native patterns, by their ids."""
    found: dict[str, str] = {}
    for level, path, flags in (("a", tenant.a, SMALL), ("o", tenant.o, LARGE)):
        for flag in flags:
            body = BODY | {"events": {flag: True}}
            made = data(await tenant.post(path, body, status=200))
            found[made["id"]] = f"{level} {flag}"
            await tenant.call("PATCH", f"/channels/{made['id']}", {"enabled": False})
    elsewhere = tenant.a.replace(tenant.names["project"], "two")
    body = BODY | {"events": dict.fromkeys(SMALL, True)}
    made = data(await tenant.post(elsewhere, body, status=200))
    found[made["id"]] = "elsewhere"
    await tenant.call("PATCH", f"/channels/{made['id']}", {"enabled": False})
    for patterns in (["*"], ["build.*"], []):
        for level, project in (("a", "one"), ("o", None)):
            made = await tenant.channel(event_types=patterns, project=project)
            found[made["id"]] = f"{level} {patterns}"
    for name in ("channel", "whole", "elsewhere"):
        await tenant.call("DELETE", f"/channels/{tenant.names[name]}")
    return found


async def heard(tenant: Tenant, listeners: dict[str, str], **event: Any) -> set[str]:
    made = await tenant.post("/events", {"data": {"n": 1}, **event}, status=202)
    deliveries = (await tenant.get(f"/events/{made['id']}"))["deliveries"]
    names = [listeners[delivery["channel_id"]] for delivery in deliveries]
    assert len(names) == len(set(names))
    return set(names)


async def test_each_type_reaches_exactly_the_right_channels(
    tenant: Tenant, listeners: dict[str, str]
) -> None:
    for type in (*ACTIONS, *OTHERS):
        flag = FLAG_OF.get(type)
        whole = {"o ['*']"}
        own = {"a ['*']"}
        if type.startswith("build."):
            whole.add("o ['build.*']")
            own.add("a ['build.*']")
        if flag is not None:
            whole.add(f"o {flag}")
        if flag in SMALL:
            own.add(f"a {flag}")
        assert await heard(tenant, listeners, type=type) == whole, type
        assert await heard(tenant, listeners, type=type, project="one") == whole | own, type
        other = {"elsewhere"} if flag in SMALL else set()
        assert await heard(tenant, listeners, type=type, project="two") == whole | other, type


@pytest.mark.parametrize("project_id", [None, "3" * 24])
def test_the_body_of_each_type(project_id: Any) -> None:
    channel: Any = None  # only hookstream's format looks at it
    for type, action in (*ACTIONS.items(), *((one, one.replace(".", "_")) for one in OTHERS)):
        event = Event(
            id=EventId("1" * 24),
            organization_id=OrganizationId("2" * 24),
            project_id=project_id,
            type=type,
            data=b'{"n": 1.10}',
            occurred_at=1_700_000_000_000,
            created_at=0,
        )
        raw = render(Format.APPLIVERY, event, Origin.EVENT, channel)
        assert raw.endswith(b',"data":{"n": 1.10}}')
        body = msgspec.json.decode(raw)
        assert list(body) == ["action", "id", "organization", "application", "timestamp", "data"]
        assert body == {
            "action": action,
            "id": "1" * 24,
            "organization": "2" * 24,
            "application": project_id,
            "timestamp": "2023-11-14T22:13:20.000Z",
            "data": {"n": 1.1},
        }
        tested = msgspec.json.decode(render(Format.APPLIVERY, event, Origin.TEST, channel))
        assert tested["action"] == "test"

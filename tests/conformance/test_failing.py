"""A channel that Tocsin disabled because it only failed: each dialect sees it and can undo it."""

import pytest
import sqlalchemy as sa
from tests.conformance.tenant import HOOK, Tenant
from tests.conformance.test_applivery import data

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.storage.control.failing import Failure
from tocsin.storage.tables import lanes

pytestmark = pytest.mark.anyio

STREAK = 12


async def fail(tenant: Tenant, channel_id: str) -> None:
    app = tenant.world.app
    failed = {"failing_since_ms": 1, "failing_streak": STREAK, "error_count": STREAK}
    change = sa.update(lanes).where(lanes.c.channel_id == channel_id).values(failed)
    await app.changes.store.write(lambda c: c.execute(change).rowcount)
    organization_id = OrganizationId(tenant.names["org"])
    assert await app.failing.disable(Failure(ChannelId(channel_id), organization_id, 1, STREAK))


@pytest.mark.parametrize("dialect", ["native", "hookstream", "applivery", "applivery whole"])
async def test_seen_and_undone(tenant: Tenant, dialect: str) -> None:
    project = None if dialect == "applivery whole" else "one"
    made = await tenant.channel(enabled=True, project=project, format="applivery")
    channel_id, native = made["id"], f"/channels/{made['id']}"
    await fail(tenant, channel_id)
    shown = await tenant.get(native)
    assert (shown["enabled"], shown["status"]) == (False, "disabled")
    assert shown["disabled_reason"] == "failing"
    match dialect:
        case "native":
            answer = await tenant.call("PATCH", native, {"enabled": True})
        case "hookstream":
            path = f"{tenant.h}/{channel_id}"
            seen = (await tenant.get(path, token="bound"))["channel"]
            assert (seen["enabled"], seen["error_count"]) == (0, STREAK)
            answer = await tenant.call("PATCH", path, {"enabled": True}, token="bound")
        case _:
            path = f"{tenant.o if project is None else tenant.a}/{channel_id}"
            assert data(await tenant.get(path))["id"] == channel_id
            answer = await tenant.call("PUT", path, {"setup": {"webhook": {"url": HOOK}}})
    assert answer.status == 200, answer
    shown = await tenant.get(native)
    assert (shown["enabled"], shown["status"]) == (True, "active")
    assert (shown["disabled_reason"], shown["error_count"]) == (None, 0)

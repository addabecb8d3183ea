"""Operational events on the whole service: who hears of what, and that it feeds nothing back."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.tenant import Tenant
from tests.storage.stores import now_ms

from tocsin.service.exhausted import MINUTE_MS

pytestmark = pytest.mark.anyio

SECONDS = 60.0


DOCS = Path(__file__).parents[2] / "docs/operational-events.md"


def as_documented(event: dict[str, Any]) -> None:
    """The page shows an event of this type with the same members."""
    shown = map(json.loads, re.findall(r"^```json\n(.*?)^```", DOCS.read_text(), re.M | re.S))
    data = [one["data"].keys() for one in shown if one["type"] == event["type"]]
    assert event["data"].keys() in data, event


async def dead(tenant: Tenant, name: str, **fields: Any) -> str:
    """A channel of a target that refuses connections; each delivery has one attempt."""
    given = {"name": name, "enabled": True, "project": "one", "breaker": None}
    made = await tenant.channel(**(given | {"retry": {"schedule": []}} | fields))
    return str(made["id"])


async def publish(tenant: Tenant, count: int) -> None:
    event = {"type": "build.created", "data": 1, "project": "one"}
    body = {"events": [event] * count}
    await tenant.post("/events/batch", body, status=202)


async def own(tenant: Tenant) -> list[dict[str, Any]]:
    """The organization's operational events, oldest first."""
    found = (await tenant.get("/events?limit=200"))["data"]
    return [one for one in reversed(found) if one["type"].startswith("tocsin.")]


async def finished(tenant: Tenant, channel_id: str, origin: str, count: int) -> list[Any]:
    """Wait until so many deliveries of this origin are final."""
    async with asyncio.timeout(SECONDS):
        while True:
            page = await tenant.get(f"/deliveries?limit=200&channel={channel_id}")
            ended = [
                one
                for one in page["data"]
                if one["origin"] == origin and one["finished_at"] is not None
            ]
            if len(ended) >= count:
                return ended
            await asyncio.sleep(0.1)


async def tell(tenant: Tenant) -> None:
    """Have everything told that is to be told, of this minute as if it were over."""
    app = tenant.world.app
    for _ in range(3):
        await app.outbox.run_once()
        await app.exhausted.run_once(now_ms() + MINUTE_MS + 5_000)


async def test_two_dead_channels_that_hear_of_each_other(tenant: Tenant) -> None:
    channels = [await dead(tenant, name, event_types=["*", "tocsin.*"]) for name in ("a", "b")]
    for _ in range(2):
        await publish(tenant, 10)
        for channel_id in channels:
            await finished(tenant, channel_id, "event", 10)
    for channel_id in channels:
        await finished(tenant, channel_id, "event", 20)
    await tell(tenant)
    told = await own(tenant)
    assert {one["type"] for one in told} == {
        "tocsin.channel.failing",
        "tocsin.delivery.exhausted",
    }
    for one in told:
        as_documented(one)
    about = [one["data"]["channel"]["id"] for one in told if one["type"].endswith("failing")]
    assert sorted(about) == sorted(channels)
    # These fail as well, and nothing is told of that, now or later.
    for channel_id in channels:
        await finished(tenant, channel_id, "operational", len(told))
    await tell(tenant)
    await tell(tenant)
    assert await own(tenant) == told
    assert len(told) <= 10


async def test_from_failing_to_recovered(tenant: Tenant) -> None:
    """What one that asks for it hears of another, in order, and others don't."""
    sick = await dead(tenant, "On call", event_types=["build.*"])
    hears = await dead(tenant, "listens", event_types=["tocsin.channel.*"], enabled=False)
    await dead(tenant, "deaf", event_types=["*"], enabled=False)
    await publish(tenant, 6)
    await finished(tenant, sick, "event", 6)
    await tell(tenant)
    (failing,) = await own(tenant)
    channel = {"id": sick, "name": "On call", "type": "webhook"}
    assert failing["type"] == "tocsin.channel.failing"
    assert failing["project_id"] == tenant.names["project"]
    as_documented(failing)
    said = failing["data"]
    assert said.pop("last_error").startswith("connection_")
    assert said == {"channel": channel, "failures": 5, "last_status_code": None}
    page = await tenant.get(f"/events/{failing['id']}")
    (delivery,) = page["deliveries"]
    assert (delivery["channel_id"], delivery["origin"]) == (hears, "operational")
    async with Target() as target:
        path = f"/channels/{sick}"
        answer = await tenant.call("PATCH", path, {"settings": {"url": target.url}})
        assert answer.status == 200, answer
        await publish(tenant, 1)
        await finished(tenant, sick, "event", 7)
        await tell(tenant)
        _, recovered = await own(tenant)
        assert recovered["type"] == "tocsin.channel.recovered"
        assert recovered["data"] == {"channel": channel}
        target.answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
        await publish(tenant, 1)
        async with asyncio.timeout(SECONDS):
            while (await tenant.get(path))["enabled"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    await tell(tenant)
    *_, disabled = await own(tenant)
    as_documented(disabled)
    as_documented(recovered)
    assert disabled["type"] == "tocsin.channel.disabled"
    assert disabled["data"] == {"channel": channel, "reason": "gone"}
    issues = await tenant.get(f"/v1/issues?destination_id={sick}", token="bound")
    (issue,) = issues["issues"]
    assert issue["occurrence_count"] == 6
    assert issue["last_attempt_id"].endswith(".1")


class Target:
    """A receiver where the tenants' hooks point to."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> "Target":
        self._server = await asyncio.start_server(self._serve, "127.0.0.9", 0)
        self.url = f"http://127.0.0.9:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

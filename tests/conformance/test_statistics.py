"""`…/stats` of `wire/native.md`: what it counts, its buckets, and what it refuses."""

import asyncio
import time
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, Tenant

pytestmark = pytest.mark.anyio

SECONDS_MAX = 60.0
COUNTS = ("accepted", "attempts", "delivered", "failed", "exhausted")
DAY = "after=2026-01-01T00:00:00Z&before=2026-01-02T00:00:00Z"


def sums(found: Any) -> list[int]:
    return [sum(row[name] for row in found["data"]) for name in COUNTS]


async def given_up(tenant: Tenant, channel: str, count: int) -> None:
    """Wait until so many deliveries of a channel have ended."""
    until = time.monotonic() + SECONDS_MAX
    while True:
        found = await tenant.get(f"/deliveries?channel={channel}&status=exhausted")
        if len(found["data"]) == count:
            return
        assert time.monotonic() < until, found
        await asyncio.sleep(0.05)


async def failing_channel(tenant: Tenant, **fields: Any) -> str:
    """A channel whose target refuses, and which gives up at once."""
    made = await tenant.channel(
        enabled=True, retry={"schedule": []}, breaker=None, settings={"url": HOOK}, **fields
    )
    found: str = made["id"]
    return found


async def test_what_was_tried_is_counted_in_its_place(tenant: Tenant) -> None:
    # The tenant has an event already; nothing was sent.
    first = sums(await tenant.get("/stats?bucket=day"))
    first_of_project = sums(await tenant.get("/stats?project=one&bucket=day"))
    assert (first[1:], first_of_project[1:]) == ([0] * 4, [0] * 4)
    own = await failing_channel(tenant, project="one", event_types=["a.*"])
    whole = await failing_channel(tenant, event_types=["b.*"])
    for event in (
        {"type": "a.b", "data": 1, "project": "one"},
        {"type": "a.b", "data": 2, "project": "one"},
        {"type": "b.c", "data": 3},
        {"type": "c.d", "data": 4},
    ):
        await tenant.post("/events", event, status=202)
    await given_up(tenant, own, 2)
    await given_up(tenant, whole, 1)
    await tenant.post(f"/channels/{own}/test", status=200)

    found = await tenant.get("/stats?bucket=minute")
    assert len(found["data"]) == 60
    assert sums(found) == [first[0] + 4, 3, 0, 3, 3]
    busy = [row for row in found["data"] if row["attempts"]]
    for row in busy:
        assert row["failure_rate"] == 1.0
        latency = row["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    quiet = found["data"][0]
    assert quiet.pop("start").endswith(":00.000Z")
    assert quiet == {
        "channel_id": None,
        "project_id": None,
        **dict.fromkeys(COUNTS, 0),
        "failure_rate": None,
        "latency_ms": None,
    }

    of_channel = await tenant.get(f"/stats?channel={own.upper()}")
    assert sums(of_channel) == [0, 2, 0, 2, 2]
    places = {(row["channel_id"], row["project_id"]) for row in of_channel["data"]}
    assert places == {(own, tenant.names["project"])}
    of_project = await tenant.get("/stats?project=ONE&bucket=day")
    assert sums(of_project) == [first_of_project[0] + 2, 2, 0, 2, 2]
    assert len(of_project["data"]) == 30
    bound = await tenant.get("/stats", token="bound")
    assert sums(bound) == sums(of_project)
    assert {row["project_id"] for row in bound["data"]} == {tenant.names["project"]}


async def test_buckets_begin_where_the_period_says(tenant: Tenant) -> None:
    for bucket, count, last in (
        ("minute", 1440, "2026-01-01T23:59:00.000Z"),
        ("hour", 24, "2026-01-01T23:00:00.000Z"),
        ("day", 1, "2026-01-01T00:00:00.000Z"),
    ):
        starts = [
            row["start"] for row in (await tenant.get(f"/stats?{DAY}&bucket={bucket}"))["data"]
        ]
        assert (len(starts), starts[0], starts[-1]) == (count, "2026-01-01T00:00:00.000Z", last)
        assert starts == sorted(starts)
    odd = "after=2026-01-01T10:59:59.999Z&before=2026-01-01T11:00:00.001Z"
    assert [row["start"][11:13] for row in (await tenant.get(f"/stats?{odd}"))["data"]] == [
        "10",
        "11",
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("channel={channel}&project={project}", "project"),
        ("channel=x", "channel"),
        ("channel={none}", "channel"),
        ("project=nowhere", "project"),
        ("bucket=week", "bucket"),
        ("bucket=minute&after=2026-01-01T00:00:00Z&before=2026-01-02T01:00:01Z", "after"),
        ("after=2026-01-02T00:00:00Z&before=2026-01-01T00:00:00Z", "after"),
        ("after=yesterday", "after"),
    ],
)
async def test_what_is_refused(tenant: Tenant, query: str, field: str) -> None:
    refused = await tenant.call("GET", f"/stats?{query.format(**tenant.names)}")
    assert refused.status == 400
    assert refused.json()["errors"][0]["field"] == field

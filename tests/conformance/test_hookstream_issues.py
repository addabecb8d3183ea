"""The hookstream dialect, line by line of `wire/hookstream.md`: issues."""

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from tests.conformance.tenant import ID, TIME, Tenant
from tests.storage.stores import now_ms
from tests.web.issues import make_issue

from tocsin.storage.tables import deliveries
from tocsin.storage.watch_tables import issues as table

pytestmark = pytest.mark.anyio

ISSUES = "/v1/issues"
LATER = "2999-01-01T00:00:00.000Z"


async def new(tenant: Tenant, **values: Any) -> str:
    """An issue of the tenant's channel, unless said otherwise; the tenant has one already."""
    names = tenant.names
    given = {"project_id": names["project"], "channel_id": names["channel"]} | values
    return await make_issue(
        tenant.world.app, names["org"], given.pop("project_id"), given.pop("channel_id"), **given
    )


async def shown(tenant: Tenant, path: str = "", token: str = "bound") -> Any:
    return await tenant.get(ISSUES + path, token=token)


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["issues"]]


async def test_one(tenant: Tenant) -> None:
    names = tenant.names
    more = {"last_delivery_id": "d" * 24, "last_attempt_number": 8, "last_event_id": "e" * 24}
    more |= {"last_error": "http_status: 503", "last_status_code": 503, "occurrence_count": 7}
    id = await new(tenant, fingerprint="http_503", title="The target answers HTTP 503", **more)
    reply = await shown(tenant, f"/{id}")
    assert reply.keys() == {"issue"}
    for other in (id.upper(), f"iss_{id}", f"x_{id.upper()}"):
        assert await shown(tenant, f"/{other}") == reply
    issue = reply["issue"]
    for name in ("first_seen_at", "last_seen_at", "created_at", "updated_at"):
        assert TIME.fullmatch(issue.pop(name)), name
    assert issue == {
        "id": id,
        "org_id": names["org"],
        "env_id": names["project"],
        "destination_id": names["channel"],
        "destination_name": "n",
        "fingerprint": "http_503",
        "title": "The target answers HTTP 503",
        "status": "open",
        "snoozed_until": None,
        "occurrence_count": 7,
        "resolved_at": None,
        "last_attempt_id": f"{'d' * 24}.8",
        "last_event_id": "e" * 24,
        "last_error": "http_status: 503",
        "last_status_code": 503,
    }
    bare = (await shown(tenant, f"/{names['issue']}"))["issue"]
    for name in ("last_attempt_id", "last_event_id", "last_error", "last_status_code"):
        assert bare[name] is None
    assert ID.fullmatch(bare["id"])
    await tenant.call("DELETE", f"{tenant.h}/{names['channel']}", token="bound")
    gone = (await shown(tenant, f"/{id}"))["issue"]
    assert (gone["destination_id"], gone["destination_name"]) == (names["channel"], None)


async def test_lists(tenant: Tenant) -> None:
    names = tenant.names
    first = names["issue"]
    seen = await new(tenant, fingerprint="a", status="acknowledged")
    done = await new(tenant, fingerprint="b", status="resolved", resolved_at=now_ms())
    elsewhere = await new(
        tenant, fingerprint="c", project_id=names["second"], channel_id=names["elsewhere"]
    )
    await new(tenant, fingerprint="d", project_id=None, channel_id=names["whole"])
    page = await shown(tenant)
    assert page.keys() == {"issues", "pagination"}
    assert ids(page) == [first]
    assert page["pagination"] == {"total": 1, "limit": 50, "offset": 0, "has_more": False}
    assert ids(await shown(tenant, "?status=all")) == [done, seen, first]
    assert ids(await shown(tenant, "?status=acknowledged")) == [seen]
    assert ids(await shown(tenant, "?status=resolved")) == [done]
    part = await shown(tenant, "?status=all&limit=2")
    assert ids(part) == [done, seen]
    assert part["pagination"] == {"total": 3, "limit": 2, "offset": 0, "has_more": True}
    part = await shown(tenant, "?status=all&limit=2&offset=2")
    assert ids(part) == [first]
    assert part["pagination"] == {"total": 3, "limit": 2, "offset": 2, "has_more": False}
    assert (await shown(tenant, "?status=all&offset=3"))["pagination"]["has_more"] is False
    # Without an environment all in sight; those of the whole organization's channels do not exist.
    assert ids(await shown(tenant, "?status=all", "admin")) == [elsewhere, done, seen, first]
    everywhere = f"?status=all&org_id={names['org']}"
    assert ids(await shown(tenant, everywhere, "operator")) == [elsewhere, done, seen, first]
    assert ids(await shown(tenant, "?env_id=two", "admin")) == [elsewhere]
    assert ids(await shown(tenant, f"?destination_id=ch_{names['elsewhere']}", "admin")) == [
        elsewhere
    ]
    assert ids(await shown(tenant, f"?destination_id={names['elsewhere']}")) == []
    sums = {"open": 1, "acknowledged": 1, "resolved": 1}
    assert await shown(tenant, "/summary") == sums
    assert await shown(tenant, "/summary", "admin") == sums | {"open": 2}
    assert await shown(tenant, "/summary?env_id=two", "admin") == {
        "open": 1,
        "acknowledged": 0,
        "resolved": 0,
    }


async def test_a_change(tenant: Tenant) -> None:
    path = f"{ISSUES}/{tenant.names['issue']}"
    before = (await tenant.get(path, token="bound"))["issue"]

    async def change(**body: Any) -> Any:
        answer = await tenant.call("PATCH", path, body, token="bound")
        assert answer.status == 200, answer
        reply = answer.json()
        assert reply == await tenant.get(path, token="bound")
        return reply["issue"]

    assert await change() == before
    assert await change(title="mine", occurrence_count=0) == before
    assert (await change(status="acknowledged"))["status"] == "acknowledged"
    done = await change(status="resolved", snoozed_until=LATER)
    assert (done["status"], done["snoozed_until"]) == ("resolved", LATER)
    assert TIME.fullmatch(done["resolved_at"])
    again = await change(status="open", snoozed_until=None)
    assert (again["status"], again["snoozed_until"], again["resolved_at"]) == ("open", None, None)
    assert {name: again[name] for name in before if name != "updated_at"} == {
        name: before[name] for name in before if name != "updated_at"
    }
    for body, field in (
        ({"status": "closed"}, "status"),
        ({"status": None}, "status"),
        ({"snoozed_until": "tomorrow"}, "snoozed_until"),
        ({"snoozed_until": "2020-01-01T00:00:00Z"}, "snoozed_until"),
    ):
        answer = await tenant.call("PATCH", path, body, token="bound")
        assert answer.status == 400
        assert answer.json()["error"].startswith(field), answer
    audit = await tenant.get("/audit?action=issue.update")
    assert len(audit["data"]) == 3
    assert audit["data"][0]["target"] == {"kind": "issue", "id": tenant.names["issue"]}
    assert audit["data"][0]["dialect"] == "hookstream"


async def test_errors_and_headers(tenant: Tenant) -> None:
    for method, path in (
        ("GET", f"/{tenant.names['none']}"),
        ("GET", "/nothing"),
        ("PATCH", f"/{tenant.names['none']}"),
        ("POST", f"/{tenant.names['none']}/retry"),
        ("DELETE", f"/{tenant.names['issue']}"),
    ):
        body: Any = {"status": "open"} if method == "PATCH" else b""
        answer = await tenant.call(method, ISSUES + path, body, token="bound")
        assert (answer.status, answer.json()["error"]) == (404, "Not found"), (method, path)
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    answer = await tenant.call("GET", ISSUES, token="bound")
    for name in ("limit", "remaining", "reset"):
        assert answer.headers[f"ratelimit-{name}"].isdigit()
    answer = await tenant.call("GET", ISSUES, token="nobody")
    assert (answer.status, answer.json()["error"]) == (401, "Invalid API key")
    reader = tenant.tokens["viewer"]
    for method, path in (("PATCH", ""), ("POST", "/retry")):
        body = {"status": "open"} if method == "PATCH" else b""
        one = f"{ISSUES}/{tenant.names['issue']}{path}"
        assert (await tenant.call(method, one, body, token=reader)).status == 403


async def given_up(tenant: Tenant, count: int) -> list[str]:
    """Deliveries to the tenant's channel, which is disabled, as if all attempts had failed."""
    project, channel = tenant.names["project"], tenant.names["channel"]
    event = {"type": "a.b", "data": 1, "project": project, "channel_ids": [channel]}
    made: list[str] = []
    for _ in range(count):
        stored = await tenant.post("/events", event, status=202)
        found = await tenant.get(f"/events/{stored['id']}")
        made += [one["id"] for one in found["deliveries"]]
    ended = sa.update(deliveries).where(deliveries.c.id.in_(made))
    values = {"status": "exhausted", "finished_at": now_ms(), "last_error": "http_status: 500"}
    await tenant.world.app.changes.store.write(
        lambda c: c.execute(ended.values(**values, last_status_code=500)).rowcount
    )
    return made


async def test_the_group_is_retried(tenant: Tenant) -> None:
    path = f"{ISSUES}/{tenant.names['issue']}/retry"
    nothing = await tenant.post(path, token="bound", status=200)
    assert nothing == {"success": True, "retried": 0}
    made = await given_up(tenant, 3)
    assert await tenant.post(path, token="bound", status=200) == {"success": True, "retried": 3}
    async with asyncio.timeout(60):
        waiting: list[str] = []
        while len(waiting) < 3:
            asked = f"/deliveries?channel={tenant.names['channel']}&status=waiting"
            waiting = [one["id"] for one in (await tenant.get(asked))["data"]]
            await asyncio.sleep(0.1)
    assert sorted(waiting) == sorted(made)
    # What waits is not retried twice.
    assert await tenant.post(path, token="bound", status=200) == nothing
    (job,) = (await tenant.get("/jobs"))["data"]
    assert (job["kind"], job["status"], job["total"], job["done"]) == ("recover", "done", 3, 3)
    await tenant.call("DELETE", f"{tenant.h}/{tenant.names['channel']}", token="bound")
    assert (await tenant.call("POST", path, token="bound")).status == 409


async def test_half_an_hour_without_a_recurrence_resolves_it(tenant: Tenant) -> None:
    id, app = tenant.names["issue"], tenant.world.app
    old = now_ms() - 31 * 60_000
    quiet = sa.update(table).where(table.c.id == id).values(last_seen_at=old, updated_at=old)
    await app.changes.store.write(lambda c: c.execute(quiet).rowcount)
    await app.issues.resolve_quiet()
    issue = (await shown(tenant, f"/{id}"))["issue"]
    assert issue["status"] == "resolved"
    assert TIME.fullmatch(issue["resolved_at"])
    assert (await shown(tenant, "/summary"))["resolved"] == 1

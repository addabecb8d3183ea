"""The Applivery dialect's PUT and DELETE at both levels, line by line of its contract."""

import asyncio
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, MASK, Tenant
from tests.conformance.test_applivery import BODY, LARGE, SMALL, TYPES, data

pytestmark = pytest.mark.anyio

OTHER = "http://127.0.0.9:9/other"
LEVELS = pytest.mark.parametrize("level", ["a", "o"])


class Notification:
    """One notification, and what its own dialect and the native one say of it."""

    def __init__(self, tenant: Tenant, level: str, made: dict[str, Any]) -> None:
        self.tenant = tenant
        self.flags = SMALL if level == "a" else LARGE
        self.base = tenant.a if level == "a" else tenant.o
        self.made = made
        self.path = f"{self.base}/{made['id']}"
        self.native = f"/channels/{made['id']}"

    async def put(self, body: Any, *, token: str = "admin") -> Any:
        answer = await self.tenant.call("PUT", self.path, body, token=token)
        assert answer.status == 200, answer
        shown = data(answer.json())
        assert shown == data(await self.tenant.get(self.path, token=token))
        return shown

    async def patch(self, body: Any) -> Any:
        answer = await self.tenant.call("PATCH", self.native, body)
        assert answer.status == 200, answer
        return answer.json()

    async def patterns(self) -> Any:
        return (await self.tenant.get(self.native))["event_types"]


async def new(tenant: Tenant, level: str, **more: Any) -> Notification:
    path = tenant.a if level == "a" else tenant.o
    made = data(await tenant.post(path, BODY | {"description": "d"} | more, status=200))
    return Notification(tenant, level, made)


def explicit(flags: Any) -> list[str]:
    return [type for flag in LARGE if flag in flags for type in TYPES[flag]]


@LEVELS
async def test_what_is_left_out_stays(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level, events={"buildCreated": True})
    nothing: tuple[Any, ...] = (
        {},
        {"description": None, "events": None, "setup": None},
        {"events": {}},
        {"events": dict.fromkeys(one.flags)},
        {"events": {"unknown": True}},
        {"setup": {}},
        {"setup": {"webhook": None}},
        {"setup": {"slack": {"code": "c", "redirectUri": "https://x/"}}},
        {"type": "slack", "setup": {"slack": 7}},
        {"type": 1, "id": "0" * 24, "organization": "x", "config": {}, "createdAt": 0},
        {"description": "d", "events": {"buildCreated": True, "buildProcessed": False}},
        {"setup": {"webhook": {"url": HOOK, "token": "whsec_AAAA"}}},
    )
    before = await tenant.get(one.native)
    for body in nothing:
        assert await one.put(body) == one.made, body
        assert await tenant.get(one.native) == before, body
    audit = (await tenant.get("/audit"))["data"]
    assert not [entry for entry in audit if "update" in entry["action"]]


@LEVELS
async def test_each_field_alone(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level, events={"buildProcessed": True})
    token = one.made["config"]["webhook"]["token"]
    now = one.made

    def same(shown: dict[str, Any], **changed: Any) -> dict[str, Any]:
        assert shown["updatedAt"] >= now["updatedAt"]
        expected = {**now, **changed, "updatedAt": shown["updatedAt"]}
        assert shown == {name: value for name, value in expected.items() if value is not None}
        return shown

    now = same(await one.put({"description": "new"}), description="new")
    events = now["events"] | {"feedbackCreated": True}
    now = same(await one.put({"events": {"feedbackCreated": True}}), events=events)
    config = {"webhook": {"url": OTHER, "token": token}}
    now = same(await one.put({"setup": {"webhook": {"url": OTHER}}}), config=config)
    now = same(await one.put({"description": ""}), description=None)
    assert "description" not in now
    events = dict.fromkeys(one.flags, False)
    now = same(
        await one.put({"events": events, "description": "all"}), events=events, description="all"
    )
    assert await one.patterns() == []
    native = await tenant.get(one.native)
    # The name is set once, and the secret is the token at all times.
    assert (native["name"], native["description"], native["format"]) == ("d", "all", "applivery")
    assert (await tenant.get(one.native + "/secret"))["secret"] == token
    entry = (await tenant.get("/audit"))["data"][0]
    verb = "mad.application.notification." if level == "a" else "base.organization.notification."
    assert (entry["action"], entry["dialect"]) == (verb + "update", "applivery")
    assert entry["changes"]["description"] == {"from": None, "to": "all"}


@LEVELS
async def test_every_flag_on_and_off(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level)
    on: set[str] = set()
    for flag in one.flags:
        on.add(flag)
        shown = await one.put({"events": {flag: True}})
        assert shown["events"] == {name: name in on for name in one.flags}
        assert await one.patterns() == explicit(on)
    for flag in one.flags:
        on.remove(flag)
        await one.put({"events": {flag: False}})
        assert await one.patterns() == explicit(on)


@LEVELS
@pytest.mark.parametrize(
    ("patterns", "today"),
    [
        (["*"], LARGE),
        (["*", "tocsin.*"], LARGE),
        (["build.*", "shop.*", "x"], ("buildCreated", "buildProcessed")),
        (["bug.created", "order.paid"], ("feedbackCreated",)),
        (["shop.*", "tocsin.channel.failing"], ()),
        (["android.*", "android.app.created"], tuple(f for f in LARGE if f.startswith("emm"))),
        ([], ()),
    ],
)
async def test_flags_over_native_patterns(
    tenant: Tenant, level: str, patterns: list[str], today: tuple[str, ...]
) -> None:
    """What matches none of the nineteen types stays."""
    kept = [p for p in patterns if p in ("tocsin.*", "shop.*", "x", "order.paid")]
    kept += [p for p in patterns if p in ("tocsin.channel.failing", "android.app.created")]
    for given in (
        {"certificateWillExpire": True},
        {"buildCreated": False, "feedbackCreated": True},
    ):
        one = await new(tenant, level)
        await one.patch({"event_types": patterns})
        shown = data(await tenant.get(one.path))["events"]
        assert {flag for flag, on in shown.items() if on} == set(today) & set(one.flags)
        shown = (await one.put({"events": given, "description": "x"}))["events"]
        wanted = {flag: flag in today for flag in one.flags} | given
        assert shown == wanted
        flags = [flag for flag, on in wanted.items() if on]
        assert await one.patterns() == explicit(flags) + kept


@LEVELS
async def test_many_at_once_that_each_set_a_flag(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level)
    bodies = [{"events": {flag: True}} for flag in one.flags] * 2
    answers = await asyncio.gather(*(tenant.call("PUT", one.path, body) for body in bodies))
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.status == 200, answer
        (flag,) = body["events"]
        assert data(answer.json())["events"][flag] is True
    assert data(await tenant.get(one.path))["events"] == dict.fromkeys(one.flags, True)


@LEVELS
async def test_the_webhook_enables_what_tocsin_disabled(tenant: Tenant, level: str) -> None:
    for by, body, enabled in (
        ("tocsin", {"description": "x", "events": {"buildCreated": True}}, False),
        ("tocsin", {"setup": {"webhook": {"url": HOOK}}}, True),
        ("tocsin", {"setup": {"webhook": {"url": OTHER}}}, True),
        ("person", {"setup": {"webhook": {"url": HOOK}}}, False),
        ("person", {"setup": {"webhook": {"url": OTHER}}}, False),
    ):
        one = await new(tenant, level)
        await one.patch({"enabled": False})
        if by == "tocsin":
            await disabled_by_tocsin(tenant, one.made["id"])
        await one.put(body)
        native = await tenant.get(one.native)
        assert native["enabled"] is enabled, (by, body)
        assert (native["disabled_reason"] is None) is (enabled or by == "person")


async def disabled_by_tocsin(tenant: Tenant, channel_id: str) -> None:
    """As after a 410."""
    import sqlalchemy as sa

    from tocsin.storage.tables import channels

    change = sa.update(channels).where(channels.c.id == channel_id).values(disabled_reason="gone")
    await tenant.world.app.channels._store.write(lambda c: c.execute(change).rowcount)


async def test_a_slack_notification(tenant: Tenant) -> None:
    body = {"name": "s", "type": "slack", "project": "one", "event_types": ["build.*"]}
    settings = {"url": HOOK, "team": "T", "channel": "#c"}
    made = await tenant.post("/channels", body | {"settings": settings, "enabled": False})
    path = f"{tenant.a}/{made['id']}"
    # The member of another type is ignored, whatever it holds.
    for webhook in ({"url": OTHER}, {"url": 7}, {}, "x"):
        answer = await tenant.call("PUT", path, {"setup": {"webhook": webhook}})
        assert answer.status == 200, answer
        assert data(answer.json())["config"] == {"slack": {"team": "T", "channel": "#c"}}
    answer = await tenant.call("PUT", path, {"description": "d", "events": {"buildCreated": False}})
    shown = data(answer.json())
    assert (shown["description"], shown["events"]["buildCreated"]) == ("d", False)
    native = await tenant.get(f"/channels/{made['id']}")
    assert native["event_types"] == ["build.processed"]
    assert native["settings"] == made["settings"]


async def test_who_sees_the_token(tenant: Tenant) -> None:
    key = {"name": "u", "permissions": ["mad.application.notification.get", "*.create"]}
    made = await tenant.post("/keys", key)
    tenant.tokens["blind"] = made["token"]
    one = await new(tenant, "a")
    shown = data(await tenant.get(one.path, token="blind"))
    assert shown["config"]["webhook"]["token"] == f"whsec_{MASK}"
    created = data(await tenant.post(tenant.a, BODY, token="blind", status=200))
    assert created["config"]["webhook"]["token"] == f"whsec_{MASK}"
    assert (await tenant.call("PUT", one.path, {}, token="blind")).status == 403
    bound = await one.put({"description": "x"}, token="bound")
    assert bound["config"] == one.made["config"]


@LEVELS
async def test_what_is_refused_changes_nothing(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level, events={"buildCreated": True})
    longest = 256 if level == "a" else 500
    base = "http://127.0.0.9/"
    too_many = [f"x{number}" for number in range(99)]
    for body, field in (
        ({"description": "x" * 129}, "description"),
        ({"description": 1}, "description"),
        ({"description": "a\0b"}, "description"),
        ({"events": []}, "events"),
        ({"events": {"buildCreated": "true"}}, "events.buildCreated"),
        ({"events": {"buildProcessed": 1}}, "events.buildProcessed"),
        ({"setup": []}, "setup"),
        ({"setup": {"webhook": []}}, "setup.webhook"),
        ({"setup": {"webhook": {}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": None}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": ""}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": "ftp://127.0.0.9/"}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": "http://10.0.0.1/"}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": "http://u:p@127.0.0.9/"}}}, "setup.webhook.url"),
        ({"setup": {"webhook": {"url": base.ljust(longest + 1, "x")}}}, "setup.webhook.url"),
        ({"description": "good", "setup": {"webhook": {"url": "x"}}}, "setup.webhook.url"),
        (b'{"description": "x"', ""),
        (b"[]", ""),
        (b"", ""),
    ):
        before = await tenant.get(one.native)
        answer = await tenant.call("PUT", one.path, body)
        assert answer.status == 400, (body, answer)
        error = answer.json()["error"]
        assert (error["code"], error["message"]) == (3000, "Validation Error")
        assert error["data"]["errors"][0]["field"] == field, body
        assert await tenant.get(one.native) == before, body
    at_the_bound = {"webhook": {"url": base.ljust(longest, "x")}}
    await one.put({"description": "x" * 128, "setup": at_the_bound})
    await one.patch({"event_types": too_many})
    answer = await tenant.call("PUT", one.path, {"events": {"feedbackCreated": True}})
    assert answer.json()["error"]["data"]["errors"][0]["field"] == "events"
    await one.put({"events": {"buildCreated": True}})


@LEVELS
async def test_the_order_of_the_checks(tenant: Tenant, level: str) -> None:
    one = await new(tenant, level)
    absent, big = f"{one.base}/{'0' * 24}", b'{"description": "' + b"x" * 1_048_576 + b'"}'
    packed = {"content_encoding": "gzip"}
    other = "two" if level == "a" else None
    elsewhere = tenant.a.replace(tenant.names["project"], "two") if other else tenant.a
    for method, path, token, body, headers, expected in (
        # an unknown route and a wrong method come before the credential
        ("POST", one.path, "", b"", {}, (404, 1002)),
        ("PATCH", one.path, "wrong", b"{", {}, (404, 1002)),
        ("PUT", one.base, "", b"{", {}, (404, 1002)),
        ("DELETE", one.base, "admin", b"", {}, (404, 1002)),
        ("PUT", one.path + "/more", "", b"", {}, (404, 1002)),
        # credential before existence
        ("PUT", absent, "", b"{", packed, (401, 4002)),
        ("DELETE", absent, "wrong", b"", {}, (401, 4004)),
        # existence before permission
        ("PUT", absent, "viewer", b"{", packed, (404, 3001)),
        ("DELETE", absent, "viewer", b"", {}, (404, 3001)),
        ("PUT", f"{one.base}/abc", "admin", b"{", {}, (404, 3001)),
        ("DELETE", f"{one.base}/a_b", "admin", b"", {}, (404, 3001)),
        ("PUT", f"{elsewhere}/{one.made['id']}", "viewer", b"{", {}, (404, 3001)),
        ("DELETE", f"{elsewhere}/{one.made['id']}", "admin", b"", {}, (404, 3001)),
        ("PUT", f"{one.base}/{tenant.names['foreign']}", "viewer", b"{", {}, (404, 3001))
        if tenant.names["foreign"] != tenant.names["channel"]
        else ("PUT", absent, "admin", b"{", {}, (404, 3001)),
        # permission before size and body
        ("PUT", one.path, "viewer", big, packed, (403, 4003)),
        ("DELETE", one.path, "viewer", b"", {}, (403, 4003)),
        ("PUT", one.path, "admin", big, packed, (415, 3004)),
        ("PUT", one.path, "admin", big, {}, (413, 3003)),
        ("PUT", one.path, "admin", b"{", {}, (400, 3000)),
    ):
        given: dict[str, str] = {"token": token} if token else {"token": "", "authorization": ""}
        answer = await tenant.call(method, path, body, **given, **headers)
        found = (answer.status, answer.json()["error"]["code"])
        assert found == expected, (method, path, token, answer)
    if level == "o":
        for method, body in (("PUT", b"{"), ("DELETE", b"")):
            for path in (one.path, absent):
                answer = await tenant.call(method, path, body, token="bound")
                assert (answer.status, answer.json()["error"]["code"]) == (403, 4003)
    assert data(await tenant.get(one.path)) == one.made


@LEVELS
async def test_delete(tenant: Tenant, level: str) -> None:
    for path in ("{}", "{}/", "{}?x=1"):
        one = await new(tenant, level, events={"buildCreated": True})
        await one.patch({"enabled": False})
        event: dict[str, Any] = {"type": "build.created", "data": 1, "project": "one"}
        waiting = [await tenant.post("/events", event, status=202) for _ in range(3)]
        answer = await tenant.call(
            "DELETE", path.format(one.path.replace(one.made["id"], one.made["id"].upper()))
        )
        assert answer.status == 200
        assert answer.json() == {"status": True, "data": {"delete": "OK"}}
        for method, body in (("GET", b""), ("PUT", b"{}"), ("DELETE", b"")):
            again = await tenant.call(method, one.path, body)
            assert (again.status, again.json()["error"]["code"]) == (404, 3001), method
        assert one.made["id"] not in [
            item["id"] for item in data(await tenant.get(one.base))["items"]
        ]
        await tenant.get(one.native, status=404)
        found = (await tenant.get(f"/deliveries?channel={one.made['id']}"))["data"]
        assert [one["status"] for one in found] == ["cancelled"] * 3
        assert {one["event_id"] for one in found} == {one["id"] for one in waiting}
        after = await tenant.post("/events", event, status=202)
        listed = (await tenant.get(f"/events/{after['id']}"))["deliveries"]
        assert one.made["id"] not in [delivery["channel_id"] for delivery in listed]
    entry = (await tenant.get("/audit"))["data"][0]
    assert entry["action"].endswith(".notification.remove")


async def test_delete_cancels_at_once_whatever_the_number(tenant: Tenant) -> None:
    one = await new(tenant, "a", events={"buildCreated": True})
    await one.patch({"enabled": False})
    event = {"type": "build.created", "data": 1, "project": "one"}
    for _ in range(3):
        await tenant.post("/events/batch", {"events": [event] * 1000}, status=202)
    answer = await tenant.call("DELETE", one.path)
    assert answer.json() == {"status": True, "data": {"delete": "OK"}}
    place = f"/deliveries?channel={one.made['id']}&limit=200"
    assert (await tenant.get(place + "&status=waiting"))["data"] == []
    count = 0
    cursor: str | None = ""
    while cursor is not None:
        page = await tenant.get(place + (cursor and f"&cursor={cursor}"))
        assert {found["status"] for found in page["data"]} <= {"cancelled"}
        count, cursor = count + len(page["data"]), page["next_cursor"]
    assert count == 3000


async def test_changes_and_deletes_at_once(tenant: Tenant) -> None:
    """Each answer is that of some order: a change that was answered 200 came before the end."""
    one = await new(tenant, "a")
    calls = [tenant.call("PUT", one.path, {"description": f"d{n}"}) for n in range(10)]
    calls[5:5] = [tenant.call("DELETE", one.path) for _ in range(3)]
    answers = await asyncio.gather(*calls)
    deleted = [answer for answer in answers[5:8] if answer.status == 200]
    assert len(deleted) == 1
    for answer in answers:
        assert answer.status in (200, 404), answer

"""The Applivery dialect, line by line of `wire/applivery.md`: create, list, get at both levels."""

import re
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, ID, MASK, TIME, Tenant, times

pytestmark = pytest.mark.anyio

SMALL = ("buildCreated", "buildProcessed", "feedbackCreated", "certificateWillExpire")
LARGE = (
    *SMALL,
    "applePushRenovation",
    *(f"{os}EnrollmentCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceCreated" for os in ("emm", "adm", "win", "aos")),
    *(f"{os}DeviceChangedMdmUser" for os in ("emm", "adm", "win", "aos")),
    "inventoryItemRegistered",
)
OS = {"emm": "android", "adm": "apple", "win": "windows", "aos": "aosp"}
TYPES = {
    "buildCreated": ["build.created"],
    "buildProcessed": ["build.processed"],
    "feedbackCreated": ["feedback.created", "bug.created"],
    "certificateWillExpire": ["certificate.will_expire"],
    "applePushRenovation": ["apple_push.renovation"],
    "inventoryItemRegistered": ["inventory.item_registered"],
    **{f"{short}EnrollmentCreated": [f"{os}.enrollment.created"] for short, os in OS.items()},
    **{f"{short}DeviceCreated": [f"{os}.device.created"] for short, os in OS.items()},
    **{
        f"{short}DeviceChangedMdmUser": [f"{os}.device.changed_mdm_user"]
        for short, os in OS.items()
    },
}
BODY = {"type": "webhook", "events": {}, "setup": {"webhook": {"url": HOOK}}}


def data(answer: Any) -> Any:
    assert answer.keys() == {"status", "data"}
    assert answer["status"] is True
    return answer["data"]


@pytest.mark.parametrize("level", ["a", "o"])
async def test_create_and_get(tenant: Tenant, level: str) -> None:
    path, flags = (tenant.a, SMALL) if level == "a" else (tenant.o, LARGE)
    for given in ({}, dict.fromkeys(flags, True), {"buildCreated": True, "buildProcessed": None}):
        body = BODY | {"events": given, "description": "d", "extra": 1}
        made = data(await tenant.post(path, body, status=200))
        found = f"{path}/{made['id']}"
        assert data(await tenant.get(found)) == made
        assert data(await tenant.get(f"{path}/{made['id'].upper()}")) == made
        viewed = data(await tenant.get(found, token="viewer"))
        assert viewed["config"] == {"webhook": {"url": HOOK, "token": f"whsec_{MASK}"}}
        config = made.pop("config")
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", config["webhook"].pop("token"))
        assert config == {"webhook": {"url": HOOK}}
        native = await tenant.get(f"/channels/{made['id']}")
        assert native["event_types"] == [
            type for flag in flags if given.get(flag) for type in TYPES[flag]
        ]
        assert (native["name"], native["format"]) == ("d", "applivery")
        times(made, "createdAt", "updatedAt")
        application = {"application": tenant.names["project"]} if level == "a" else {}
        assert made == application | {
            "organization": tenant.names["org"],
            "description": "d",
            "type": "webhook",
            "events": {flag: given.get(flag) is True for flag in flags},
        }


@pytest.mark.parametrize("level", ["a", "o"])
async def test_what_may_be_left_out(tenant: Tenant, level: str) -> None:
    path = tenant.a if level == "a" else tenant.o
    for more in ({}, {"description": None}, {"description": ""}):
        made = data(await tenant.post(path + "/", BODY | more, status=200))
        assert "description" not in made
        native = await tenant.get(f"/channels/{made['id']}")
        assert (native["name"], native["description"]) == ("webhook 127.0.0.9", None)
        assert native["event_types"] == []
    body = {name: value for name, value in BODY.items() if name != "events"}
    for missing in (body, body | {"events": None}):
        answer = await tenant.call("POST", path, missing)
        assert answer.status == (200 if level == "a" else 400)


async def test_flags_of_native_patterns(tenant: Tenant) -> None:
    for patterns, shown in (
        (["*"], set(LARGE)),
        (["build.*"], {"buildCreated", "buildProcessed"}),
        (["bug.created", "x"], {"feedbackCreated"}),
        (["android.*"], {flag for flag in LARGE if flag.startswith("emm")}),
        (["tocsin.*"], set()),
    ):
        made = await tenant.channel(event_types=patterns)
        events = data(await tenant.get(f"{tenant.o}/{made['id']}"))["events"]
        assert {flag for flag, on in events.items() if on} == shown
        assert list(events) == list(LARGE) or set(events) == set(LARGE)


async def test_levels_and_types(tenant: Tenant) -> None:
    own, whole, elsewhere = (tenant.names[n] for n in ("channel", "whole", "elsewhere"))
    body = {"name": "s", "type": "slack", "settings": {"url": HOOK, "team": "T", "channel": "#c"}}
    slack = (await tenant.post("/channels", body | {"project": "one"}))["id"]
    for path, found, hidden in (
        (tenant.a, {own, slack}, {whole, elsewhere, tenant.names["foreign"], "0" * 24, "abc"}),
        (tenant.o, {whole}, {own, slack, elsewhere, "one"}),
        (tenant.a.replace(tenant.names["project"], "tWO"), {elsewhere}, {own, whole}),
    ):
        items = data(await tenant.get(path))["items"]
        assert {item["id"] for item in items} == found
        for id in hidden:
            answer = await tenant.call("GET", f"{path}/{id}")
            expected = {"status": False, "error": {"code": 3001, "message": "Entity not found"}}
            assert (answer.status, answer.json()) == (404, expected), (path, id)
    shown = data(await tenant.get(f"{tenant.a}/{slack}"))
    assert shown["config"] == {"slack": {"team": "T", "channel": "#c"}}
    assert data(await tenant.get(tenant.a + "?type=slack"))["totalDocs"] == 1


async def test_pages(tenant: Tenant) -> None:
    made = [tenant.names["channel"]]
    for number in range(4):
        body = BODY | {"description": f"d{3 - number}"}
        made.append(data(await tenant.post(tenant.a, body, status=200))["id"])
    for query, ids, rest in (
        ("", made[::-1], (100, 1, 1, False, False, None, None)),
        ("?sort=", made[::-1], (100, 1, 1, False, False, None, None)),
        ("?sort=createdAt", made, (100, 1, 1, False, False, None, None)),
        ("?sort=createdAt:asc&limit=2", made[:2], (2, 1, 3, False, True, None, 2)),
        ("?sort=createdAt:asc&limit=2&page=2", made[2:4], (2, 2, 3, True, True, 1, 3)),
        ("?sort=createdAt:asc&limit=2&page=3", made[4:], (2, 3, 3, True, False, 2, None)),
        ("?page=9&limit=2", [], (2, 9, 3, True, False, 8, None)),
        ("?sort=description:desc&limit=3", made[1:4], (3, 1, 2, False, True, None, 2)),
    ):
        page = data(await tenant.get(tenant.a + query))
        assert [item["id"] for item in page.pop("items")] == ids, query
        names = (
            "limit",
            "page",
            "totalPages",
            "hasPrevPage",
            "hasNextPage",
            "prevPage",
            "nextPage",
        )
        assert page == dict(zip(names, rest, strict=True)) | {"totalDocs": 5}, query
    none = data(await tenant.get(tenant.a + "?type=slack"))
    assert (none["items"], none["totalDocs"], none["totalPages"]) == ([], 0, 1)


async def test_errors(tenant: Tenant) -> None:
    own, other = tenant.a, tenant.a.replace(tenant.names["project"], "two")
    for method, path, token, expected in (
        ("GET", own, "", (401, 4002, "No auth token")),
        ("GET", own, "wrong", (401, 4004, "Invalid Token")),
        ("POST", own, "viewer", (403, 4003, "Forbidden")),
        ("POST", tenant.o, "viewer", (403, 4003, "Forbidden")),
        ("GET", tenant.o, "bound", (403, 4003, "Forbidden")),
        ("GET", other, "bound", (404, 3001, "Entity not found")),
        ("GET", own.replace(tenant.names["org"], "xy"), "admin", (404, 3001, "Entity not found")),
        ("GET", own.replace("/notifications", "/nothing"), "", (404, 1002, "Route not found")),
        ("GET", "/v1/organizations", "", (404, 1002, "Route not found")),
        ("PATCH", own, "admin", (404, 1002, "Route not found")),
        ("DELETE", own, "", (404, 1002, "Route not found")),
        ("POST", own, "admin", (400, 3000, "Validation Error")),
    ):
        given = {"token": token} if token else {"token": "", "authorization": ""}
        answer = await tenant.call(method, path, b"{}" if method == "POST" else b"", **given)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["message"]) == expected, (method, path)
        assert answer.json()["status"] is False
    answer = await tenant.call("POST", own, {"type": "webhook", "setup": {"webhook": {"url": "x"}}})
    (error,) = answer.json()["error"]["data"]["errors"]
    assert error.keys() == {"field", "message"}
    assert error["field"] == "setup.webhook.url"
    slack = {"type": "slack", "setup": {"slack": {"code": "c", "redirectUri": "https://x/"}}}
    answer = await tenant.call("POST", own, slack)
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["message"]) == (
        400,
        5011,
        "Slack is not configured",
    )


async def test_the_credential_in_any_case(tenant: Tenant) -> None:
    token = tenant.tokens["admin"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await tenant.world.client(
            "GET", tenant.a, headers={"Authorization": f"{scheme} {token}"}
        )
        assert answer.status == 200
    for headers, code in (
        ({"Authorization": f"Basic {token}"}, 4004),
        ({"Authorization": token}, 4004),
        ({"Authorization": "Bearer"}, 4004),
        ({"X-API-Key": token}, 4002),
        ({"Cookie": f"better-auth.session_token={token}"}, 4004),
    ):
        answer = await tenant.world.client("GET", tenant.a, headers=headers)
        assert (answer.status, answer.json()["error"]["code"]) == (401, code), headers


async def test_it_is_one_channel_in_every_dialect(tenant: Tenant) -> None:
    made = data(await tenant.post(tenant.a, BODY | {"description": "d"}, status=200))
    id = made["id"]
    native = await tenant.get(f"/channels/{id}")
    hook = (await tenant.get(f"{tenant.h}/chan_{id}", token="bound"))["channel"]
    assert native["project_id"] == hook["env_id"] == made["application"]
    assert native["created_at"] == hook["created_at"] == made["createdAt"]
    assert (native["name"], hook["name"]) == ("d", "d")
    secret = await tenant.get(f"/channels/{id}/secret")
    assert secret == {"secret": made["config"]["webhook"]["token"]}
    await tenant.call("PATCH", f"/channels/{id}", {"name": "new", "description": None})
    after = data(await tenant.get(f"{tenant.a}/{id}"))
    assert "description" not in after
    assert after["config"] == made["config"]
    assert TIME.fullmatch(after["updatedAt"])
    assert ID.fullmatch(id)
    assert (await tenant.call("DELETE", f"/channels/{id}")).status == 204
    await tenant.get(f"{tenant.a}/{id}", status=404)
    await tenant.get(f"{tenant.h}/{id}", token="bound", status=404)

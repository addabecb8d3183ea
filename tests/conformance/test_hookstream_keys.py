"""The hookstream dialect, line by line of its contract: API keys and environments."""

import asyncio
import re
from typing import Any

import pytest
from tests.conformance.tenant import HOOK, ID, TIME, Tenant

pytestmark = pytest.mark.anyio

KEYS = "/v1/auth/api-keys"
ENVIRONMENTS = "/v1/environments"
CHANNELS = "/v1/notification-channels"
KEY = re.compile(r"hs_live_[0-9a-f]{64}")
CHANNEL = {"name": "n", "channel_type": "webhook", "config": {"url": HOOK}}


async def key_of(tenant: Tenant, *, token: str = "admin", **more: Any) -> Any:
    here = {} if token == "bound" else {"env_id": tenant.names["project"]}
    return await tenant.post(KEYS, {"name": "ci", **here, **more}, token=token)


async def pages(tenant: Tenant, path: str, name: str, *, token: str = "admin") -> list[Any]:
    """A whole list, two at a time."""
    found: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = await tenant.get(f"{path}?limit=2{more}", token=token)
        assert page.keys() == {name, "cursor", "has_more"}
        assert page["has_more"] is (page["cursor"] is not None)
        assert len(page[name]) <= 2
        found += page[name]
        cursor = page["cursor"]
    return found


async def test_a_key_is_shown_once(tenant: Tenant) -> None:
    made = await key_of(tenant)
    assert made.keys() == {"id", "name", "key", "key_prefix", "scopes", "created_at"}
    assert KEY.fullmatch(made["key"])
    assert made["key"].startswith(made["key_prefix"])
    assert (made["name"], made["scopes"]) == ("ci", None)
    assert ID.fullmatch(made["id"])
    assert TIME.fullmatch(made["created_at"])
    listed = await tenant.get(KEYS)
    assert made["key"] not in str(listed)
    shown = {name: made[name] for name in ("id", "name", "key_prefix", "scopes", "created_at")}
    assert listed["api_keys"][0] == shown | {
        "request_count": 0,
        "revoked": 0,
        "last_used_at": None,
    }
    stored = await tenant.get("/keys")
    assert (stored["data"][0]["project_id"], stored["data"][0]["id"]) == (
        tenant.names["project"],
        made["id"],
    )


async def test_a_key_sees_its_environment(tenant: Tenant) -> None:
    made = await key_of(tenant)
    for headers in ({"X-API-Key": made["key"]}, {"Authorization": f"Bearer {made['key']}"}):
        answer = await tenant.world.client("GET", tenant.h, headers=headers)
        assert answer.status == 200
        seen = {channel["env_id"] for channel in answer.json()["channels"]}
        assert seen == {tenant.names["project"]}
    channel = (await tenant.post(tenant.h, CHANNEL, token=made["key"]))["channel"]
    assert channel["env_id"] == tenant.names["project"]
    event = {"type": "a.b", "data": 1}
    assert (await tenant.call("POST", "/events", event, token=made["key"])).status == 202
    (own,) = (await tenant.get(ENVIRONMENTS, token=made["key"]))["environments"]
    assert own["id"] == tenant.names["project"]
    again = await key_of(tenant, token=made["key"])
    assert KEY.fullmatch(again["key"])
    listed = await tenant.get(KEYS, token=made["key"])
    assert [key["id"] for key in listed["api_keys"][:2]] == [again["id"], made["id"]]


@pytest.mark.parametrize(
    ("scopes", "may", "may_not"),
    [
        (None, ("GET", CHANNELS), None),
        ("*", ("GET", CHANNELS), None),
        (" * ", ("GET", KEYS), None),
        ("channel.list key.list", ("GET", KEYS), ("POST", CHANNELS)),
        ("*.list *.get", ("GET", CHANNELS), ("DELETE", KEYS + "/" + "0" * 24)),
    ],
)
async def test_scopes(
    tenant: Tenant, scopes: str | None, may: tuple[str, str], may_not: tuple[str, str] | None
) -> None:
    made = await key_of(tenant, scopes=scopes)
    assert made["scopes"] == scopes
    assert (await tenant.call(*may, token=made["key"])).status == 200
    if may_not is None:
        # A developer of the environment and its keys, no more.
        for method, path in (("PATCH", ENVIRONMENTS + "/" + tenant.names["project"]),
                             ("POST", ENVIRONMENTS)):  # fmt: skip
            assert (await tenant.call(method, path, {}, token=made["key"])).status == 403
    else:
        refused = await tenant.call(*may_not, token=made["key"])
        assert refused.status in (403, 404)
        assert refused.status == (404 if may_not[1].endswith("0") else 403)


async def test_nobody_makes_a_key_that_may_do_more(tenant: Tenant) -> None:
    few = await key_of(tenant, scopes="channel.list key.create")
    assert (await key_of(tenant, token=few["key"], scopes="channel.list"))["scopes"]
    for scopes in (None, "*", "channel.*", "*.list", "key.*"):
        body = {"name": "k", "scopes": scopes}
        answer = await tenant.call("POST", KEYS, body, token=few["key"])
        assert answer.status == 403, scopes


async def test_which_environment_a_key_belongs_to(tenant: Tenant) -> None:
    names = tenant.names
    for token, more, query, expected in (
        ("bound", {}, "", names["project"]),
        ("bound", {"env_id": names["second"]}, "", "env_id"),
        ("admin", {}, "", "env_id"),
        ("admin", {"env_id": f"env_{names['second'].upper()}"}, "", names["second"]),
        ("admin", {}, f"?env_id={names['second']}", names["second"]),
        ("admin", {"env_id": names["none"]}, "", "env_id"),
        ("operator", {"env_id": names["project"], "org_id": names["org"]}, "", names["project"]),
        ("operator", {}, f"?org_id=org_{names['org']}&env_id=two", names["second"]),
        ("operator", {"env_id": names["project"]}, "", "org_id"),
    ):
        answer = await tenant.call("POST", KEYS + query, {"name": "k"} | more, token=token)
        if answer.status == 201:
            (stored,) = [
                key
                for key in (await tenant.get("/keys"))["data"]
                if key["id"] == answer.json()["id"]
            ]
            assert stored["project_id"] == expected, (token, more, query)
        else:
            assert (answer.status, answer.json()["error"].partition(":")[0]) == (400, expected)


async def test_keys_are_listed_page_by_page(tenant: Tenant) -> None:
    made = [(await key_of(tenant, name=f"k{number}"))["id"] for number in range(3)]
    other = await key_of(tenant, env_id=tenant.names["second"])
    await tenant.call("DELETE", f"{KEYS}/{made[1]}")
    listed = await pages(tenant, KEYS, "api_keys")
    ids = [key["id"] for key in listed]
    assert ids == sorted(ids, reverse=True)
    assert ids[:4] == [other["id"], *made[::-1]]
    assert [key["revoked"] for key in listed[:4]] == [0, 0, 1, 0]
    own = await tenant.get(f"{KEYS}?env_id={tenant.names['second']}")
    assert [key["id"] for key in own["api_keys"]] == [other["id"]]
    seen = await pages(tenant, KEYS, "api_keys", token="bound")
    assert other["id"] not in [key["id"] for key in seen]
    assert set(made) < {key["id"] for key in seen}


async def test_use_is_counted(tenant: Tenant) -> None:
    made = await key_of(tenant)
    for _ in range(3):
        await tenant.get(tenant.h, token=made["key"])
    await tenant.world.app.credentials.flush(at_once=True)
    shown = (await tenant.get(KEYS))["api_keys"][0]
    assert (shown["id"], shown["request_count"]) == (made["id"], 3)
    assert TIME.fullmatch(shown["last_used_at"])


async def test_revocation_is_exact(tenant: Tenant) -> None:
    made = await key_of(tenant)
    await tenant.get(tenant.h, token=made["key"])
    gone = asyncio.Event()
    late: list[int] = []

    async def hammer() -> None:
        while not late or len(late) < 5:
            began = gone.is_set()
            answer = await tenant.call("POST", tenant.h, CHANNEL, token=made["key"])
            assert answer.status in (201, 401), answer
            if began:
                late.append(answer.status)

    async def revoke() -> None:
        answer = await tenant.call("DELETE", f"{KEYS}/key_{made['id'].upper()}")
        assert (answer.status, answer.json()) == (200, {"success": True})
        gone.set()

    await asyncio.gather(*(hammer() for _ in range(4)), revoke())
    assert set(late) == {401}
    answer = await tenant.call("GET", tenant.h, token=made["key"])
    assert (answer.status, answer.json()["error"]) == (401, "Invalid API key")
    assert (await tenant.call("DELETE", f"{KEYS}/{made['id']}")).status == 404
    assert (await tenant.get(KEYS))["api_keys"][0]["revoked"] == 1
    native = (await tenant.get("/keys"))["data"]
    assert made["id"] not in [key["id"] for key in native]


async def test_whose_keys_may_be_revoked(tenant: Tenant) -> None:
    other = await key_of(tenant, env_id=tenant.names["second"])
    answer = await tenant.call("DELETE", f"{KEYS}/{other['id']}", token="bound")
    assert answer.status == 404
    assert (await tenant.call("DELETE", f"{KEYS}/{other['id']}", token="viewer")).status == 403
    for unknown in ("x", tenant.names["none"]):
        for token in ("operator", "admin"):
            assert (await tenant.call("DELETE", f"{KEYS}/{unknown}", token=token)).status == 404
    assert (await tenant.call("DELETE", f"{KEYS}/{other['id']}", token="operator")).status == 200


async def test_environments(tenant: Tenant) -> None:
    body = {"name": "Production", "slug": "production", "color": "red"}
    reply = await tenant.post(ENVIRONMENTS, body)
    made = reply["environment"]
    assert reply.keys() == {"environment"}
    assert TIME.fullmatch(made["created_at"])
    expected = {
        "id": made["id"],
        "org_id": tenant.names["org"],
        "name": "Production",
        "slug": "production",
        "created_at": made["created_at"],
    }
    assert made == expected
    for id in (made["id"], made["id"].upper(), f"env_{made['id']}"):
        for token in ("admin", "operator"):
            assert await tenant.get(f"{ENVIRONMENTS}/{id}", token=token) == reply
    path = f"{ENVIRONMENTS}/{made['id']}"
    for change, after in (
        ({}, {}),
        ({"id": "x", "color": 1}, {}),
        ({"name": "Live"}, {"name": "Live"}),
        ({"slug": "live"}, {"slug": "live"}),
        ({"name": "Both", "slug": "both-2"}, {"name": "Both", "slug": "both-2"}),
    ):
        answer = await tenant.call("PATCH", path, change)
        expected = expected | after
        assert (answer.status, answer.json()) == (200, {"environment": expected}), change
        assert await tenant.get(path) == {"environment": expected}
    native = await tenant.get(f"/projects/{made['id']}")
    assert (native["name"], native["slug"]) == ("Both", "both-2")
    unnamed = (await tenant.post(ENVIRONMENTS, {"name": "Über Uns!"}))["environment"]
    assert unnamed["slug"] == "uber-uns"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_slugs(tenant: Tenant, method: str) -> None:
    path = ENVIRONMENTS + (f"/{tenant.names['second']}" if method == "PATCH" else "")
    before = await tenant.get(ENVIRONMENTS)
    for slug, status in (
        ("one", 409),
        ("One", 400),
        ("a_b", 400),
        ("", 400),
        ("a\n", 400),
        ("s" * 65, 400),
        ("0" * 24, 400),
        (1, 400),
    ):
        answer = await tenant.call(method, path, {"name": "n", "slug": slug})
        assert answer.status == status, (slug, answer)
        error = answer.json()
        assert error.keys() == {"error", "status", "request_id"}
        assert status == 409 or error["error"].startswith("slug: ")
    for body, field in (({"name": ""}, "name"), ({"name": None}, "name"), ([], "")):
        answer = await tenant.call(method, path, body)
        assert answer.status == 400
        assert answer.json()["error"].startswith(f"{field}: " if field else "")
    assert await tenant.get(ENVIRONMENTS) == before


async def test_environments_are_listed_page_by_page(tenant: Tenant) -> None:
    ids = [tenant.names["project"], tenant.names["second"]]
    ids += [
        (await tenant.post(ENVIRONMENTS, {"name": f"e{number}"}))["environment"]["id"]
        for number in range(3)
    ]
    listed = await pages(tenant, ENVIRONMENTS, "environments")
    assert [one["id"] for one in listed] == ids[::-1]
    whole = await tenant.get(f"{ENVIRONMENTS}?org_id={tenant.names['org']}", token="operator")
    assert whole == {"environments": listed, "cursor": None, "has_more": False}
    refused = await tenant.call("GET", ENVIRONMENTS, token="operator")
    assert (refused.status, refused.json()["error"].partition(":")[0]) == (400, "org_id")
    foreign = await tenant.get(f"{ENVIRONMENTS}?limit=2")
    cursor = foreign["cursor"]
    for path in (tenant.h, KEYS):
        answer = await tenant.call("GET", f"{path}?cursor={cursor}")
        assert (answer.status, answer.json()["error"].partition(":")[0]) == (400, "cursor")


async def test_a_bound_key_and_environments(tenant: Tenant) -> None:
    own, other = tenant.names["project"], tenant.names["second"]
    (only,) = (await tenant.get(ENVIRONMENTS, token="bound"))["environments"]
    assert only["id"] == own
    for method in ("GET", "PATCH", "DELETE"):
        path, body = f"{ENVIRONMENTS}/{other}", b"{}" if method == "PATCH" else b""
        assert (await tenant.call(method, path, body, token="bound")).status == 404
    assert (await tenant.call("POST", ENVIRONMENTS, b"{", token="bound")).status == 403
    for id in (tenant.names["none"], "one", "x"):
        for token in ("operator", "admin"):
            await tenant.get(f"{ENVIRONMENTS}/{id}", token=token, status=404)


async def test_a_deleted_environment_takes_its_channels_and_keys_along(tenant: Tenant) -> None:
    made = await key_of(tenant)
    path = f"{ENVIRONMENTS}/{tenant.names['project']}"
    answer = await tenant.call("DELETE", path)
    assert (answer.status, answer.json()) == (200, {"success": True})
    await tenant.get(path, status=404)
    await tenant.get(f"{tenant.h}/{tenant.names['channel']}", status=404)
    for token in (made["key"], "bound"):
        await tenant.get(tenant.h, token=token, status=401)
    kept = await tenant.get(tenant.h)
    assert [channel["id"] for channel in kept["channels"]] == [tenant.names["elsewhere"]]
    revoked = {key["id"]: key["revoked"] for key in (await tenant.get(KEYS))["api_keys"]}
    assert revoked[made["id"]] == revoked[tenant.names["key"]] == 1
    # The only one that is left need not be named.
    assert (await tenant.post(tenant.h, CHANNEL))["channel"]["env_id"] == tenant.names["second"]

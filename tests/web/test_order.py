"""Route, credential, rate, existence, permission, encoding, size, body: in this order, always."""

import pytest
from tests.web.fakes import (
    BLOG,
    ELSEWHERE,
    OPERATOR,
    SHOP,
    Answer,
    Client,
    Fake,
    application,
    services,
)

pytestmark = pytest.mark.anyio

BIG = {"content-length": "99999999"}
GZIP = {"content-encoding": "gzip"}
BAD = b"{"

NATIVE = "/api/v1/organizations"
WRITES = {
    "channels": ("POST", NATIVE + "/{org}/channels", "viewer"),
    "events": ("POST", NATIVE + "/{org}/events", "viewer"),
    "batch": ("POST", NATIVE + "/{org}/events/batch", "viewer"),
    "keys": ("POST", NATIVE + "/{org}/keys", "developer"),
    "projects": ("POST", NATIVE + "/{org}/projects", "developer"),
    "organization": ("PATCH", NATIVE + "/{org}", "developer"),
    "channel": ("PATCH", NATIVE + "/{org}/channels/{id}", "viewer"),
    "project": ("PATCH", NATIVE + "/{org}/projects/{project}", "viewer"),
    "applivery A": ("POST", "/v1/organizations/{org}/apps/{project}/notifications", "viewer"),
    "applivery O": ("POST", "/v1/organizations/{org}/notifications/", "viewer"),
    "hookstream": ("POST", "/v1/notification-channels", "viewer"),
    "hookstream channel": ("PATCH", "/v1/notification-channels/{id}", "viewer"),
    "hookstream key": ("POST", "/v1/auth/api-keys", "developer"),
    "hookstream environments": ("POST", "/v1/environments", "developer"),
    "hookstream environment": ("PATCH", "/v1/environments/{project_id}", "viewer"),
}


def code(answer: Answer) -> object:
    body = answer.json()
    return body.get("code") or body.get("error")


@pytest.mark.parametrize("name", WRITES)
async def test_order_of_a_write(name: str, fake: Fake, call: Client) -> None:
    method, template, too_weak = WRITES[name]
    channel = fake.channels.add().channel.id
    path = template.format(org="acme", project="shop", project_id=SHOP, id=channel)
    everything = BIG | GZIP

    answer = await call(method, path, BAD, everything, token="nobody")
    assert answer.status == 401
    assert answer.headers["connection"] == "close"
    assert not call.body_was_read

    if "{org}" in template:
        for hidden in (
            template.format(org="rival", project="shop", id=channel),
            template.format(org="nowhere", project="shop", id=channel),
        ):
            answer = await call(method, hidden, BAD, everything, token=too_weak)
            assert answer.status == 404, hidden
    for missing in (
        template.format(org="acme", project="nowhere", project_id=ELSEWHERE, id=channel),
        template.format(org="acme", project="shop", project_id=SHOP, id="0" * 24),
    ):
        if missing != path:
            answer = await call(method, missing, BAD, everything, token=too_weak)
            assert answer.status == 404, missing

    answer = await call(method, path, BAD, everything, token=too_weak)
    assert answer.status == 403
    assert not call.body_was_read

    assert (await call(method, path, BAD, everything)).status == 415
    answer = await call(method, path, BAD, BIG)
    assert answer.status == 413
    assert not call.body_was_read
    assert (await call(method, path, BAD)).status == 400


async def test_unknown_routes_come_before_the_credential(call: Client) -> None:
    client = Client(call._app)
    for path, status in (
        ("/api/v1/nothing", 404),
        ("/v1/organizations", 404),
        ("/v1/organizations/acme/apps", 404),
        ("/v1/organizations/acme/apps/shop/notifications/1/2", 404),
        ("/v1/nothing", 404),
        ("/v1", 404),
        ("/", 404),
        ("/metrics-of-old", 404),
    ):
        answer = await client("GET", path)
        assert answer.status == status, path
    answer = await client("GET", "/v1/organizations/acme/apps")
    assert answer.json() == {"status": False, "error": {"code": 1002, "message": "Route not found"}}
    answer = await client("DELETE", NATIVE + "/acme/channels")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    answer = await client("DELETE", NATIVE + "/acme/events")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    for path in ("/v1/notification-channels", "/v1/organizations/acme/notifications"):
        for method in ("DELETE", "PUT", "OPTIONS"):
            answer = await client(method, path)
            assert answer.status == 404
            assert "allow" not in answer.headers


async def test_options_and_head(call: Client) -> None:
    answer = await call("OPTIONS", NATIVE + "/acme/projects")
    assert answer.status == 204
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await call("OPTIONS", "/api/v1/nothing")).status == 404
    answer = await call("HEAD", NATIVE + "/acme/projects")
    assert answer.status == 200
    assert (await call("HEAD", NATIVE + "/nowhere")).status == 404


async def test_rate_comes_before_existence() -> None:
    app = application(services(requests_per_minute=2, stranger_requests_per_minute=1))
    async with app.lifespan():
        client = Client(app, "admin")
        assert [(await client("GET", NATIVE + "/nowhere")).status for _ in range(3)] == [
            404,
            404,
            429,
        ]
        answer = await client("GET", "/v1/organizations/acme/notifications")
        assert answer.status == 429
        assert answer.json()["error"]["code"] == 5003
        assert int(answer.headers["retry-after"]) >= 1
        answer = await client("GET", "/v1/notification-channels")
        assert answer.status == 429
        assert answer.headers["ratelimit-limit"] == "2"
        assert answer.headers["ratelimit-remaining"] == "0"
        assert int(answer.headers["ratelimit-reset"]) > 0
        # Publishing has no such limit, the operator none at all, and another tenant its own.
        event = {"type": "a", "data": 1}
        assert (await client("POST", NATIVE + "/acme/events", event)).status == 202
        for _ in range(3):
            assert (await client("GET", NATIVE, token=OPERATOR)).status == 200
        assert (await client("GET", NATIVE + "/rival", token="rival")).status == 200
        # A stranger uses the budget of the address.
        assert (await client("GET", NATIVE + "/acme", token="x")).status == 401
        assert (await client("GET", NATIVE + "/acme", token="x")).status == 429
        other = Client(app, "x", address="203.0.113.10")
        assert (await other("GET", NATIVE + "/acme")).status == 401
        assert (await client("GET", NATIVE + "/rival", token="rival")).status == 200


async def test_off_limits_read_as_nothing() -> None:
    app = application(services(requests_per_minute=0, stranger_requests_per_minute=0))
    async with app.lifespan():
        for token in ("admin", "nobody", OPERATOR):
            answer = await Client(app, token)("GET", "/v1/notification-channels/" + "0" * 24)
            assert [answer.headers[f"ratelimit-{n}"] for n in ("limit", "remaining", "reset")] == [
                "0",
                "0",
                "0",
            ]


async def test_credentials_of_each_dialect(call: Client) -> None:
    client = Client(call._app)
    native, applivery, hookstream = (
        NATIVE + "/acme",
        "/v1/organizations/acme/notifications",
        "/v1/notification-channels",
    )
    key = {"x-api-key": "admin"}
    bearer = {"authorization": "bEaReR admin"}
    cookie = {"cookie": "a=b; better-auth.session_token=ann"}
    for path, headers, status in (
        (native, key, 200),
        (native, bearer, 200),
        (native, cookie, 200),
        (native, {"cookie": "__Secure-better-auth.session_token=ann"}, 200),
        (native, {"cookie": "better-auth.session_token=admin"}, 401),
        (native, {"x-api-key": "nobody"} | cookie, 401),
        (native, {"authorization": "Basic admin"}, 401),
        (native, {"authorization": "Bearer"}, 401),
        (native, {"x-api-key": "nobody"}, 401),
        (native, {}, 401),
        (applivery, key, 401),
        (applivery, bearer, 200),
        (applivery, cookie, 200),
        (applivery, bearer | {"cookie": "better-auth.session_token=nobody"}, 200),
        (applivery, {"authorization": "Bearer nobody"} | cookie, 401),
        (hookstream, key, 200),
        (hookstream, bearer, 200),
        (hookstream, cookie, 200),
        (hookstream, {"x-api-key": "nobody"} | cookie, 200),
        (hookstream, {"x-api-key": "nobody"} | bearer, 200),
        (hookstream, {"x-api-key": "nobody"}, 401),
        (hookstream, {}, 401),
    ):
        answer = await client("GET", path, headers=headers)
        assert answer.status == status, (path, headers)
    codes = [
        (await client("GET", applivery, headers=headers)).json()["error"]["code"]
        for headers in (
            {},
            {"authorization": "admin"},
            {"authorization": "Bearer nobody"},
            {"authorization": "Bearer expired"},
            {"authorization": "Bearer " + "x" * 5000},
        )
    ]
    assert codes == [4002, 4004, 4004, 4005, 4004]
    words = [
        (await client("GET", native, headers=headers)).json()["code"]
        for headers in ({}, {"x-api-key": "nobody"}, {"x-api-key": "expired"})
    ]
    assert words == ["unauthenticated", "invalid_token", "expired_token"]


async def test_bound_keys(fake: Fake, call: Client) -> None:
    client = Client(call._app, "bound")
    channels = "/v1/organizations/acme/apps/{}/notifications"
    assert (await client("GET", channels.format(SHOP))).status == 200
    assert (await client("GET", channels.format(BLOG))).status == 404
    assert (await client("GET", "/v1/organizations/acme/notifications")).status == 403
    assert (await client("GET", "/v1/organizations/rival/notifications")).status == 404
    for path in ("", "/projects"):
        method = "POST" if path else "PATCH"
        assert (await client(method, f"{NATIVE}/acme{path}", b"{")).status == 403

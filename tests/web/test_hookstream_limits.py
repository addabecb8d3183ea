"""Every call of the hookstream dialect tells what is left of the budget, and ends when it is used
up; nothing else exists below its prefix."""

import re

import pytest
from litestar.routes import HTTPRoute
from tests.web.fakes import SHOP, Client, application, services

from tocsin.web.dialects import Dialect, dialect_of

pytestmark = pytest.mark.anyio

LIMIT = 3
BUDGET = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
CALLS = sorted(
    (method, route.path_format.replace("{id}", SHOP))
    for route in application(services()).framework.routes
    if isinstance(route, HTTPRoute) and dialect_of(route.path) is Dialect.HOOKSTREAM
    for method in route.methods - {"OPTIONS"}
)


def test_the_calls_are_all_there() -> None:
    channels, keys = "/v1/notification-channels", "/v1/auth/api-keys"
    environments = "/v1/environments"
    assert {
        *(("GET", channels), ("POST", channels)),
        *((method, f"{channels}/{SHOP}") for method in ("GET", "PATCH", "DELETE")),
        ("POST", f"{channels}/{SHOP}/test"),
        *(("GET", keys), ("POST", keys), ("DELETE", f"{keys}/{SHOP}")),
        *(("GET", environments), ("POST", environments)),
        *((method, f"{environments}/{SHOP}") for method in ("GET", "PATCH", "DELETE")),
    } <= set(CALLS)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_call_ends_with_the_budget(method: str, path: str) -> None:
    app = application(services(requests_per_minute=LIMIT, stranger_requests_per_minute=1))
    async with app.lifespan():
        client = Client(app, "admin")
        for used in range(1, LIMIT + 1):
            answer = await client("GET", "/v1/notification-channels")
            assert answer.headers["ratelimit-limit"] == str(LIMIT)
            assert answer.headers["ratelimit-remaining"] == str(LIMIT - used)
        answer = await client(method, path, b"{")
        assert answer.status == 429
        assert not client.body_was_read
        assert answer.json() == {
            "error": "Rate limit exceeded",
            "status": 429,
            "request_id": answer.headers["x-request-id"],
        }
        assert re.fullmatch(r"req_[0-9a-f]{12}", answer.headers["x-request-id"])
        assert answer.headers["ratelimit-remaining"] == "0"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert 1 <= int(answer.headers["ratelimit-reset"]) <= 60
        strangers = [await client(method, path, token="x") for _ in range(2)]
        assert [answer.status for answer in strangers] == [401, 429]
        assert all(set(BUDGET) <= answer.headers.keys() for answer in strangers)
        assert strangers[0].json()["error"] == "Invalid API key"


@pytest.mark.parametrize("path", sorted({path for _, path in CALLS}))
async def test_other_methods_do_not_exist(path: str) -> None:
    app = application(services())
    taken = {method for method, known in CALLS if known == path}
    async with app.lifespan():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - taken:
            answer = await Client(app, "admin")(method, path, b"{}")
            assert (answer.status, answer.json()["error"]) == (404, "Not found"), method
            assert "allow" not in answer.headers
            assert set(BUDGET) <= answer.headers.keys()
        for unknown in (path + "/x/y", "/v1/auth", "/v1", "/v1/unknown", path + "x"):
            if not any(known == unknown for _, known in CALLS):
                answer = await Client(app, "admin")("GET", unknown)
                assert (answer.status, answer.json()["status"]) == (404, 404), unknown

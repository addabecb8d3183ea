"""Applivery's table of errors, row by row: status, number, message, and what else is told."""

from typing import Any

import pytest
from tests.web.fakes import SHOP, Client, Fake, application, services

from tocsin.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    PayloadTooLarge,
    QuotaExceeded,
    RateLimited,
    SlackNotConfigured,
    SlackRefused,
    Unavailable,
    UnsupportedEncoding,
)

pytestmark = pytest.mark.anyio

A = f"/v1/organizations/acme/apps/{SHOP}/notifications"

TABLE: tuple[tuple[Exception, int, int, str, Any], ...] = (
    (Forbidden(), 403, 4003, "Forbidden", None),
    (NotFound(), 404, 3001, "Entity not found", None),
    (
        Invalid("settings.url", "is bad"),
        *(400, 3000, "Validation Error"),
        {"errors": [{"field": "setup.webhook.url", "message": "is bad"}]},
    ),
    (
        Malformed("no JSON"),
        *(400, 3000, "Validation Error"),
        {"errors": [{"field": "", "message": "no JSON"}]},
    ),
    (SlackRefused("code_already_used"), 400, 5010, "Slack authorization failed",
     {"slack": "code_already_used"}),
    (SlackNotConfigured(), 400, 5011, "Slack is not configured", None),
    (Conflict("taken", "slug"), 409, 5001, "Conflict",
     {"errors": [{"field": "slug", "message": "taken"}]}),
    (QuotaExceeded("at most 1"), 409, 5001, "Conflict",
     {"errors": [{"field": "", "message": "at most 1"}]}),
    (PayloadTooLarge(), 413, 3003, "Payload too large", None),
    (UnsupportedEncoding(), 415, 3004, "Unsupported encoding", None),
    (RateLimited("slowly", 7), 429, 5003, "Limit Exceeded", None),
    (Unavailable("away", 9), 503, 1001, "Service unavailable", None),
    (RuntimeError("detail"), 500, 1000, "Internal error", None),
)  # fmt: skip


@pytest.mark.parametrize(("error", "status", "code", "message", "data"), TABLE)
async def test_a_row(
    error: Exception, status: int, code: int, message: str, data: Any, fake: Fake, call: Client
) -> None:
    async def refuses(*_: Any, **__: Any) -> Any:
        raise error

    channel = fake.channels.add()
    fake.channels.update = refuses  # type: ignore[method-assign]
    answer = await call("PUT", f"{A}/{channel.channel.id}", {})
    expected = {"code": code, "message": message} | ({} if data is None else {"data": data})
    assert (answer.status, answer.json()) == (status, {"status": False, "error": expected})
    assert answer.headers["content-type"] == "application/json"
    retry = {429: "7", 503: "9"}.get(status)
    assert answer.headers.get("retry-after") == retry
    assert "allow" not in answer.headers


@pytest.mark.parametrize(
    ("token", "code", "message"),
    [
        (None, 4002, "No auth token"),
        ("nobody", 4004, "Invalid Token"),
        ("", 4004, "Invalid Token"),
        ("expired", 4005, "Token Expired"),
    ],
)
async def test_credentials(token: str | None, code: int, message: str, fake: Fake) -> None:
    app = application(fake)
    async with app.lifespan():
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        for method in ("GET", "POST"):
            answer = await Client(app)(method, A, b"{", headers)
            assert answer.status == 401
            expected = {"status": False, "error": {"code": code, "message": message}}
            assert answer.json() == expected


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/organizations",
        "/v1/organizations/",
        "/v1/organizations/acme",
        "/v1/organizations/acme/apps",
        f"/v1/organizations/acme/apps/{SHOP}",
        A + "/x/y",
        A + "s",
        "/v1/organizations/acme/Notifications",
    ],
)
async def test_unknown_routes(method: str, path: str, call: Client) -> None:
    for token in ("admin", "nobody"):
        answer = await call(method, path, b"{", token=token)
        expected = {"status": False, "error": {"code": 1002, "message": "Route not found"}}
        assert (answer.status, answer.json()) == (404, expected), token


async def test_the_rate_limit_comes_before_existence(fake: Fake) -> None:
    app = application(services(requests_per_minute=1))
    async with app.lifespan():
        client = Client(app, "admin")
        path = f"/v1/organizations/nowhere/apps/{SHOP}/notifications"
        answers = [await client("GET", path) for _ in range(5)]
    assert answers[0].status == 404
    assert answers[-1].status == 429
    assert answers[-1].json()["error"] == {"code": 5003, "message": "Limit Exceeded"}
    assert int(answers[-1].headers["retry-after"]) >= 1

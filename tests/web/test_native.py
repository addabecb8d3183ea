"""The native dialect: its objects, lists and document."""

from typing import Any

import pytest
from litestar.routes import HTTPRoute
from msgspec import UNSET
from tests.web.fakes import ACME, NOW, OPERATOR, SECRET, SHOP, Client, Fake

from tocsin.domain.model import (
    Attempt,
    Breaker,
    ChannelId,
    Delivery,
    DeliveryId,
    Event,
    EventId,
    Origin,
    RateLimit,
    Status,
    StoredEvent,
)
from tocsin.web.native import views

pytestmark = pytest.mark.anyio

HERE = "/api/v1/organizations/acme"
ISO = "2027-01-15T08:00:00.000Z"


async def test_objects(call: Client) -> None:
    organization = {
        "id": ACME,
        "name": "Acme",
        "slug": "acme",
        "created_at": ISO,
        "updated_at": ISO,
    }
    assert (await call("GET", HERE)).json() == organization
    answer = await call("GET", f"{HERE}/projects/SHOP")
    assert answer.json() == {
        "id": SHOP,
        "organization_id": ACME,
        "name": "shop",
        "slug": "shop",
        "created_at": ISO,
        "updated_at": ISO,
    }
    key = {"name": "k", "role": "viewer", "permissions": ["*.list"], "expires_at": ISO}
    answer = await call("POST", f"{HERE}/keys", key)
    assert answer.status == 201
    assert answer.json() == {
        "id": "9" * 24,
        "name": "k",
        "role": "viewer",
        "permissions": ["*.list"],
        "project_id": None,
        "token_prefix": "toc_AAAAAAAA",
        "expires_at": ISO,
        "last_used_at": None,
        "created_at": ISO,
        "token": "toc_token",
    }
    assert (await call("DELETE", f"{HERE}/keys/" + "9" * 24)).status == 204
    answer = await call("POST", f"{HERE}/keys", {"name": "k", "expires_at": "tomorrow"})
    assert answer.json()["errors"][0]["field"] == "expires_at"


async def test_a_channel_shows_every_member(fake: Fake, call: Client) -> None:
    body = {"name": "n", "type": "webhook", "settings": {"url": "https://a.example"}}
    answer = await call("POST", f"{HERE}/channels", body)
    assert answer.status == 201
    assert answer.json()["secret"] == SECRET
    (draft,) = fake.channels.drafts
    assert (draft.breaker, draft.filter, draft.timeout_seconds) == (UNSET, UNSET, UNSET)
    shown = (await call("GET", f"{HERE}/channels/{answer.json()['id']}")).json()
    assert shown == {
        "id": shown["id"],
        "organization_id": ACME,
        "project_id": None,
        "name": "n",
        "type": "webhook",
        "description": None,
        "settings": {"url": "https://a.example"},
        "event_types": ["*"],
        "filter": [],
        "enabled": True,
        "headers": {},
        "format": "tocsin",
        "retry": {"schedule": ["5s"]},
        "timeout_seconds": 15,
        "rate_limit": None,
        "max_in_flight": None,
        "ordered": False,
        "breaker": None,
        "status": "active",
        "disabled_reason": None,
        "last_sent_at": None,
        "error_count": 0,
        "last_error": None,
        "created_at": ISO,
        "updated_at": ISO,
    }
    state = fake.channels.add(
        timeout_seconds=1.5,
        enabled=False,
        rate_limit=RateLimit(3, 60),
        breaker=Breaker(),
    )
    shown = (await call("GET", f"{HERE}/channels/{state.channel.id}")).json()
    assert shown["timeout_seconds"] == 1.5
    assert shown["status"] == "disabled"
    assert shown["rate_limit"] == {"count": 3, "per_seconds": 60}
    assert shown["breaker"] == {"failures": 5, "cooldown_seconds": 60}


async def test_changes_tell_null_from_absent(fake: Fake, call: Client) -> None:
    channel = fake.channels.add().channel.id
    path = f"{HERE}/channels/{channel}"
    assert (await call("PATCH", path, {"breaker": None, "headers": {"x": None}})).status == 200
    (patch,) = fake.channels.patches
    assert (patch.breaker, patch.headers, patch.filter) == (None, {"x": None}, UNSET)
    for field, value in (
        ("type", "slack"),
        ("project", "shop"),
        ("id", channel),
        ("secret", "x"),
        ("name", None),
        ("enabled", 1),
        ("backlog", "keep"),
    ):
        answer = await call("PATCH", path, {field: value})
        assert answer.status == 400, field
        assert answer.json()["errors"][0]["field"] == field


async def test_lists_are_walked_by_cursor(fake: Fake, call: Client) -> None:
    ids = [fake.channels.add().channel.id for _ in range(5)]
    seen: list[str] = []
    path = f"{HERE}/channels?limit=2"
    cursor: str | None = ""
    while cursor is not None:
        page = (await call("GET", path + (f"&cursor={cursor}" if cursor else ""))).json()
        seen += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]
    cursor = (await call("GET", path)).json()["next_cursor"]
    for foreign in (
        f"{HERE}/projects?cursor={cursor}",
        f"/api/v1/organizations/rival/channels?cursor={cursor}",
        f"/api/v1/organizations?cursor={cursor}",
        f"{HERE}/channels?cursor={cursor}x",
    ):
        answer = await call("GET", foreign, token=OPERATOR)
        assert answer.status == 400, foreign
        assert answer.json()["errors"][0]["field"] == "cursor"
    for bad in ("limit=0", "limit=201", "limit=x"):
        assert (await call("GET", f"{HERE}/channels?{bad}")).status == 400


def test_log_objects() -> None:
    event = Event(
        id=EventId("e" * 24),
        organization_id=ACME,
        project_id=None,
        type="a",
        data=b"[1.0]",
        occurred_at=NOW,
        created_at=NOW,
    )
    delivery = Delivery(
        id=DeliveryId("d" * 24),
        event_id=event.id,
        event_type="a",
        organization_id=ACME,
        channel_id=ChannelId("c" * 24),
        project_id=None,
        origin=Origin.EVENT,
        status=Status.SENDING,
        waiting_for=None,
        attempt_count=1,
        next_attempt_at=None,
        created_at=NOW,
        finished_at=None,
        last_status_code=None,
        last_error=None,
    )
    attempt = Attempt(
        number=1,
        started_at=NOW,
        duration_ms=3,
        outcome="retry",
        status_code=500,
        error="http_status",
        response_body="no",
    )
    stored = StoredEvent(event=event, idempotency_key=None, deliveries=1, unmatched=None)
    assert views.event(stored).deliveries == 1
    assert bytes(views.event(stored).data) == b"[1.0]"
    (shown,) = views.event(stored, [delivery]).deliveries  # type: ignore[misc]
    assert shown == views.delivery(delivery)
    assert shown.attempts is UNSET
    assert views.delivery(delivery, [attempt]).attempts == [views.attempt(attempt)]


async def test_the_document(call: Client) -> None:
    answer = await call("GET", "/api/openapi.json")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in ("get", "post", "patch", "put", "delete")
    }
    routes = {
        (method, route.path_format)
        for route in call._app.framework.routes
        if isinstance(route, HTTPRoute) and "openapi" not in route.path
        for method in route.methods - {"OPTIONS"}
    }
    assert described == routes
    schemas = document["components"]["schemas"]
    assert schemas["EventIn"]["additionalProperties"] is False
    errors = {"/api/": "Problem", "/v1/organizations": "Applivery", "/v1/": "hookstream"}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            kind = next(name for prefix, name in errors.items() if path.startswith(prefix))
            for status, reply in operation["responses"].items():
                if int(status) < 400:
                    continue
                media = "application/problem+json" if kind == "Problem" else "application/json"
                assert list(reply["content"]) == [media], (path, status)
            assert "401" in operation["responses"]
    names = {p["name"] for p in _parameters(document, "/api/v1/organizations/{org}/events", "get")}
    assert names >= {"org", "limit", "cursor", "type", "project", "after", "before"}
    assert_references(document)


def _parameters(document: Any, path: str, method: str) -> Any:
    return document["paths"][path][method]["parameters"]


def assert_references(document: Any) -> None:
    """Every `$ref` leads somewhere."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                if name == "$ref" and isinstance(inner, str):
                    found.append(inner)
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(document)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(found) - known == set()
    assert found


async def test_the_schemas_of_all_dialects_have_names_of_their_own(call: Client) -> None:
    """Two structs of one name get long names, and the exact schema of neither is shown."""
    schemas = (await call("GET", "/api/openapi.json")).json()["components"]["schemas"]
    assert [name for name in schemas if "." in name and not name.startswith("ListOut_")] == []
    assert schemas["ChannelIn"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["NotificationChannelIn"]

"""The service against its own OpenAPI document, with requests that schemathesis makes up.

No 5xx, no status that is not described, no reply that its schema does not allow, and nothing
taken that the document forbids. What the document can't say (that a name must be free, that a
target may be called) is not a violation, so that a refusal of described data is no failure.
"""

import asyncio
import os
from typing import Any, ClassVar

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)
from tests.blackbox.conftest import service
from tests.blackbox.server import Server, Tenant
from tests.hostile.world import API
from tests.web.fakes import Client, application, services

__all__ = ["service"]

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("TOCSIN_TEST_EXAMPLES", "60"))
"""Of each call; with `HYPOTHESIS_PROFILE=random` they are others each time."""
ANSWER_SECONDS_MAX = 120.0
EXCLUDED = [allow_header_conformance, positive_data_acceptance]


class World:
    """Ids that exist, so that more than 404 is seen; set when the service runs."""

    names: ClassVar[dict[str, str]] = {}
    token = ""
    operator = ""


def ids_of(tenant: Tenant) -> dict[str, str]:
    project = tenant.projects["one"]
    hook = {"enabled": False, "project": project}
    channel = tenant.channel("http://127.0.0.1:9/", **hook)["id"]
    whole = tenant.channel("http://127.0.0.1:9/", enabled=False)["id"]
    event = tenant.publish(project=project)["id"]
    return {
        "org": tenant.organization,
        "project": project,
        "app": project,
        "channels": channel,
        "events": event,
        "deliveries": tenant.deliveries(event)[0]["id"],
        "notifications": whole,
        "notification-channels": channel,
        "environments": project,
    }


def document() -> Any:
    """The OpenAPI document, as it is served; needed while tests are collected."""
    client = Client(application(services()))
    return asyncio.run(client("GET", "/api/openapi.json")).json()


schema = schemathesis.openapi.from_dict(document())


@schema.auth()
class Auth:
    """The tenant's own key, and the operator's token where it takes that."""

    def get(self, case: Any, context: Any) -> str:
        del context
        return World.operator if case.path == API else World.token

    def set(self, case: Any, data: str, context: Any) -> None:
        del context
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@pytest.fixture(scope="module")
def url(service: Server) -> str:
    tenant = service.tenant("schemathesis", projects=["one"])
    World.names = ids_of(tenant)
    World.token = tenant.key
    World.operator = service.operator_token
    return service.url


def known(case: Any) -> dict[str, Any]:
    """Ids that exist in the place of made-up ones, but where a call would delete them."""
    parameters = dict(case.path_parameters or {})
    deletes = case.operation.method.upper() == "DELETE"
    for name in ("org", "project", "app"):
        if name in parameters and not (deletes and name == "project"):
            parameters[name] = World.names[name]
    if "id" in parameters and not deletes:
        parts = case.operation.path.split("/")
        kind = parts[parts.index("{id}") - 1]
        if kind == "notifications" and "{app}" in case.operation.path:
            kind = "channels"
        parameters["id"] = World.names.get(kind, parameters["id"])
    return parameters


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Whole numbers as integers: JSON Schema takes 9.0 for one, strict decoding does not."""
    del context
    return whole(body)


def whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return [whole(one) for one in value] if isinstance(value, list) else value


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_service_keeps_its_document(case: Any, url: str) -> None:
    if case.path_parameters:
        case.path_parameters = known(case)
    excluded = list(EXCLUDED)
    if case.path.startswith("/v1"):
        excluded.append(unsupported_method)  # by contract these dialects answer 404
    if case.path.endswith("/batch"):
        excluded.append(negative_data_rejection)  # a bad item is an error inside a 202
    case.call_and_validate(base_url=url, excluded_checks=excluded, timeout=ANSWER_SECONDS_MAX)

"""Every call, every field, every rule: at the boundary and one over, in the call's own dialect."""

from typing import Any

import pytest
from litestar.routes import HTTPRoute
from tests.hostile import dialect_rows, native_rows, people_rows
from tests.hostile.refusals import VALIDATION, names, refusal
from tests.hostile.registry import Row, filled
from tests.hostile.rules import ABSENT, Case
from tests.hostile.world import World, changed, put
from tests.web.fakes import Answer, application, services

pytestmark = pytest.mark.anyio

ROWS = (*native_rows.ROWS, *people_rows.ROWS, *dialect_rows.ROWS)
FIELDS = [
    pytest.param(row, field, id=f"{row.name} {field}") for row in ROWS for field in row.fields
]
QUERIES = [
    pytest.param(row, field, id=f"{row.name} {field}") for row in ROWS for field in row.query
]


async def trouble(world: World, row: Row, case: Case, field: str, answer: Answer) -> str:
    """What is wrong with the answer to a case; nothing is the empty text."""
    if answer.status >= 500:
        return f"{answer}"
    if case.ok and row.success >= 400:
        found = refusal(row.dialect, answer)
        return "" if answer.status == row.success and found.code not in VALIDATION else f"{answer}"
    if case.ok:
        return "" if answer.status == row.success else f"taken by the contract: {answer}"
    if answer.status != 400:
        return f"not refused: {answer}"
    found = refusal(row.dialect, answer)
    if found.code not in VALIDATION:
        return f"not a validation error: {found}"
    wanted = case.at or field
    return "" if names(found.field, wanted) else f"names {found.field!r}: {found.text}"


def told(wrong: list[tuple[str, str]]) -> None:
    if wrong:
        pytest.fail("\n".join(f"{name}: {found[:600]}" for name, found in wrong), pytrace=False)


@pytest.mark.parametrize(("row", "field"), FIELDS)
async def test_a_field_of_a_body(world: World, row: Row, field: str) -> None:
    tenant = await world.tenant(row.name)
    path, body = filled(row.path, tenant), filled(row.body, tenant)
    wrong: list[tuple[str, str]] = []
    # What is taken comes first: looking at all that is stored is slow after each change.
    for case in sorted(row.fields[field], key=lambda case: not case.ok):
        if field in row.reset:
            await world.ask(row.method, path, row.reset, token=tenant.tokens["admin"])
        before = {} if case.ok and row.success < 400 else world.stored()
        sent = put(body, field, filled(case.value, tenant))
        answer = await world.ask(row.method, path, sent, token=tenant.tokens[row.token])
        if found := await trouble(world, row, case, field, answer):
            wrong.append((case.name, found))
        if before and (tables := changed(before, world.stored())):
            wrong.append((case.name, f"stored in {tables}"))
    told(wrong)


@pytest.mark.parametrize(("row", "name"), QUERIES)
async def test_a_field_of_a_query(world: World, row: Row, name: str) -> None:
    tenant = await world.tenant(row.name)
    path, body = filled(row.path.partition("?")[0], tenant), filled(row.body, tenant)
    wrong: list[tuple[str, str]] = []
    for case in row.query[name]:
        before = world.stored()
        query = "" if case.value is ABSENT else f"?{name}={filled(case.value, tenant)}"
        asked = path + query
        answer = await world.ask(row.method, asked, body or b"", token=tenant.tokens[row.token])
        if found := await trouble(world, row, case, name, answer):
            wrong.append((case.name, found))
        makes = case.ok and row.body is not None
        if not makes and (tables := changed(before, world.stored())):
            wrong.append((case.name, f"stored in {tables}"))
    told(wrong)


def _template(path: str) -> str:
    path = path.partition("?")[0].replace("{app}", "{project}")
    for name in (
        "member",
        "user",
        "key",
        "channel",
        "event",
        "delivery",
        "none",
        "whole",
        "environment",
        "rule",
        "issue",
    ):
        path = path.replace(f"{{{name}}}", "{id}")
    return path


def test_every_route_has_a_row() -> None:
    routes = {
        (method, route.path_format.replace("{app}", "{project}"))
        for route in application(services()).framework.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/api/openapi.json")
        for method in route.methods - {"OPTIONS"}
    }
    assert routes == {(row.method, _template(row.path)) for row in ROWS}


async def test_every_field_of_a_body_and_query_has_rules(world: World) -> None:
    answer = await world.ask("GET", "/api/openapi.json", token=world.operator)
    document = answer.json()
    tested: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for row in ROWS:
        fields, query = tested.setdefault((row.method, _template(row.path)), (set(), set()))
        fields |= {field.partition(".")[0] for field in row.fields}
        query |= set(row.query)
    missing = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            place = (method.upper(), path.replace("{app}", "{project}"))
            if place not in tested:
                continue
            fields, query = tested[place]
            described = _members(document, call)
            missing += [(*place, "body", name) for name in described - fields]
            asked = {p["name"] for p in call.get("parameters", ()) if p["in"] == "query"}
            missing += [(*place, "query", name) for name in asked - query]
    assert not missing


def _members(document: Any, call: Any) -> set[str]:
    content = call.get("requestBody", {}).get("content", {})
    found: set[str] = set()
    for one in content.values():
        schema = one["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        found |= set(schema.get("properties", ()))
    return found

"""Every route with every kind of credential, on the whole service with a real database.

The table below says who may; a route without a row fails.
"""

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from litestar.routes import HTTPRoute
from msgspec import Struct
from tests.web.fakes import Client, application, services

from tocsin.app import App
from tocsin.config import load
from tocsin.domain.model import Role
from tocsin.domain.permissions import ROLES, allows
from tocsin.web.asgi import build

pytestmark = pytest.mark.anyio

API = "/api/v1/organizations"
ONE = API + "/{org}"
A = "/v1/organizations/{org}/apps/{project}/notifications"
O = "/v1/organizations/{org}/notifications"  # noqa: E741 - the contract's name
H = "/v1/notification-channels"
_APP = "mad.application.notification."
_ORG = "base.organization.notification."

HOOK = {"url": "http://127.0.0.1:9/"}
CHANNEL = {"name": "n", "type": "webhook", "settings": HOOK}
NOTIFICATION = {"type": "webhook", "events": {}, "setup": {"webhook": HOOK}}
EVENT = {"type": "a", "data": 1}


class Row(Struct):
    """Who may call a route.

    `operation` decides for keys of the organization; None lets every credential in. `bound` and
    `elsewhere` are the statuses for a full key of the route's project and of another one, where
    they differ from success; `rival` that for another organization's.
    """

    method: str
    path: str
    operation: str | None
    body: Any = b""
    bound: int = 200
    elsewhere: int = 0  # as `bound`
    rival: int = 404
    operator_only: bool = False
    absent: bool = False  # nothing to find: 404 for whoever gets that far


TABLE = (
    Row("POST", API, "organization.create", {"name": "x"}, 403, rival=403, operator_only=True),
    Row("GET", API, "organization.list", bound=403, rival=403, operator_only=True),
    Row("GET", ONE, "organization.get"),
    Row("PATCH", ONE, "organization.update", {"name": "x"}, 403),
    Row("DELETE", ONE + "?confirm={slug}", "organization.delete", bound=403),
    Row("POST", ONE + "/projects", "project.create", {"name": "x"}, 403),
    Row("GET", ONE + "/projects", "project.list"),
    Row("GET", ONE + "/projects/{project}", "project.get", elsewhere=404),
    Row("PATCH", ONE + "/projects/{project}", "project.update", {"name": "x"}, elsewhere=404),
    Row("DELETE", ONE + "/projects/{project}", "project.delete", elsewhere=404),
    Row("POST", ONE + "/keys", "key.create", {"name": "x", "role": "viewer"}),
    Row("GET", ONE + "/keys", "key.list"),
    Row("DELETE", ONE + "/keys/{key}", "key.delete", bound=404),
    Row("POST", ONE + "/channels", "channel.create", CHANNEL),
    Row("GET", ONE + "/channels", "channel.list"),
    Row("GET", ONE + "/channels/{channel}", "channel.get", elsewhere=404),
    Row("PATCH", ONE + "/channels/{channel}", "channel.update", {"name": "x"}, elsewhere=404),
    Row("DELETE", ONE + "/channels/{channel}", "channel.delete", elsewhere=404),
    Row("GET", ONE + "/channels/{channel}/secret", "channel.secret", elsewhere=404),
    Row("POST", ONE + "/channels/{channel}/test", "channel.test", elsewhere=404),
    Row("GET", "/api/v1/channel-types", None, rival=200),
    Row("POST", ONE + "/events", "event.publish", EVENT),
    Row("POST", ONE + "/events/batch", "event.publish", {"events": [EVENT]}),
    Row("GET", ONE + "/events", "event.list"),
    Row("GET", ONE + "/events/{event}", "event.get", elsewhere=404),
    Row("GET", ONE + "/deliveries", "delivery.list"),
    Row("GET", ONE + "/deliveries/{delivery}", "delivery.get", elsewhere=404),
    Row("POST", ONE + "/deliveries/{delivery}/retry", "delivery.retry", elsewhere=404),
    Row("GET", ONE + "/jobs", "job.list"),
    Row("GET", ONE + "/jobs/{none}", "job.get", absent=True),
    Row("DELETE", ONE + "/jobs/{none}", "job.delete", absent=True),
    Row("GET", ONE + "/audit", "audit.list", bound=404),
    Row("POST", A, _APP + "create", NOTIFICATION, elsewhere=404),
    Row("GET", A, _APP + "list", elsewhere=404),
    Row("GET", A + "/{channel}", _APP + "get", elsewhere=404),
    Row("PUT", A + "/{channel}", _APP + "update", {"description": "x"}, elsewhere=404),
    Row("DELETE", A + "/{channel}", _APP + "remove", elsewhere=404),
    Row("POST", O, _ORG + "create", NOTIFICATION, 403),
    Row("GET", O, _ORG + "list", bound=403),
    Row("GET", O + "/{whole}", _ORG + "get", bound=403),
    Row("PUT", O + "/{whole}", _ORG + "update", {"description": "x"}, bound=403),
    Row("DELETE", O + "/{whole}", _ORG + "remove", bound=403),
    Row(
        "POST",
        H,
        "channel.create",
        {"name": "n", "channel_type": "webhook", "config": HOOK},
        rival=400,  # let in, but its organization has no environment
    ),
    Row("GET", H, "channel.list", rival=200),
    Row("GET", H + "/{channel}", "channel.get", elsewhere=404),
)

KINDS = ("operator", "admin", "developer", "viewer", "bound", "elsewhere", "rival")


def test_every_route_has_a_row() -> None:
    framework = application(services()).framework
    routes = {
        (method, route.path_format.replace("{id}", "{}").replace("{app}", "{project}"))
        for route in framework.routes
        if isinstance(route, HTTPRoute) and not route.path.startswith("/api/openapi.json")
        for method in route.methods - {"OPTIONS"}
    }
    rows = set()
    for row in TABLE:
        path = row.path.partition("?")[0]
        for name in ("key", "channel", "event", "delivery", "none", "whole"):
            path = path.replace(f"{{{name}}}", "{}")
        rows.add((row.method, path))
    assert routes == rows


def table_of_the_docs() -> str:
    """The table as `docs/permissions.md` shows it."""
    lines = [
        "| call | operation | developer | viewer | key of the project |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in TABLE:
        path = row.path.partition("?")[0].replace("{none}", "{job}").replace("{whole}", "{channel}")
        roles = [
            "yes" if row.operation is None or allows(ROLES[role], row.operation) else "no"
            for role in (Role.DEVELOPER, Role.VIEWER)
        ]
        if row.operator_only:
            roles = ["operator", "operator"]
        bound = {403: "forbidden", 404: "not found"}.get(row.bound, "yes")
        operation = f"`{row.operation}`" if row.operation else "any credential"
        lines.append(f"| {row.method} `{path}` | {operation} | {' | '.join(roles)} | {bound} |")
    return "\n".join(lines)


def test_the_docs_show_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs/permissions.md").read_text()
    assert table_of_the_docs() in page


@pytest.fixture(scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[App]:
    folder: Path = tmp_path_factory.mktemp("permissions")
    flags = {"data_dir": folder, "port": 0, "allow_networks": "127.0.0.0/8"}
    async with App(load(flags | {"requests_per_minute": 0})) as running:
        yield running


_number = count()


class Tenant:
    """An organization of its own for one call, with one of everything and a key of each kind."""

    def __init__(self, call: Client, operator: str) -> None:
        self._call = call
        self._operator = operator
        self.names: dict[str, str] = {}
        self.tokens: dict[str, str] = {"operator": operator}

    async def make(self, path: str, body: Any) -> Any:
        answer = await self._call("POST", path, body, token=self._operator)
        assert answer.status < 300, answer
        return answer.json()

    async def set_up(self) -> None:
        slug = f"org-{next(_number)}"
        org = (await self.make(API, {"name": slug, "slug": slug}))["id"]
        here = f"{API}/{org}"
        project = (await self.make(here + "/projects", {"name": "one"}))["id"]
        parked = CHANNEL | {"enabled": False}
        channel = (await self.make(here + "/channels", parked | {"project": project}))["id"]
        event = (await self.make(here + "/events", EVENT | {"project": project}))["id"]
        found = await self._call("GET", f"{here}/events/{event}", token=self._operator)
        whole = (await self.make(here + "/channels", parked | {"format": "applivery"}))["id"]
        await self.set_up_keys(here, project)
        self.names |= {
            "org": org,
            "slug": slug,
            "project": project,
            "channel": channel,
            "whole": whole,
            "event": event,
            "delivery": found.json()["deliveries"][0]["id"],
            "none": "0" * 24,
        }

    async def set_up_keys(self, here: str, project: str) -> None:
        keys = here + "/keys"
        for role in ("admin", "developer", "viewer"):
            made = await self.make(keys, {"name": role, "role": role})
            self.tokens[role] = made["token"]
            self.names["key"] = made["id"]  # the viewer's: nobody deletes itself
        bound = {"name": "bound", "role": "admin", "project": project}
        self.tokens["bound"] = (await self.make(keys, bound))["token"]
        revoked = await self.make(keys, {"name": "revoked", "role": "admin"})
        await self._call("DELETE", f"{keys}/{revoked['id']}", token=self._operator)
        self.tokens["revoked"] = revoked["token"]

    async def key_elsewhere(self) -> None:
        here = f"{API}/{self.names['org']}"
        project = (await self.make(here + "/projects", {"name": "two"}))["id"]
        bound = {"name": "elsewhere", "role": "admin", "project": project}
        self.tokens["elsewhere"] = (await self.make(here + "/keys", bound))["token"]

    async def key_of_a_rival(self) -> None:
        slug = f"rival-{next(_number)}"
        await self.make(API, {"name": slug, "slug": slug})
        made = await self.make(f"{API}/{slug}/keys", {"name": "rival", "role": "admin"})
        self.tokens["rival"] = made["token"]


def expected(row: Row, kind: str) -> int:
    """The status, with 200 for any success."""
    if kind == "operator":
        status = 200
    elif kind == "rival":
        status = row.rival
    elif kind in ("bound", "elsewhere"):
        status = (row.elsewhere or row.bound) if kind == "elsewhere" else row.bound
    elif row.operator_only:
        status = 403
    elif row.operation is None or allows(ROLES[Role(kind)], row.operation):
        status = 200
    else:
        status = 403
    return 404 if row.absent else status


async def tenant_of(call: Client, operator: str) -> Tenant:
    tenant = Tenant(call, operator)
    await tenant.set_up()
    await tenant.key_elsewhere()
    await tenant.key_of_a_rival()
    return tenant


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
async def test_who_may(row: Row, app: App) -> None:
    call = Client(build(app, app.settings, cursor_key=b"k" * 32))
    tenant = await tenant_of(call, app.operator_token)
    # Those who may not come first: what they do must leave everything as it was.
    for kind in sorted(KINDS, key=lambda kind: expected(row, kind), reverse=True):
        path, body = row.path.format(**tenant.names), row.body
        if kind == "operator" and path == H:
            path += f"?org_id={tenant.names['org']}" if row.method == "GET" else ""
            here = {"org_id": tenant.names["org"], "env_id": tenant.names["project"]}
            body = row.body and row.body | here
        elif path == H and row.method == "POST" and kind != "rival":
            body = row.body | {"env_id": tenant.names["project"]}
            body = row.body if kind == "elsewhere" else body
        for stranger in (None, "unknown", tenant.tokens["revoked"]):
            assert (await call(row.method, path, body, token=stranger)).status == 401, stranger
        answer = await call(row.method, path, body, token=tenant.tokens[kind])
        # 409: let in, but the state does not fit (nothing to retry yet).
        status = 200 if answer.status < 300 or answer.status == 409 else answer.status
        assert status == expected(row, kind), (kind, answer)
        if status == 200 and row.method == "DELETE":
            tenant = await tenant_of(call, app.operator_token)

"""The whole service in this process, a tenant for each call, and a look at what is stored."""

import json
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from tests.hostile.rules import ABSENT, Raw
from tests.hostile.stored import InPostgres, InSqlite, Stored
from tests.web.fakes import Answer, Client
from tests.web.issues import make_issue
from tests.web.people import cookie, new_user, sign_in

from tocsin.app import App
from tocsin.domain.model import OrganizationId, Role
from tocsin.domain.people import LinkKind
from tocsin.service.links import LinkMade
from tocsin.web.asgi import build

PERSON = "person "
"""Before the token of a session, which goes into a cookie."""

API = "/api/v1/organizations"
HOOK = "http://127.0.0.9:9/hook"
EVENT = {"type": "a.b", "data": 1}
SETTINGS: dict[str, Any] = {
    "port": 0,
    "allow_networks": "127.0.0.9/32",
    "requests_per_minute": 0,
    "stranger_requests_per_minute": 0,
    "channels_per_organization_max": 5000,
    "alert_rules_per_organization_max": 5000,
    "sign_in_failures_max": 0,
    "sign_in_failures_per_address_max": 0,
}


class Tenant(Struct):
    """An organization with one of everything; `names` fills paths, `tokens` are by kind of key."""

    names: dict[str, str]
    tokens: dict[str, str]


class World:
    """One service for all rows."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.client = Client(build(app, app.settings, cursor_key=b"k" * 32))
        self.operator = app.operator_token
        self._tenants: dict[str, Tenant] = {}
        self._foreign = ""
        settings = app.settings
        self._stored: Stored = (
            InPostgres(settings.store) if settings.postgres else InSqlite(settings.sqlite_path)
        )

    def close(self) -> None:
        self._stored.close()

    def stored(self) -> dict[str, Any]:
        """See `Stored.look`."""
        return self._stored.look()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *,
        token: str,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        raw = body if isinstance(body, bytes) else encoded(body)
        if token.startswith(PERSON):
            given = cookie(token.removeprefix(PERSON)) | (headers or {})
            return await self.client(method, path, raw, given)
        return await self.client(method, path, raw, headers, token=token)

    async def make(self, path: str, body: Any, token: str = "") -> Any:
        answer = await self.ask("POST", path, body, token=token or self.operator)
        assert answer.status < 300, answer
        return answer.json()

    async def tenant(self, name: str) -> Tenant:
        """The tenant of this name, made when it is first asked for."""
        if name not in self._tenants:
            self._tenants[name] = await self._new(f"t{len(self._tenants)}")
        return self._tenants[name]

    async def _new(self, slug: str) -> Tenant:
        org = (await self.make(API, {"name": slug, "slug": slug}))["id"]
        here = f"{API}/{org}"
        project = (await self.make(here + "/projects", {"name": "One", "slug": "one"}))["id"]
        second = (await self.make(here + "/projects", {"name": "Two", "slug": "two"}))["id"]
        parked = {"name": "n", "type": "webhook", "settings": {"url": HOOK}, "enabled": False}
        channel = (await self.make(here + "/channels", parked | {"project": project}))["id"]
        whole = (await self.make(here + "/channels", parked))["id"]
        elsewhere = (await self.make(here + "/channels", parked | {"project": second}))["id"]
        # Only this channel has something to send, and no row enables it.
        published = EVENT | {"project": project, "channel_ids": [elsewhere]}
        event = (await self.make(here + "/events", published))["id"]
        found = await self.ask("GET", f"{here}/events/{event}", token=self.operator)
        rule = {"name": "n", "rule_type": "dlq", "rule_config": {"threshold": 0}}
        watching = await self.make("/v1/alert-rules", rule | {"org_id": org, "env_id": project})
        tokens = {"operator": self.operator}
        key = ""
        for kind, more in (
            ("admin", {"role": "admin"}),
            ("viewer", {"role": "viewer"}),
            ("bound", {"role": "admin", "project": project}),
        ):
            made = await self.make(here + "/keys", {"name": kind} | more)
            tokens[kind], key = made["token"], made["id"]
        names = await self._person(org, tokens)
        names |= {
            "org": org,
            "slug": slug,
            "project": project,
            "environment": project,
            "second": second,
            "channel": channel,
            "whole": whole,
            "elsewhere": elsewhere,
            "rule": watching["alert_rule"]["id"],
            "event": event,
            "delivery": found.json()["deliveries"][0]["id"],
            "key": key,
            "issue": await make_issue(self.app, org, project, channel),
            "none": "0" * 24,
        }
        names |= {name.upper(): names[name].upper() for name in ("org", "project", "channel")}
        names["foreign"] = self._foreign or channel
        self._foreign = channel
        return Tenant(names, tokens)

    async def _person(self, org: str, tokens: dict[str, str]) -> dict[str, str]:
        """Somebody who has signed in, a member without a session, and a link for them."""
        tokens["person"] = PERSON + await sign_in(self.app, org, Role.ADMIN)
        user = new_user()
        await sign_in(self.app, org, Role.VIEWER, user=user, new=True)
        where = f"{API}/{org}/members"
        found = (await self.ask("GET", where, token=self.operator)).json()["data"]
        made = self.app.links.make(
            LinkKind.INVITE, user.email, organization_id=OrganizationId(org), role=Role.VIEWER
        )
        lasting = replace(made.link, expires_at=made.link.expires_at + 86_400_000)
        await self.app.changes.store.write(LinkMade(lasting, made.token).store)
        member = next(one["id"] for one in found if one["user_id"] == user.id)
        return {"member": member, "user": user.id, "email": user.email, "token": made.token}


def encoded(body: Any) -> bytes:
    """JSON in which a `Raw` stands as it is."""
    raws: list[bytes] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Raw):
            raws.append(bytes(value))
            return f"@@{len(raws) - 1}@@"
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, list) else value

    text = json.dumps(plain(body)).encode()
    for index, raw in enumerate(raws):
        text = text.replace(b'"@@%d@@"' % index, raw)
    return text


def put(body: Any, path: str, value: Any) -> Any:
    """A copy of the body with the value at the dotted path; `ABSENT` takes it away."""
    name, _, rest = path.partition(".")
    copy = dict(body)
    if rest:
        inner = copy.get(name)
        copy[name] = put(inner if isinstance(inner, dict) else {}, rest, value)
    elif value is ABSENT:
        copy.pop(name, None)
    else:
        copy[name] = value
    return copy


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The tables that are not as they were."""
    return [name for name in after if after[name] != before.get(name)]

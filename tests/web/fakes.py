"""A service layer in memory, with the surface of the real one, and a client without sockets.

It knows one organization `acme` with the projects `shop` and `blog`, another one `rival`, and
keys of every kind. What it does is as little as the edge needs to be seen at work.
"""

import builtins
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tocsin.channels import channel_types
from tocsin.clock import Clock
from tocsin.config import Settings
from tocsin.domain.errors import (
    ExpiredToken,
    Forbidden,
    Invalid,
    InvalidToken,
    NotFound,
    TocsinError,
)
from tocsin.domain.ids import is_id, normalize_id
from tocsin.domain.model import (
    Channel,
    ChannelId,
    ChannelState,
    EventId,
    Format,
    Key,
    KeyId,
    Organization,
    OrganizationId,
    Project,
    ProjectId,
    Role,
    Tracking,
)
from tocsin.domain.permissions import ALL, Caller, grants_of
from tocsin.service.channels import PROJECTS, ChannelDraft, ChannelPatch
from tocsin.service.publish import Accepted, EventDraft
from tocsin.service.sight import Listing, Page, Sight
from tocsin.service.slack import SlackSetup
from tocsin.web.asgi import build
from tocsin.web.front import Front
from tocsin.web.services import Services

ACME = OrganizationId("a" * 24)
RIVAL = OrganizationId("b" * 24)
SHOP = ProjectId("1" * 24)
BLOG = ProjectId("2" * 24)
ELSEWHERE = ProjectId("3" * 24)
SECRET = "whsec_" + "A" * 43 + "="
NOW = 1_800_000_000_000

OPERATOR = "operator-token-of-32-characters-or-more"
KEYS: dict[str, Caller] = {
    OPERATOR: Caller(kind="operator", grants=ALL, name="operator"),
    "admin": Caller(kind="key", organization_id=ACME, grants=ALL, id="k1", name="admin"),
    "developer": Caller(
        kind="key", organization_id=ACME, grants=grants_of(None, ()), id="k2", name="developer"
    ),
    "viewer": Caller(
        kind="key", organization_id=ACME, grants=grants_of(Role.VIEWER, ()), id="k3", name="viewer"
    ),
    "bound": Caller(
        kind="key", organization_id=ACME, project_id=SHOP, grants=ALL, id="k4", name="bound"
    ),
    "rival": Caller(kind="key", organization_id=RIVAL, grants=ALL, id="k5", name="rival"),
}


class Credentials:
    """Tokens are the names of `KEYS`; `expired` has expired."""

    def __init__(self) -> None:
        self.asked = 0

    async def authenticate(self, token: str, *, dialect: Any, address: str | None) -> Caller:
        self.asked += 1
        if token == "expired":
            raise ExpiredToken()
        if token not in KEYS:
            raise InvalidToken()
        return msgspec.structs.replace(KEYS[token], dialect=dialect, address=address)

    def cached(self, token: str, *, dialect: Any, address: str | None) -> Caller | None:
        return KEYS.get(token) if dialect == "native" else None


class Sessions:
    """The cookie `ann` is an admin's of `acme` who has selected the shop, `eve` a rival's."""

    def cached(self, token: str, *, dialect: Any, address: str | None) -> Caller | None:
        return None

    async def authenticate(self, token: str, *, dialect: Any, address: str | None) -> Caller:
        people = {"ann": (ACME, SHOP), "eve": (RIVAL, None)}
        if token == "expired":
            raise ExpiredToken()
        if token not in people:
            raise InvalidToken()
        organization_id, selected = people[token]
        return Caller(
            kind="session",
            organization_id=organization_id,
            grants=ALL,
            id=f"user {token}",
            name=f"{token}@example.com",
            session_id=f"session {token}",
            selected_project_id=selected,
            dialect=dialect,
            address=address,
        )


def _check(caller: Caller, operation: str) -> None:
    if not caller.may(operation):
        raise Forbidden()


def _of_level(project_id: ProjectId | None, level: ProjectId | UnsetType | None) -> bool:
    if level == PROJECTS:
        return project_id is not None
    return level is UNSET or project_id == level


def _page(items: Sequence[Any], page: Page, id_of: Any) -> Listing[Any]:
    newest_first = sorted(items, key=id_of, reverse=True)
    rest = [item for item in newest_first if page.below is None or id_of(item) < page.below]
    shown = rest[: page.limit]
    return Listing(shown, id_of(shown[-1]) if len(rest) > page.limit else None)


class Directory:
    """Organizations and projects that nobody changes."""

    def __init__(self) -> None:
        self.organizations = [
            Organization(id=ACME, name="Acme", slug="acme", created_at=NOW, updated_at=NOW),
            Organization(id=RIVAL, name="Rival", slug="rival", created_at=NOW, updated_at=NOW),
        ]
        self.projects = [
            Project(
                id=id, organization_id=org, name=slug, slug=slug, created_at=NOW, updated_at=NOW
            )
            for id, org, slug in (
                (SHOP, ACME, "shop"),
                (BLOG, ACME, "blog"),
                (ELSEWHERE, RIVAL, "elsewhere"),
            )
        ]
        self.calls: list[tuple[str, Any]] = []

    def _named(self, items: Sequence[Any], ref: str) -> Any:
        ref = ref.lower()
        for item in items:
            if item.id == ref if is_id(ref) else item.slug == ref:
                return item
        return None

    async def sight(
        self, caller: Caller, organization: str | None, project: str | None = None
    ) -> Sight:
        found = self._named(self.organizations, organization or "")
        if found is None or caller.organization_id not in (None, found.id):
            raise NotFound()
        sight = Sight(found.id, caller.project_id)
        if project is None:
            return sight
        return Sight(found.id, self._project(sight, project).id)

    def _project(self, sight: Sight, ref: str) -> Project:
        mine = [p for p in self.projects if p.organization_id == sight.organization_id]
        if sight.project_id is not None:
            mine = [p for p in mine if p.id == sight.project_id]
        found: Project | None = self._named(mine, ref)
        if found is None:
            raise NotFound()
        return found

    async def project_sight(self, caller: Caller, project_id: str) -> Sight:
        for project in self.projects:
            if project.id == project_id:
                return Sight(caller.organization_id or project.organization_id, caller.project_id)
        raise NotFound()

    async def project_in(self, sight: Sight, ref: str) -> Project:
        try:
            return self._project(sight, ref)
        except NotFound:
            raise Invalid("project", "is unknown") from None

    async def create_organization(
        self, caller: Caller, *, name: str, slug: str | None
    ) -> Organization:
        _check(caller, "organization.create")
        self.calls.append(("create_organization", name))
        return msgspec.structs.replace(self.organizations[0], name=name)

    async def list_organizations(self, caller: Caller, page: Page) -> Listing[Organization]:
        _check(caller, "organization.list")
        return _page(self.organizations, page, lambda o: o.id)

    async def organization(self, caller: Caller, sight: Sight) -> Organization:
        _check(caller, "organization.get")
        return next(o for o in self.organizations if o.id == sight.organization_id)

    async def update_organization(
        self,
        caller: Caller,
        sight: Sight,
        *,
        name: str | UnsetType = UNSET,
        slug: str | UnsetType = UNSET,
    ) -> Organization:
        _check(caller, "organization.update")
        return await self.organization(caller, sight)

    async def list_projects(self, caller: Caller, sight: Sight, page: Page) -> Listing[Project]:
        _check(caller, "project.list")
        mine = [p for p in self.projects if p.organization_id == sight.organization_id]
        if sight.project_id is not None:
            mine = [p for p in mine if p.id == sight.project_id]
        return _page(mine, page, lambda p: p.id)

    async def create_project(
        self, caller: Caller, sight: Sight, *, name: str, slug: str | None
    ) -> Project:
        _check(caller, "project.create")
        return msgspec.structs.replace(self.projects[0], name=name)

    async def project(self, caller: Caller, sight: Sight, ref: str) -> Project:
        found = self._project(sight, ref)
        _check(caller, "project.get")
        return found


class Keys:
    """Makes keys and forgets them."""

    async def create(
        self, caller: Caller, sight: Sight, *, name: str, **rest: Any
    ) -> tuple[Key, str]:
        _check(caller, "key.create")
        made = Key(
            id=KeyId("9" * 24),
            organization_id=sight.organization_id,
            project_id=None,
            name=name,
            role=rest.get("role"),
            permissions=tuple(rest.get("permissions", ())),
            scopes=rest.get("scopes"),
            token_prefix="toc_AAAAAAAA",
            expires_at=rest.get("expires_at"),
            last_used_at=None,
            request_count=0,
            created_at=NOW,
        )
        return made, "toc_token"

    async def delete(self, caller: Caller, sight: Sight, key_id: str) -> None:
        if key_id != "9" * 24:
            raise NotFound()
        _check(caller, "key.delete")


class Channels:
    """Channels in a list; rules only where a test needs one to be broken."""

    def __init__(self) -> None:
        self.states: list[ChannelState] = []
        self.settings: dict[str, dict[str, Any]] = {}
        self.drafts: list[ChannelDraft] = []
        self.types = channel_types()
        self.patches: list[ChannelPatch] = []

    def add(self, **over: Any) -> ChannelState:
        """A stored channel."""
        number = len(self.states) + 1
        channel_id = ChannelId(f"{number:024x}")
        fields: dict[str, Any] = {
            "id": channel_id,
            "organization_id": ACME,
            "project_id": SHOP,
            "type": "webhook",
            "name": f"channel {number}",
            "description": None,
            "event_types": ("*",),
            "filter": (),
            "format": Format.TOCSIN,
            "schedule": ("5s",),
            "timeout_seconds": 15.0,
            "rate_limit": None,
            "max_in_flight": None,
            "ordered": False,
            "breaker": None,
            "enabled": True,
            "disabled_reason": None,
            "sealed": b"",
            "version": 1,
            "created_at": NOW,
            "updated_at": NOW,
        }
        settings = over.pop("settings", {"url": "https://example.com/hook"})
        channel = Channel(**(fields | over))
        self.settings[channel.id] = settings
        state = ChannelState(channel=channel, tracking=Tracking())
        self.states.append(state)
        return state

    def _seen(
        self, sight: Sight, level: ProjectId | UnsetType | None, types: tuple[str, ...] | None
    ) -> builtins.list[ChannelState]:
        return [
            state
            for state in self.states
            if state.channel.organization_id == sight.organization_id
            and sight.project_id in (None, state.channel.project_id)
            and _of_level(state.channel.project_id, level)
            and (types is None or state.channel.type in types)
        ]

    async def create(
        self,
        caller: Caller,
        sight: Sight,
        draft: ChannelDraft,
        *,
        operation: str = "channel.create",
    ) -> tuple[ChannelState, str | None]:
        _check(caller, operation)
        self.drafts.append(draft)
        if not str(draft.settings.get("url", "")).startswith("http"):
            raise Invalid("settings.url", "must be an absolute http or https URL")
        state = self.add(
            name=draft.name,
            type=draft.type,
            settings=draft.settings,
            description=draft.description or None,
            event_types=("*",) if draft.event_types is UNSET else tuple(draft.event_types or ()),
            project_id=sight.project_id if draft.project is UNSET else draft.project,
            organization_id=sight.organization_id,
        )
        return state, SECRET

    async def rehearse(
        self, caller: Caller, sight: Sight, draft: ChannelDraft, *, operation: str
    ) -> None:
        _check(caller, operation)

    async def list(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        level: ProjectId | UnsetType | None = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.list",
    ) -> Listing[ChannelState]:
        _check(caller, operation)
        return _page(self._seen(sight, level, types), page, lambda s: s.channel.id)

    async def page(
        self,
        caller: Caller,
        sight: Sight,
        *,
        level: ProjectId | UnsetType | None = UNSET,
        types: tuple[str, ...] | None = None,
        sort: tuple[str, str] = ("createdAt", "desc"),
        offset: int,
        limit: int,
        operation: str = "channel.list",
    ) -> tuple[builtins.list[ChannelState], int]:
        _check(caller, operation)
        found = self._seen(sight, level, types)[::-1]
        return found[offset : offset + limit], len(found)

    async def get(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: ProjectId | UnsetType | None = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.get",
    ) -> ChannelState:
        for state in self._seen(sight, level, types):
            if state.channel.id == normalize_id(channel_id):
                _check(caller, operation)
                return state
        raise NotFound()

    async def sight_of(self, caller: Caller, channel_id: str) -> Sight:
        for state in self.states:
            if state.channel.id == channel_id.lower():
                owner = caller.organization_id or state.channel.organization_id
                return Sight(owner, caller.project_id)
        raise NotFound()

    async def update(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        change: ChannelPatch | Callable[[Channel], ChannelPatch],
        *,
        level: ProjectId | UnsetType | None = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.update",
    ) -> ChannelState:
        state = await self.get(
            caller, sight, channel_id, level=level, types=types, operation=operation
        )
        patch = change if isinstance(change, ChannelPatch) else change(state.channel)
        self.patches.append(patch)
        return state

    async def delete(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: ProjectId | UnsetType | None = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.delete",
    ) -> None:
        state = await self.get(
            caller, sight, channel_id, level=level, types=types, operation=operation
        )
        self.states.remove(state)

    def masked(self, state: ChannelState) -> tuple[dict[str, Any], dict[str, str] | None]:
        settings = dict(self.settings[state.channel.id])
        if settings.get("signing_secret"):
            settings["signing_secret"] = "••••"
        return settings, {}

    def public_key(self, state: ChannelState, settings: Mapping[str, Any]) -> str | None:
        return None

    def clear_secret(self, state: ChannelState) -> str | None:
        return SECRET


class Publisher:
    """Takes every event, unless `failure` says otherwise."""

    def __init__(self) -> None:
        self.drafts: list[EventDraft | TocsinError] = []
        self.failure: TocsinError | None = None
        self.before: Callable[[], Awaitable[None]] | None = None

    async def accept(
        self, caller: Caller, sight: Sight, drafts: Sequence[EventDraft | TocsinError]
    ) -> list[Accepted | TocsinError]:
        if self.before is not None:
            await self.before()
        self.drafts += drafts
        return [self._answer(draft) for draft in drafts]

    def _answer(self, draft: EventDraft | TocsinError) -> Accepted | TocsinError:
        if isinstance(draft, TocsinError):
            return draft
        if self.failure is not None:
            return self.failure
        return Accepted(EventId("e" * 24), draft.type, NOW, False, False, 1, None)


class Health:
    """Ready unless told otherwise."""

    is_ready = True

    def ready(self) -> bool:
        return self.is_ready


class Empty:
    """Alert rules, or issues, of which there are none."""

    async def sight_of(self, caller: Caller, id: str) -> Sight:
        raise NotFound


class Fake(SimpleNamespace):
    """The services, each reachable with its own type for tests to look at."""

    directory: Directory
    channels: Channels
    publisher: Publisher
    credentials: Credentials
    health: Health


def services(**settings: Any) -> Fake:
    """A fresh service layer; Slack is not configured."""
    channels = Channels()
    return Fake(
        directory=Directory(),
        keys=Keys(),
        channels=channels,
        alert_rules=Empty(),
        issues=Empty(),
        slack=SlackSetup(
            channels=cast(Any, channels),
            sender=cast(Any, None),
            client_id="",
            client_secret="",
            api_url="",
            wall_ms=Clock().wall_ms,
        ),
        publisher=Publisher(),
        log=None,
        credentials=Credentials(),
        sessions=Sessions(),
        settings=Settings(**settings),
        clock=Clock(),
        health=Health(),
    )


def application(fake: Fake) -> Front:
    """The edge over it."""
    return build(cast(Services, fake), fake.settings, cursor_key=b"k" * 32)


class Answer(Struct):
    """A reply; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Client:
    """Calls an ASGI application as a server would."""

    def __init__(self, app: Front, token: str | None = None, address: str = "203.0.113.9") -> None:
        self._app = app
        self._token = token
        self._address = address
        self.body_was_read = False

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = b"",
        headers: dict[str, str] | None = None,
        token: str | None = None,
    ) -> Answer:
        """One request; a body that is no bytes is sent as JSON."""
        given = {k.lower(): v for k, v in (headers or {}).items()}
        token = token or self._token
        if token is not None and "authorization" not in given:
            given["authorization"] = f"Bearer {token}"
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.encode(), v.encode("latin-1")) for k, v in given.items()],
            "client": (self._address, 1234),
            "server": ("127.0.0.1", 8400),
            "state": {},
        }
        answer = Answer(0, {}, b"")
        self.body_was_read = False

        async def receive() -> dict[str, Any]:
            self.body_was_read = True
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self._app(scope, receive, send)
        return answer

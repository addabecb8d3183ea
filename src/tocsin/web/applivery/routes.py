"""The calls of the Applivery dialect: A below an application, O below the organization."""

import re
from typing import Any, cast
from urllib.parse import urlsplit

from litestar import Router, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from tocsin.domain.applivery_events import patterns_with_flags
from tocsin.domain.errors import Forbidden, Invalid, NotFound
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import ChannelState, Format
from tocsin.service.channels import ChannelDraft
from tocsin.web import spec
from tocsin.web.applivery import bodies, views
from tocsin.web.applivery.bodies import ApplicationNotificationIn, OrganizationNotificationIn
from tocsin.web.applivery.errors import ErrorReply
from tocsin.web.applivery.views import NotificationReply, PageReply
from tocsin.web.calls import Call, require, takes_body
from tocsin.web.dialects import Dialect
from tocsin.web.query import Query

TYPES = ("slack", "webhook")
NAME_CHARS_MAX = 128
LIMIT_MAX = 100
PAGE_MAX = 999_999_999

_APPLICATION = "mad.application.notification."
_ORGANIZATION = "base.organization.notification."
_PATH_ID = re.compile(r"[a-fA-F0-9]{24}|[a-zA-Z0-9-]{3,}", re.ASCII)
_SORT = re.compile(r"([\w.]*)(?::(asc|desc))?", re.ASCII)
_SORTED_BY = ("createdAt", "updatedAt", "type", "description")

_A = "/organizations/{org:str}/apps/{app:str}/notifications"
_O = "/organizations/{org:str}/notifications"
_LISTING = spec.takes(
    spec.number("page", "which page", least=1, most=PAGE_MAX, default=1),
    spec.number("limit", "how many a page", least=1, most=LIMIT_MAX, default=LIMIT_MAX),
    spec.text("sort", "a field, then `:asc` or `:desc`"),
    spec.choice("type", "only this type", TYPES),
)


def _errors(*statuses: int) -> dict[int, ResponseSpec]:
    return spec.errors(ErrorReply, "application/json", *statuses)


_READS = _errors(400, 401, 403, 404, 429, 503)
_WRITES = _errors(400, 401, 403, 404, 409, 413, 415, 429, 503)


async def guard(connection: ASGIConnection[Any, Any, Any, Any], h: BaseRouteHandler) -> None:
    """Let a call in: credential, request rate, existence of organization and application."""
    call = cast(Call, connection)
    scope: Any = call.scope
    parts = call.path_params
    caller = call.caller = await call.edge.gate.admit(scope, Dialect.APPLIVERY)
    if not all(_PATH_ID.fullmatch(parts[name]) for name in ("org", "app") if name in parts):
        raise NotFound()
    call.sight = await call.edge.gate.sight(caller, parts["org"], parts.get("app"))
    if "app" not in parts and caller.project_id is not None:
        raise Forbidden()
    if takes_body(h):
        require(caller, h.opt["operation"])


def _clear(call: Call, organization_level: bool) -> bool:
    level = _ORGANIZATION if organization_level else _APPLICATION
    return call.caller.may(level + "update")


async def _create(call: Call, data: Any, *, organization_level: bool) -> NotificationReply:
    description = bodies.described(data.description)
    flags = bodies.given_flags(data.events)
    draft = ChannelDraft(
        name=description or "",
        type=data.type,
        settings={},
        project=None if organization_level else call.sight.project_id,
        description=description,
        event_types=list(patterns_with_flags((), flags, organization_level=organization_level)),
    )
    channels = call.services.channels
    level = _ORGANIZATION if organization_level else _APPLICATION
    try:
        state = await _made(call, data, draft, organization_level, level + "create")
    except Invalid as error:
        raise _renamed(error) from None
    clear = _clear(call, organization_level)
    return NotificationReply(data=views.notification(state, channels, clear=clear))


async def _made(
    call: Call, data: Any, draft: ChannelDraft, organization_level: bool, operation: str
) -> ChannelState:
    """The new channel, by what `setup` holds for its type."""
    caller, sight, services = call.caller, call.sight, call.services
    if data.type == "slack":
        consent = bodies.slack_consent(data.setup, organization_level=organization_level)
        return await services.slack.create(
            caller,
            sight,
            draft,
            code=consent.code,
            redirect_uri=consent.redirect_uri,
            operation=operation,
        )
    url = bodies.webhook_url(data.setup, organization_level=organization_level)
    draft = replace(
        draft,
        name=draft.name or _name("webhook", url),
        settings={"url": url},
        format=Format.APPLIVERY,
    )
    state, _ = await services.channels.create(caller, sight, draft, operation=operation)
    return state


def _name(type: str, url: str) -> str:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    return f"{type} {host}".strip()[:NAME_CHARS_MAX]


def _renamed(error: Invalid) -> Invalid:
    """The field by the name that this dialect has for it."""
    (problem,) = error.problems
    names = {
        "settings.url": "setup.webhook.url",
        "settings": "setup.webhook",
        "name": "description",
    }
    return Invalid(names.get(problem.field, problem.field), problem.message)


def _sort(query: Query) -> tuple[str, str]:
    text = query.text("sort")
    if text is None:
        return ("createdAt", "desc")
    match = _SORT.fullmatch(text)
    if match is None or match[1] not in _SORTED_BY:
        raise Invalid("sort", f"must be one of {', '.join(_SORTED_BY)}, then :asc or :desc")
    return (match[1], match[2] or "asc")


async def _list(call: Call, *, organization_level: bool) -> PageReply:
    query = call.parameters()
    page = query.integer("page", default=1, least=1, most=PAGE_MAX)
    limit = query.integer("limit", default=LIMIT_MAX, least=1, most=LIMIT_MAX)
    type = query.one_of("type", TYPES)
    channels = call.services.channels
    level = _ORGANIZATION if organization_level else _APPLICATION
    states, total = await channels.page(
        call.caller,
        call.sight,
        level=None if organization_level else call.sight.project_id,
        types=TYPES if type is None else (type,),
        sort=_sort(query),
        offset=(page - 1) * limit,
        limit=limit,
        operation=level + "list",
    )
    clear = _clear(call, organization_level)
    items = [views.notification(state, channels, clear=clear) for state in states]
    return PageReply(data=views.numbered(items, total, page=page, limit=limit))


async def _get(call: Call, id: str, *, organization_level: bool) -> NotificationReply:
    channel_id = normalize_id(id)
    if channel_id is None:
        raise NotFound()
    channels = call.services.channels
    level = _ORGANIZATION if organization_level else _APPLICATION
    state = await channels.get(
        call.caller,
        call.sight,
        channel_id,
        level=None if organization_level else call.sight.project_id,
        types=TYPES,
        operation=level + "get",
    )
    clear = _clear(call, organization_level)
    return NotificationReply(data=views.notification(state, channels, clear=clear))


@post(_A, opt={"operation": _APPLICATION + "create"}, status_code=200, responses=_WRITES)
async def create_application_notification(
    request: Call, org: FromPath[str], app: FromPath[str], data: JSONBody[ApplicationNotificationIn]
) -> NotificationReply:
    """Create a notification of an application."""
    return await _create(request, data, organization_level=False)


@get(_A, opt={"operation": _APPLICATION + "list"}, responses=_READS, operation_class=_LISTING)
async def list_application_notifications(
    request: Call, org: FromPath[str], app: FromPath[str]
) -> PageReply:
    """The notifications of an application."""
    return await _list(request, organization_level=False)


@get(_A + "/{id:str}", opt={"operation": _APPLICATION + "get"}, responses=_READS)
async def get_application_notification(
    request: Call, org: FromPath[str], app: FromPath[str], id: FromPath[str]
) -> NotificationReply:
    """One notification of an application."""
    return await _get(request, id, organization_level=False)


@post(_O, opt={"operation": _ORGANIZATION + "create"}, status_code=200, responses=_WRITES)
async def create_organization_notification(
    request: Call, org: FromPath[str], data: JSONBody[OrganizationNotificationIn]
) -> NotificationReply:
    """Create a notification of the organization."""
    return await _create(request, data, organization_level=True)


@get(_O, opt={"operation": _ORGANIZATION + "list"}, responses=_READS, operation_class=_LISTING)
async def list_organization_notifications(request: Call, org: FromPath[str]) -> PageReply:
    """The notifications of the organization itself."""
    return await _list(request, organization_level=True)


@get(_O + "/{id:str}", opt={"operation": _ORGANIZATION + "get"}, responses=_READS)
async def get_organization_notification(
    request: Call, org: FromPath[str], id: FromPath[str]
) -> NotificationReply:
    """One notification of the organization itself."""
    return await _get(request, id, organization_level=True)


ROUTER = Router(
    "/v1",
    route_handlers=[
        create_application_notification,
        list_application_notifications,
        get_application_notification,
        create_organization_notification,
        list_organization_notifications,
        get_organization_notification,
    ],
    guards=[guard],
    tags=["Applivery"],
)

STRUCTS = (
    ErrorReply,
    ApplicationNotificationIn,
    OrganizationNotificationIn,
    NotificationReply,
    PageReply,
)

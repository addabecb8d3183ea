"""The calls of the Applivery dialect: A below an application, O below the organization."""

import re
from typing import Any, cast
from urllib.parse import urlsplit

from litestar import Router, delete, get, post, put
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from msgspec.structs import replace

from tocsin.domain.applivery_events import patterns_with_flags
from tocsin.domain.errors import Forbidden, Invalid, NotFound
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Channel, ChannelState, Format, ProjectId
from tocsin.service.channels import ChannelDraft, ChannelPatch
from tocsin.web import spec
from tocsin.web.applivery import bodies, views
from tocsin.web.applivery.bodies import (
    ApplicationNotificationChangeIn,
    ApplicationNotificationIn,
    OrganizationNotificationChangeIn,
    OrganizationNotificationIn,
)
from tocsin.web.applivery.errors import AppliveryError
from tocsin.web.applivery.views import DeletedReply, NotificationReply, PageReply
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
    return spec.errors(AppliveryError, "application/json", *statuses)


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
        if "id" in parts:
            await _existing(call, h.opt["operation"])
        require(caller, h.opt["operation"])


async def _existing(call: Call, operation: str) -> ChannelState:
    """The channel of the path; raises NotFound, then Forbidden."""
    channel_id = normalize_id(call.path_params["id"])
    if channel_id is None:
        raise NotFound()
    return await call.services.channels.get(
        call.caller,
        call.sight,
        channel_id,
        level=_level(call),
        types=TYPES,
        operation=operation,
    )


def _whole(call: Call) -> bool:
    """Whether it is a call at the level of the organization."""
    return "app" not in call.path_params


def _level(call: Call) -> ProjectId | None:
    return None if _whole(call) else call.sight.project_id


def _operation(call: Call, verb: str) -> str:
    return (_ORGANIZATION if _whole(call) else _APPLICATION) + verb


def _shown(call: Call, state: ChannelState) -> NotificationReply:
    clear = call.caller.may(_operation(call, "update"))
    return NotificationReply(data=views.notification(state, call.services.channels, clear=clear))


async def _create(call: Call, data: Any) -> NotificationReply:
    whole = _whole(call)
    description = bodies.described(data.description)
    flags = bodies.given_flags(data.events)
    draft = ChannelDraft(
        name=description or "",
        type=data.type,
        settings={},
        project=None if whole else call.sight.project_id,
        description=description,
        event_types=list(patterns_with_flags((), flags, organization_level=whole)),
    )
    try:
        state = await _made(call, data, draft)
    except Invalid as error:
        raise _renamed(error) from None
    return _shown(call, state)


async def _made(call: Call, data: Any, draft: ChannelDraft) -> ChannelState:
    """The new channel, by what `setup` holds for its type."""
    caller, sight, services = call.caller, call.sight, call.services
    operation = _operation(call, "create")
    if data.type == "slack":
        consent = bodies.slack_consent(data.setup, organization_level=_whole(call))
        return await services.slack.create(
            caller,
            sight,
            draft,
            code=consent.code,
            redirect_uri=consent.redirect_uri,
            operation=operation,
        )
    url = bodies.webhook_url(data.setup, organization_level=_whole(call))
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
        "event_types": "events",
    }
    return Invalid(names.get(problem.field, problem.field), problem.message)


async def _update(call: Call, data: Any) -> NotificationReply:
    try:
        state = await call.services.channels.update(
            call.caller,
            call.sight,
            call.path_params["id"],
            lambda today: _change(data, today),
            level=_level(call),
            types=TYPES,
            operation=_operation(call, "update"),
        )
    except Invalid as error:
        raise _renamed(error) from None
    return _shown(call, state)


def _change(data: Any, today: Channel) -> ChannelPatch:
    """What a PUT means for a channel as it is: what was not said stays as it is."""
    whole = today.project_id is None
    patch = ChannelPatch()
    if data.description is not None:
        patch.description = bodies.described(data.description)
    flags = bodies.given_flags(data.events)
    if flags:
        patterns = patterns_with_flags(today.event_types, flags, organization_level=whole)
        patch.event_types = list(patterns)
    if today.type == "webhook" and data.setup is not None and data.setup.webhook is not None:
        patch.settings = {"url": bodies.webhook_url(data.setup, organization_level=whole)}
        if today.disabled_reason is not None:  # by Tocsin: what a person disabled stays so
            patch.enabled = True
    return patch


def _sort(query: Query) -> tuple[str, str]:
    text = query.text("sort")
    if text is None:
        return ("createdAt", "desc")
    match = _SORT.fullmatch(text)
    if match is None or match[1] not in _SORTED_BY:
        raise Invalid("sort", f"must be one of {', '.join(_SORTED_BY)}, then :asc or :desc")
    return (match[1], match[2] or "asc")


async def _list(call: Call) -> PageReply:
    query = call.parameters()
    page = query.integer("page", default=1, least=1, most=PAGE_MAX)
    limit = query.integer("limit", default=LIMIT_MAX, least=1, most=LIMIT_MAX)
    type = query.one_of("type", TYPES)
    states, total = await call.services.channels.page(
        call.caller,
        call.sight,
        level=_level(call),
        types=TYPES if type is None else (type,),
        sort=_sort(query),
        offset=(page - 1) * limit,
        limit=limit,
        operation=_operation(call, "list"),
    )
    items = [_shown(call, state).data for state in states]
    return PageReply(data=views.numbered(items, total, page=page, limit=limit))


async def _get(call: Call) -> NotificationReply:
    return _shown(call, await _existing(call, _operation(call, "get")))


async def _delete(call: Call) -> DeletedReply:
    await call.services.channels.delete(
        call.caller,
        call.sight,
        call.path_params["id"],
        level=_level(call),
        types=TYPES,
        operation=_operation(call, "remove"),
    )
    return DeletedReply()


@post(_A, opt={"operation": _APPLICATION + "create"}, status_code=200, responses=_WRITES)
async def create_application_notification(
    request: Call, org: FromPath[str], app: FromPath[str], data: JSONBody[ApplicationNotificationIn]
) -> NotificationReply:
    """Create a notification of an application."""
    return await _create(request, data)


@get(_A, opt={"operation": _APPLICATION + "list"}, responses=_READS, operation_class=_LISTING)
async def list_application_notifications(
    request: Call, org: FromPath[str], app: FromPath[str]
) -> PageReply:
    """The notifications of an application."""
    return await _list(request)


@get(_A + "/{id:str}", opt={"operation": _APPLICATION + "get"}, responses=_READS)
async def get_application_notification(
    request: Call, org: FromPath[str], app: FromPath[str], id: FromPath[str]
) -> NotificationReply:
    """One notification of an application."""
    return await _get(request)


@put(_A + "/{id:str}", opt={"operation": _APPLICATION + "update"}, responses=_WRITES)
async def update_application_notification(
    request: Call,
    org: FromPath[str],
    app: FromPath[str],
    id: FromPath[str],
    data: JSONBody[ApplicationNotificationChangeIn],
) -> NotificationReply:
    """Change a notification of an application; what is left out stays as it is."""
    return await _update(request, data)


@delete(
    _A + "/{id:str}", opt={"operation": _APPLICATION + "remove"}, status_code=200, responses=_READS
)
async def delete_application_notification(
    request: Call, org: FromPath[str], app: FromPath[str], id: FromPath[str]
) -> DeletedReply:
    """Delete a notification of an application; what waits for it is cancelled."""
    return await _delete(request)


@post(_O, opt={"operation": _ORGANIZATION + "create"}, status_code=200, responses=_WRITES)
async def create_organization_notification(
    request: Call, org: FromPath[str], data: JSONBody[OrganizationNotificationIn]
) -> NotificationReply:
    """Create a notification of the organization."""
    return await _create(request, data)


@get(_O, opt={"operation": _ORGANIZATION + "list"}, responses=_READS, operation_class=_LISTING)
async def list_organization_notifications(request: Call, org: FromPath[str]) -> PageReply:
    """The notifications of the organization itself."""
    return await _list(request)


@get(_O + "/{id:str}", opt={"operation": _ORGANIZATION + "get"}, responses=_READS)
async def get_organization_notification(
    request: Call, org: FromPath[str], id: FromPath[str]
) -> NotificationReply:
    """One notification of the organization itself."""
    return await _get(request)


@put(_O + "/{id:str}", opt={"operation": _ORGANIZATION + "update"}, responses=_WRITES)
async def update_organization_notification(
    request: Call,
    org: FromPath[str],
    id: FromPath[str],
    data: JSONBody[OrganizationNotificationChangeIn],
) -> NotificationReply:
    """Change a notification of the organization itself; what is left out stays as it is."""
    return await _update(request, data)


@delete(
    _O + "/{id:str}", opt={"operation": _ORGANIZATION + "remove"}, status_code=200, responses=_READS
)
async def delete_organization_notification(
    request: Call, org: FromPath[str], id: FromPath[str]
) -> DeletedReply:
    """Delete a notification of the organization itself; what waits for it is cancelled."""
    return await _delete(request)


ROUTER = Router(
    "/v1",
    route_handlers=[
        create_application_notification,
        list_application_notifications,
        get_application_notification,
        update_application_notification,
        delete_application_notification,
        create_organization_notification,
        list_organization_notifications,
        get_organization_notification,
        update_organization_notification,
        delete_organization_notification,
    ],
    guards=[guard],
    tags=["Applivery"],
)

STRUCTS = (
    AppliveryError,
    ApplicationNotificationIn,
    OrganizationNotificationIn,
    ApplicationNotificationChangeIn,
    OrganizationNotificationChangeIn,
    NotificationReply,
    DeletedReply,
    PageReply,
)

"""The calls of the hookstream dialect: notification channels."""

from typing import Any, cast

from litestar import Router, get, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.channels import channel_types
from tocsin.domain.errors import Invalid, NotFound
from tocsin.domain.ids import normalize_id, strip_prefix
from tocsin.domain.model import ChannelState, Format, ProjectId
from tocsin.domain.text import iso
from tocsin.service.channels import ChannelDraft, Channels
from tocsin.service.sight import Page, Sight
from tocsin.web import spec
from tocsin.web.calls import Call, require, takes_body
from tocsin.web.dialects import Dialect
from tocsin.web.hookstream.config import config_text, renamed, settings_of
from tocsin.web.hookstream.environment import (
    environment,
    named_environment,
    organization_sight,
)
from tocsin.web.hookstream.errors import HookstreamError

LIMIT_DEFAULT = 20
LIMIT_MAX = 100

_PATH = "/notification-channels"


class NotificationChannelIn(Struct):
    """A new channel; other keys are ignored."""

    name: str
    channel_type: str
    config: dict[str, Any]
    event_types: list[str] | None = None
    env_id: str | None = None
    org_id: str | None = None


class NotificationChannelOut(Struct):
    """A channel; `config` is JSON text, `enabled` 0 or 1."""

    id: str
    org_id: str
    env_id: str
    name: str
    channel_type: str
    config: str
    enabled: int
    last_sent_at: str | None
    error_count: int
    last_error: str | None
    created_at: str
    updated_at: str
    type: str
    event_types: list[str]


class ChannelReply(Struct):
    """One channel."""

    channel: NotificationChannelOut


class ChannelsReply(Struct):
    """A page of channels, newest first."""

    channels: list[NotificationChannelOut]
    cursor: str | None
    has_more: bool


def _errors(*statuses: int) -> dict[int, ResponseSpec]:
    return spec.errors(HookstreamError, "application/json", *statuses)


_READS = _errors(400, 401, 403, 404, 429, 503)
_WRITES = _errors(400, 401, 403, 404, 409, 413, 415, 429, 503)
_PLACE = (
    spec.text("env_id", "the environment"),
    spec.text("org_id", "the organization, for the operator"),
)


async def guard(connection: ASGIConnection[Any, Any, Any, Any], h: BaseRouteHandler) -> None:
    """Let a call in: credential and request rate; permission before a body."""
    call = cast(Call, connection)
    scope: Any = call.scope
    call.caller = await call.edge.gate.admit(scope, Dialect.HOOKSTREAM)
    if takes_body(h):
        require(call.caller, h.opt["operation"])


def _shown(state: ChannelState, channels: Channels) -> NotificationChannelOut:
    channel, tracking = state.channel, state.tracking
    settings, _ = channels.masked(state)
    sent = tracking.last_sent_at
    return NotificationChannelOut(
        id=channel.id,
        org_id=channel.organization_id,
        env_id=channel.project_id or "",
        name=channel.name,
        channel_type=channel.type,
        config=config_text(channel.type, settings),
        enabled=int(channel.enabled),
        last_sent_at=None if sent is None else iso(sent),
        error_count=tracking.error_count,
        last_error=tracking.last_error,
        created_at=iso(channel.created_at),
        updated_at=iso(channel.updated_at),
        type=channel.type,
        event_types=list(channel.event_types),
    )


@post(_PATH, opt={"operation": "channel.create"}, responses=_WRITES)
async def create_channel(request: Call, data: JSONBody[NotificationChannelIn]) -> ChannelReply:
    """Create a channel."""
    known = channel_types()
    kind = known.get(data.channel_type)
    if kind is None:
        raise Invalid("channel_type", f"must be one of {', '.join(known)}")
    sight = await organization_sight(request, data.org_id)
    env_id = await environment(request, sight, data.env_id)
    draft = ChannelDraft(
        name=data.name,
        type=data.channel_type,
        settings=settings_of(data.channel_type, data.config),
        project=env_id,
        event_types=UNSET if data.event_types is None else data.event_types,
        format=Format.HOOKSTREAM if kind.has_format else UNSET,
    )
    channels = request.services.channels
    try:
        state, _ = await channels.create(request.caller, sight, draft)
    except Invalid as error:
        raise renamed(error, data.channel_type, data.config) from None
    return ChannelReply(_shown(state, channels))


@get(
    _PATH,
    opt={"operation": "channel.list"},
    responses=_READS,
    operation_class=spec.takes(
        spec.number("limit", "how many", least=1, most=LIMIT_MAX, default=LIMIT_DEFAULT),
        spec.text("cursor", "`cursor` of the page before"),
        *_PLACE,
    ),
)
async def list_channels(request: Call) -> ChannelsReply:
    """The channels of an environment, or of all in sight."""
    query = request.parameters()
    sight = await organization_sight(request, query.text("org_id"))
    env_id = await named_environment(request, sight, query.text("env_id"))
    limit = query.integer("limit", default=LIMIT_DEFAULT, least=1, most=LIMIT_MAX)
    cursor = query.text("cursor")
    place = {"list": "hookstream channels", "organization": sight.organization_id}
    cursors = request.edge.cursors
    below = None if cursor is None else cursors.read(cursor, **place)
    states = await _collect(request, sight, env_id, wanted=limit + 1, below=below)
    more = len(states) > limit
    states = states[:limit]
    channels = request.services.channels
    return ChannelsReply(
        [_shown(state, channels) for state in states],
        cursors.make(states[-1].channel.id if more else None, **place),
        more,
    )


async def _collect(
    call: Call, sight: Sight, env_id: ProjectId | None, *, wanted: int, below: str | None
) -> list[ChannelState]:
    """Channels of environments: those of the whole organization do not exist here."""
    level: ProjectId | UnsetType = UNSET if env_id is None else env_id
    found: list[ChannelState] = []
    while True:
        page = Page(limit=wanted, below=below)
        listing = await call.services.channels.list(call.caller, sight, page, level=level)
        found += [state for state in listing.items if state.channel.project_id is not None]
        below = listing.next
        if below is None or len(found) >= wanted:
            return found[:wanted]


@get(_PATH + "/{id:str}", opt={"operation": "channel.get"}, responses=_READS)
async def get_channel(request: Call, id: FromPath[str]) -> ChannelReply:
    """One channel."""
    channel_id = normalize_id(strip_prefix(id))
    if channel_id is None:
        raise NotFound()
    channels = request.services.channels
    _, state = await channels.find(request.caller, channel_id)
    if state.channel.project_id is None:
        raise NotFound()
    return ChannelReply(_shown(state, channels))


ROUTER = Router(
    "/v1",
    route_handlers=[create_channel, list_channels, get_channel],
    guards=[guard],
    tags=["hookstream"],
)

STRUCTS = (HookstreamError, NotificationChannelIn, ChannelReply, ChannelsReply)

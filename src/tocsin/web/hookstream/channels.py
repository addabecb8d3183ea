"""Notification channels: the channels of environments, those of an organization do not exist."""

from typing import Any, Literal

from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.channels import AnyChannelType
from tocsin.domain.errors import Invalid
from tocsin.domain.ids import strip_prefix
from tocsin.domain.model import Channel, ChannelState, Format
from tocsin.domain.text import iso
from tocsin.service.channels import PROJECTS, ChannelDraft, ChannelPatch, Channels
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.hookstream.config import config_text, renamed, replacing, settings_of
from tocsin.web.hookstream.listing import PAGING, cursor_of, page_of
from tocsin.web.hookstream.place import (
    ENVIRONMENT,
    ORGANIZATION,
    environment,
    named_environment,
    organization_sight,
)
from tocsin.web.hookstream.replies import READS, WRITES, SuccessReply

PATH = "/notification-channels"


class NotificationChannelIn(Struct):
    """A new channel; other keys are ignored."""

    name: str
    channel_type: str
    config: dict[str, Any]
    event_types: list[str] | None = None
    env_id: str | None = None
    org_id: str | None = None


class NotificationChannelChangeIn(Struct):
    """Changes of a channel: what is left out stays, other keys are ignored."""

    name: str | UnsetType = UNSET
    config: dict[str, Any] | UnsetType = UNSET
    enabled: bool | Literal[0, 1] | UnsetType = UNSET
    event_types: list[str] | UnsetType | None = UNSET
    channel_type: str | UnsetType = UNSET


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


class ChannelTestReply(Struct):
    """How a test went; a failed one says why."""

    success: bool
    error: str | None


async def existing(call: Call, operation: str) -> None:
    """Raise NotFound, then Forbidden, for the channel that a call with a body is about."""
    id = strip_prefix(call.path_params["id"])
    call.sight = await call.services.channels.sight_of(call.caller, id)
    await call.services.channels.get(
        call.caller, call.sight, id, level=PROJECTS, operation=operation
    )


async def _place(call: Call, id: str) -> tuple[Sight, str]:
    """Where a call that names only a channel looks for it."""
    id = strip_prefix(id)
    return await call.services.channels.sight_of(call.caller, id), id


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


@post(
    PATH,
    opt={"operation": "channel.create"},
    responses=WRITES,
    operation_class=spec.takes(ENVIRONMENT, ORGANIZATION),
)
async def create_channel(request: Call, data: JSONBody[NotificationChannelIn]) -> ChannelReply:
    """Create a channel."""
    channels = request.services.channels
    known = channels.types
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
    try:
        state, _ = await channels.create(request.caller, sight, draft)
    except Invalid as error:
        raise renamed(error, data.channel_type, data.config) from None
    return ChannelReply(_shown(state, channels))


@get(
    PATH,
    opt={"operation": "channel.list"},
    responses=READS,
    operation_class=spec.takes(*PAGING, ENVIRONMENT, ORGANIZATION),
)
async def list_channels(request: Call) -> ChannelsReply:
    """The channels of an environment, or of all in sight."""
    sight = await organization_sight(request)
    env_id = await named_environment(request, sight)
    channels = request.services.channels
    listing = await channels.list(
        request.caller,
        sight,
        page_of(request, sight, "channels"),
        level=PROJECTS if env_id is None else env_id,
    )
    cursor = cursor_of(request, sight, "channels", listing)
    shown = [_shown(state, channels) for state in listing.items]
    return ChannelsReply(shown, cursor, cursor is not None)


@get(PATH + "/{id:str}", opt={"operation": "channel.get"}, responses=READS)
async def get_channel(request: Call, id: FromPath[str]) -> ChannelReply:
    """One channel."""
    channels = request.services.channels
    sight, id = await _place(request, id)
    return ChannelReply(
        _shown(await channels.get(request.caller, sight, id, level=PROJECTS), channels)
    )


@patch(
    PATH + "/{id:str}",
    opt={"operation": "channel.update", "existing": existing},
    responses=WRITES,
)
async def update_channel(
    request: Call, id: FromPath[str], data: JSONBody[NotificationChannelChangeIn]
) -> ChannelReply:
    """Change a channel; `config` replaces the whole of it, but for a masked value."""
    channels = request.services.channels
    type = ""

    def change(today: Channel) -> ChannelPatch:
        nonlocal type
        type = today.type
        return _change(data, today, channels.types.get(type))

    try:
        state = await channels.update(
            request.caller, request.sight, strip_prefix(id), change, level=PROJECTS
        )
    except Invalid as error:
        config = {} if data.config is UNSET else data.config
        raise renamed(error, type, config) from None
    return ChannelReply(_shown(state, channels))


def _change(
    data: NotificationChannelChangeIn, today: Channel, kind: AnyChannelType | None
) -> ChannelPatch:
    """What a PATCH means for a channel as it is."""
    if data.channel_type not in (UNSET, today.type):
        raise Invalid("channel_type", "can't be changed")
    settings: dict[str, Any] | UnsetType = UNSET
    if data.config is not UNSET:
        known = () if kind is None else kind.settings_type.__struct_fields__
        settings = replacing(today.type, data.config, known)
    return ChannelPatch(
        name=data.name,
        settings=settings,
        enabled=UNSET if data.enabled is UNSET else bool(data.enabled),
        event_types=data.event_types,
    )


@delete(PATH + "/{id:str}", opt={"operation": "channel.delete"}, status_code=200, responses=READS)
async def delete_channel(request: Call, id: FromPath[str]) -> SuccessReply:
    """Delete a channel; what waits for it ends as cancelled."""
    sight, id = await _place(request, id)
    await request.services.channels.delete(request.caller, sight, id, level=PROJECTS)
    return SuccessReply()


@post(PATH + "/{id:str}/test", opt={"operation": "channel.test"}, status_code=200, responses=READS)
async def test_channel(request: Call, id: FromPath[str]) -> ChannelTestReply:
    """Make one attempt now, whatever the channel's state; a failed one is answered with 200."""
    sight, id = await _place(request, id)
    success, attempt = await request.services.channels.test(
        request.caller, sight, id, level=PROJECTS
    )
    return ChannelTestReply(success, None if success else attempt.error)


HANDLERS = (
    create_channel,
    list_channels,
    get_channel,
    update_channel,
    delete_channel,
    test_channel,
)

STRUCTS = (
    NotificationChannelIn,
    NotificationChannelChangeIn,
    ChannelReply,
    ChannelsReply,
    ChannelTestReply,
)

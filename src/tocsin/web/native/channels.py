"""Channels: the configured targets of an organization or project."""

from typing import Any, Literal

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.service.channels import OVERLAP_SECONDS, ChannelDraft, ChannelPatch
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.views import (
    ChannelOut,
    ChannelTypeOut,
    ChannelTypesOut,
    ListOut,
    SecretOut,
    TestOut,
)


class ChannelIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """A new channel; `settings` are the type's own, see the channel types."""

    name: str
    type: str
    settings: dict[str, Any]
    project: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    event_types: list[str] | UnsetType | None = UNSET
    filter: list[dict[str, Any]] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    retry: dict[str, Any] | UnsetType | None = UNSET
    timeout_seconds: float | UnsetType | None = UNSET
    rate_limit: dict[str, Any] | UnsetType | None = UNSET
    max_in_flight: int | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    breaker: dict[str, Any] | UnsetType | None = UNSET


class ChannelChangeIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """Changes of a channel: what is left out stays, null is the default.

    `settings`, `headers` and `breaker` merge by member. `backlog` goes with `enabled` true.
    """

    name: str | UnsetType = UNSET
    settings: dict[str, Any] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    event_types: list[str] | UnsetType | None = UNSET
    filter: list[dict[str, Any]] | UnsetType | None = UNSET
    enabled: bool | UnsetType | None = UNSET
    headers: dict[str, str | None] | UnsetType | None = UNSET
    format: str | UnsetType | None = UNSET
    retry: dict[str, Any] | UnsetType | None = UNSET
    timeout_seconds: float | UnsetType | None = UNSET
    rate_limit: dict[str, Any] | UnsetType | None = UNSET
    max_in_flight: int | UnsetType | None = UNSET
    ordered: bool | UnsetType | None = UNSET
    breaker: dict[str, Any] | UnsetType | None = UNSET
    backlog: Literal["cancel"] | UnsetType = UNSET


@post(
    "/organizations/{org:str}/channels",
    opt={"operation": "channel.create"},
    responses=problems(*WRITES),
)
async def create_channel(
    request: Call, org: FromPath[str], data: JSONBody[ChannelIn]
) -> ChannelOut:
    """Create a channel; the reply shows a new webhook's signing secret."""
    channels = request.services.channels
    draft = ChannelDraft(**msgspec.structs.asdict(data))
    state, secret = await channels.create(request.caller, request.sight, draft)
    return views.channel(state, channels, secret)


@get(
    "/organizations/{org:str}/channels",
    opt={"operation": "channel.list"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_channels(request: Call, org: FromPath[str]) -> ListOut[ChannelOut]:
    """The organization's channels in sight."""
    channels = request.services.channels
    place = {"list": "channels", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await channels.list(request.caller, request.sight, page)
    return answer(request, listing, lambda state: views.channel(state, channels), **place)


@get(
    "/organizations/{org:str}/channels/{id:str}",
    opt={"operation": "channel.get"},
    responses=problems(*READS),
)
async def get_channel(request: Call, org: FromPath[str], id: FromPath[str]) -> ChannelOut:
    """One channel."""
    channels = request.services.channels
    return views.channel(await channels.get(request.caller, request.sight, id), channels)


@patch(
    "/organizations/{org:str}/channels/{id:str}",
    opt={"operation": "channel.update", "target": "channel"},
    responses=problems(*WRITES),
)
async def update_channel(
    request: Call, org: FromPath[str], id: FromPath[str], data: JSONBody[ChannelChangeIn]
) -> ChannelOut:
    """Change a channel; after the reply nothing is sent with the old settings."""
    channels = request.services.channels
    change = ChannelPatch(**msgspec.structs.asdict(data))
    return views.channel(await channels.update(request.caller, request.sight, id, change), channels)


@delete(
    "/organizations/{org:str}/channels/{id:str}",
    opt={"operation": "channel.delete"},
    responses=problems(*READS),
)
async def delete_channel(request: Call, org: FromPath[str], id: FromPath[str]) -> None:
    """Delete a channel; what waits for it ends as cancelled."""
    await request.services.channels.delete(request.caller, request.sight, id)


@get(
    "/organizations/{org:str}/channels/{id:str}/secret",
    opt={"operation": "channel.secret"},
    responses=problems(*READS, 409),
)
async def get_secret(request: Call, org: FromPath[str], id: FromPath[str]) -> SecretOut:
    """The signing secret of a webhook."""
    keys = await request.services.channels.secret(request.caller, request.sight, id)
    return views.signing_keys(keys)


class RotationIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """How long the old secret goes on signing beside the new one; at most 7 days."""

    overlap_seconds: int = OVERLAP_SECONDS


@post(
    "/organizations/{org:str}/channels/{id:str}/rotate-secret",
    opt={"operation": "channel.update", "target": "channel"},
    status_code=200,
    responses=problems(*WRITES),
)
async def rotate_secret(
    request: Call, org: FromPath[str], id: FromPath[str], data: JSONBody[RotationIn]
) -> SecretOut:
    """Make a new signing secret; the old one signs beside it for a while."""
    keys = await request.services.channels.rotate_secret(
        request.caller, request.sight, id, overlap_seconds=data.overlap_seconds
    )
    return views.signing_keys(keys)


@post(
    "/organizations/{org:str}/channels/{id:str}/test",
    opt={"operation": "channel.test"},
    status_code=200,
    responses=problems(*READS),
)
async def test_channel(request: Call, org: FromPath[str], id: FromPath[str]) -> TestOut:
    """Make one attempt now, whatever the channel's state."""
    success, attempt = await request.services.channels.test(request.caller, request.sight, id)
    return TestOut(success, views.attempt(attempt))


@get("/channel-types", responses=problems(401, 429))
async def list_channel_types(request: Call) -> ChannelTypesOut:
    """What channels can be made of here; any valid credential may ask."""
    return ChannelTypesOut(
        [
            ChannelTypeOut(
                name=one.name,
                title=one.title,
                schema=one.schema(),
                secret_fields=sorted(one.secret_fields),
                docs_url=one.docs_url,
                available=one.available,
                install=one.install,
            )
            for one in request.services.channels.types.values()
        ]
    )


HANDLERS = (
    create_channel,
    list_channels,
    get_channel,
    update_channel,
    delete_channel,
    get_secret,
    rotate_secret,
    test_channel,
    list_channel_types,
)

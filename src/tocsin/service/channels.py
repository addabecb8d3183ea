"""Channels: create, read, change, delete, test. The rules of each field are in channel_rules.py."""

import builtins
from typing import Any

from msgspec import UNSET, UnsetType

from tocsin.domain.model import Attempt, ChannelState, ProjectId
from tocsin.domain.permissions import Caller
from tocsin.service.drafts import ChannelDraft as ChannelDraft
from tocsin.service.drafts import ChannelPatch as ChannelPatch
from tocsin.service.sight import Listing, Page, Sight


class Channels:
    async def create(
        self,
        caller: Caller,
        sight: Sight,
        draft: ChannelDraft,
        *,
        operation: str = "channel.create",
    ) -> tuple[ChannelState, str | None]:
        raise NotImplementedError

    async def list(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        level: ProjectId | None | UnsetType = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.list",
    ) -> Listing[ChannelState]:
        raise NotImplementedError

    async def page(
        self,
        caller: Caller,
        sight: Sight,
        *,
        level: ProjectId | None | UnsetType = UNSET,
        types: tuple[str, ...] | None = None,
        sort: tuple[str, str] = ("createdAt", "desc"),
        offset: int,
        limit: int,
        operation: str = "channel.list",
    ) -> tuple[builtins.list[ChannelState], int]:
        raise NotImplementedError

    async def get(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: ProjectId | None | UnsetType = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.get",
    ) -> ChannelState:
        raise NotImplementedError

    async def find(self, caller: Caller, channel_id: str) -> tuple[Sight, ChannelState]:
        raise NotImplementedError

    async def update(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        patch: ChannelPatch,
        *,
        level: ProjectId | None | UnsetType = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.update",
    ) -> ChannelState:
        raise NotImplementedError

    async def delete(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: ProjectId | None | UnsetType = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.delete",
    ) -> None:
        raise NotImplementedError

    async def secret(self, caller: Caller, sight: Sight, channel_id: str) -> str:
        raise NotImplementedError

    async def rotate_secret(
        self, caller: Caller, sight: Sight, channel_id: str, *, overlap_seconds: int = 86_400
    ) -> str:
        raise NotImplementedError

    def masked(self, state: ChannelState) -> tuple[dict[str, Any], dict[str, str] | None]:
        raise NotImplementedError

    def clear_secret(self, state: ChannelState) -> str | None:
        raise NotImplementedError

    async def test(
        self, caller: Caller, sight: Sight, channel_id: str
    ) -> tuple[bool, Attempt]:
        raise NotImplementedError

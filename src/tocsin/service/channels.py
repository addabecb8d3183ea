"""Channels: create, read, change, delete, test. The rules of each member are in channel_rules.py,
how a change is made in channel_changes.py, what is secret is in vault.py."""

import builtins
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from tocsin.channels import AnyChannelType
from tocsin.crypto.sealing import UnsealFailed
from tocsin.domain.errors import Invalid, NotFound, QuotaExceeded
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import (
    DEFAULT_SCHEDULE,
    Attempt,
    Channel,
    ChannelId,
    ChannelState,
    Format,
    ProjectId,
    Secrets,
    Tracking,
)
from tocsin.domain.permissions import Caller
from tocsin.service import channel_rules as rules
from tocsin.service.changes import Changes, Made, Target, forbid_bound, listing, permit
from tocsin.service.channel_changes import ROWS_AT_ONCE, Change, ChannelChanges, Level
from tocsin.service.directory import Directory
from tocsin.service.drafts import ChannelDraft, ChannelPatch
from tocsin.service.ports import Dispatch
from tocsin.service.sight import Listing, Page, Sight
from tocsin.service.testing import Tester
from tocsin.service.vault import SigningKeys, Vault
from tocsin.service.vetting import Vet, vetted
from tocsin.storage.control import Connection, alert_rules, channels, jobs, lanes, projects, work
from tocsin.storage.control.channels import PROJECTS

__all__ = ["PROJECTS", "ChannelDraft", "ChannelPatch", "Channels", "SigningKeys"]

CHANNELS_MAX = 1_000
OVERLAP_SECONDS = 86_400


class Channels:
    """The channels of one organization, in whatever dialect they are spoken of."""

    def __init__(
        self,
        *,
        changes: Changes,
        directory: Directory,
        vault: Vault,
        vet: Vet,
        dispatch: Dispatch,
        tester: Tester,
        channels_max: int = CHANNELS_MAX,
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._directory = directory
        self._vault = vault
        self._vet = vet
        self._tester = tester
        self._channels_max = channels_max
        self._channel_changes = ChannelChanges(
            changes=changes, vault=vault, vet=vet, dispatch=dispatch, get=self.get
        )

    @property
    def types(self) -> Mapping[str, AnyChannelType]:
        """The channel types by name, as this server has them."""
        return self._vault.types

    # Reads

    async def list(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        level: Level = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.list",
    ) -> Listing[ChannelState]:
        """Newest first. `level` is one project, all of them (`PROJECTS`), the organization itself
        (None), or all in sight."""
        permit(caller, operation)
        return listing(
            await self._store.read(
                lambda c: channels.walk(
                    c, sight, level=level, types=types, limit=page.limit, below=page.below
                )
            )
        )

    async def page(
        self,
        caller: Caller,
        sight: Sight,
        *,
        level: Level = UNSET,
        types: tuple[str, ...] | None = None,
        sort: tuple[str, str] = ("createdAt", "desc"),
        offset: int,
        limit: int,
        operation: str = "channel.list",
    ) -> tuple[builtins.list[ChannelState], int]:
        """A numbered page and how many there are on all; `sort` is a name of
        `storage.control.channels.SORTS` and asc or desc."""
        permit(caller, operation)
        name, direction = sort
        if name not in channels.SORTS or direction not in ("asc", "desc"):
            raise Invalid("sort", f"must be one of {', '.join(channels.SORTS)}, and :asc or :desc")
        return await self._store.read(
            lambda c: channels.page(
                c,
                sight,
                level=level,
                types=types,
                sort=name,
                descending=direction == "desc",
                offset=offset,
                limit=limit,
            )
        )

    async def get(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: Level = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.get",
    ) -> ChannelState:
        """A channel of that level and one of those types; raises NotFound, then Forbidden."""
        forbid_bound(caller, operation)
        wanted = normalize_id(channel_id)
        if wanted is None:
            raise NotFound
        found = await self._store.read(
            lambda c: channels.get(c, sight, wanted, level=level, types=types)
        )
        permit(caller, operation)
        return found

    async def sight_of(self, caller: Caller, channel_id: str) -> Sight:
        """What a call may see that names nothing but this channel; raises NotFound."""
        wanted = normalize_id(channel_id)
        if wanted is None:
            raise NotFound
        return await self._directory.sight_by_id(
            caller, lambda c: channels.organization_of(c, wanted)
        )

    def masked(self, state: ChannelState) -> tuple[dict[str, Any], dict[str, str] | None]:
        """Settings and headers as anyone may read them; headers None where the type has none."""
        return self._vault.masked(state.channel)

    def clear_secret(self, state: ChannelState) -> str | None:
        """The signing secret in clear, for a dialect that shows it to those who may update."""
        try:
            return self._vault.open(state.channel).secret
        except UnsealFailed:
            return None

    def public_key(self, state: ChannelState, settings: Mapping[str, Any]) -> str | None:
        """What verifies `v1a`, where the settings, as `masked` gives them, ask for it."""
        return self._vault.public_key(state.channel, settings)

    async def secret(self, caller: Caller, sight: Sight, channel_id: str) -> SigningKeys:
        """The signing secret in clear; NotFound for a type that does not sign."""
        state = await self.get(caller, sight, channel_id, operation="channel.secret")
        return self._vault.signing(state.channel)

    # Changes

    async def create(
        self,
        caller: Caller,
        sight: Sight,
        draft: ChannelDraft,
        *,
        operation: str = "channel.create",
    ) -> tuple[ChannelState, str | None]:
        """Make a channel and its lane; the second is its signing secret, if its type signs.

        Raises Invalid naming the member, QuotaExceeded at the limit.
        """
        channel = await self._drafted(caller, sight, draft, operation)
        project_id = channel.project_id
        merged = self._vault.merge(self._vault.type(draft.type), Secrets(settings={}), draft)
        if merged.url is not None:
            await vetted(self._vet, merged.url, sight.organization_id)
        channel = replace(channel, sealed=self._vault.seal(channel, merged.secrets))

        def store(connection: Connection) -> Made[None]:
            if channels.count(connection, sight) >= self._channels_max:
                raise self._full()
            if project_id is not None and not projects.find(connection, sight, id=project_id):
                raise Invalid("project", "is unknown")
            self._vault.sealing(connection)
            channels.create(connection, sight, channel)
            lanes.create(
                connection, sight, channel.id, version=channel.version, enabled=channel.enabled
            )
            lanes.describe(connection, sight, channel)
            names = {"name": channel.name, "type": channel.type, "project_id": project_id}
            return Made(None, names)

        target = Target("channel", channel.id)
        await self._changes.make(caller, sight, operation, target, store)
        return ChannelState(channel=channel, tracking=Tracking()), merged.secrets.secret

    async def rehearse(
        self, caller: Caller, sight: Sight, draft: ChannelDraft, *, operation: str
    ) -> None:
        """Raise what `create` would, as far as that can be told without settings and target."""
        await self._drafted(caller, sight, draft, operation)
        count = await self._store.read(lambda c: channels.count(c, sight))
        if count >= self._channels_max:
            raise self._full()

    async def _drafted(
        self, caller: Caller, sight: Sight, draft: ChannelDraft, operation: str
    ) -> Channel:
        """The new channel without its secrets; checks right, type, project and plain members."""
        permit(caller, operation)
        type = self._vault.type(draft.type)
        if not type.available:
            raise Invalid("type", f"can't be used here. {type.install}")
        project_id = sight.project_id
        if isinstance(draft.project, str):
            project_id = (await self._directory.project_in(sight, draft.project)).id
        now_ms = self._changes.clock.wall_ms()
        blank = _blank(self._changes.new_id(), sight, project_id, type.name, now_ms)
        if type.has_format:
            blank = replace(blank, format=Format.TOCSIN)
        return rules.with_changes(blank, draft, type)

    def _full(self) -> QuotaExceeded:
        return QuotaExceeded(f"An organization has at most {self._channels_max} channels.")

    async def update(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        change: Change,
        *,
        level: Level = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.update",
    ) -> ChannelState:
        """Change what `change` names; one that changes nothing has no effect at all.

        When this returns, nothing is sent with the old state from this node.
        """
        return await self._channel_changes.update(
            caller, sight, channel_id, change, level=level, types=types, operation=operation
        )

    async def rotate_secret(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        overlap_seconds: int = OVERLAP_SECONDS,
    ) -> SigningKeys:
        """A new signing secret, and key where there is one; the old ones sign beside it for
        `overlap_seconds` (≤ 7 days), with 0 not at all from the answer on."""
        return await self._channel_changes.rotate_secret(
            caller, sight, channel_id, overlap_seconds=overlap_seconds
        )

    async def delete(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        *,
        level: Level = UNSET,
        types: tuple[str, ...] | None = None,
        operation: str = "channel.delete",
    ) -> None:
        """Void it at once; what waits in its lane reads as cancelled, and is by a job."""
        state = await self.get(
            caller, sight, channel_id, level=level, types=types, operation=operation
        )
        channel = state.channel
        now_ms = self._changes.clock.wall_ms()
        job_id = self._changes.new_id()

        def delete(connection: Connection) -> Made[None]:
            channels.delete(connection, sight, channel.id, now_ms=now_ms)
            lanes.close(connection, sight, [channel.id])
            alert_rules.channels_gone(connection, sight, [channel.id], now_ms=now_ms)
            task = jobs.create(
                connection,
                sight,
                id=job_id,
                kind=work.CANCEL_DELETED,
                channel_id=channel.id,
                internal=True,
                arguments={},
                now_ms=now_ms,
            )
            work.step(connection, task, now_ms=now_ms, rows_max=ROWS_AT_ONCE)
            return Made(None, {"name": channel.name, "type": channel.type})

        target = Target("channel", channel.id)
        await self._changes.make(caller, sight, operation, target, delete)

    # Test

    async def test(
        self, caller: Caller, sight: Sight, channel_id: str, *, level: Level = UNSET
    ) -> tuple[bool, Attempt]:
        """One attempt now, whatever the channel's state; True when it was delivered."""
        state = await self.get(caller, sight, channel_id, level=level, operation="channel.test")
        attempt = await self._tester.send(state.channel)
        return attempt.outcome == "delivered", attempt


def _blank(id: str, sight: Sight, project_id: ProjectId | None, type: str, now_ms: int) -> Channel:
    """A channel that has every default."""
    return Channel(
        id=ChannelId(id),
        organization_id=sight.organization_id,
        project_id=project_id,
        type=type,
        name="",
        description=None,
        event_types=rules.DEFAULT_PATTERNS,
        filter=(),
        format=None,
        schedule=DEFAULT_SCHEDULE,
        timeout_seconds=rules.TIMEOUT_SECONDS_DEFAULT,
        rate_limit=None,
        max_in_flight=None,
        ordered=False,
        breaker=rules.DEFAULT_BREAKER,
        enabled=True,
        disabled_reason=None,
        sealed=b"",
        version=1,
        created_at=now_ms,
        updated_at=now_ms,
    )

"""Changes of a channel that is there: the merge is made in the transaction that writes it, so that
of any number of changes at once each keeps what the others have done."""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tocsin.crypto.sealing import UnsealFailed
from tocsin.domain.errors import Conflict, Invalid
from tocsin.domain.model import Channel, ChannelId, ChannelState, ProjectId, Secrets
from tocsin.domain.permissions import Caller
from tocsin.service import channel_rules as rules
from tocsin.service.changes import Changes, Made, Target, difference
from tocsin.service.drafts import ChannelPatch
from tocsin.service.ports import Dispatch
from tocsin.service.sight import Sight
from tocsin.service.vault import Merged, SigningKeys, Vault, rotated, unexpired
from tocsin.service.vetting import Vet, vetted
from tocsin.storage.control import Connection, channels, jobs, lanes, work

RACES_MAX = 10
ROWS_AT_ONCE = 1_000
"""So many waiting deliveries are ended before a call is answered; a job does the rest."""

Level = ProjectId | UnsetType | None
Change = ChannelPatch | Callable[[Channel], ChannelPatch]
"""What to change; a function makes it of the channel as it is when the change is written."""


class Read(Protocol):
    """`Channels.get`."""

    async def __call__(
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
        ...


class Plan(Struct, frozen=True):
    """What a channel would become."""

    before: Channel
    after: Channel
    merged: Merged
    patch: ChannelPatch

    @property
    def nothing(self) -> bool:
        """Whether all stays as it is."""
        return self.after == self.before and self.patch.backlog is UNSET

    @property
    def target(self) -> str | None:
        """The URL to vet, if the change brings one."""
        return self.merged.url if self.merged.settings else None


class ChannelChanges:
    """Updates a channel and rotates its secret."""

    def __init__(
        self, *, changes: Changes, vault: Vault, vet: Vet, dispatch: Dispatch, get: Read
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._vault = vault
        self._vet = vet
        self._dispatch = dispatch
        self._get = get

    async def update(
        self,
        caller: Caller,
        sight: Sight,
        channel_id: str,
        change: Change,
        *,
        level: Level,
        types: tuple[str, ...] | None,
        operation: str,
    ) -> ChannelState:
        """Change what `change` names; one that changes nothing has no effect at all."""
        seen: str | None = None
        for _ in range(RACES_MAX):
            state = await self._get(
                caller, sight, channel_id, level=level, types=types, operation=operation
            )
            plan = self._plan(state.channel, change)
            if plan.target not in (None, seen):
                seen = plan.target
                await vetted(self._vet, seen or "", sight.organization_id)
            if plan.nothing:
                return state
            changed = await self._make(caller, sight, operation, plan, change, seen)
            if changed is not None:
                if changed.channel.enabled:
                    self._dispatch.wake(self._changes.clock.storage_ms())
                return changed
        raise Conflict("The channel is being changed by somebody else.")

    def _plan(self, before: Channel, change: Change) -> Plan:
        """The change laid over a channel, checked; raises Invalid."""
        patch = change if isinstance(change, ChannelPatch) else change(before)
        type = self._vault.type(before.type)
        after = rules.with_changes(before, patch, type)
        _check_backlog(after, patch)
        try:
            stored = self._vault.open(before)
        except UnsealFailed:
            stored = Secrets(settings={})
        merged = self._vault.merge(type, stored, patch)
        if merged.secrets != stored:
            secrets = unexpired(merged.secrets, self._changes.clock.wall_ms())
            after = replace(after, sealed=self._vault.seal(after, secrets))
        return Plan(before, after, merged, patch)

    async def _make(
        self,
        caller: Caller,
        sight: Sight,
        operation: str,
        first: Plan,
        change: Change,
        seen: str | None,
    ) -> ChannelState | None:
        """One transaction, which plans anew where the channel has changed since `first`. None
        when it must be tried again: the change now has a target that nobody has vetted."""
        wall_ms, storage_ms = self._changes.clock.wall_ms(), self._changes.clock.storage_ms()
        through, job_id = self._changes.new_id(), self._changes.new_id()
        channel_id = first.before.id

        def make(connection: Connection) -> Made[ChannelState | None]:
            state = channels.get(connection, sight, channel_id)
            plan = first
            # Sealed under another master key it is the same version, but other bytes.
            if state.channel != first.before:
                plan = self._plan(state.channel, change)
            if plan.target not in (None, seen):
                return Made(None)
            if plan.nothing:
                return Made(state)
            before, after = plan.before, plan.after
            self._vault.sealing(connection)
            after = replace(
                after,
                disabled_reason=None if after.enabled else before.disabled_reason,
                version=before.version + 1,
                updated_at=max(wall_ms, before.updated_at),
            )
            if not channels.replace(connection, sight, after, expected_version=before.version):
                return Made(None)
            said = _said(plan, after)
            enabling = _tell_lane(connection, sight, plan, after, through, storage_ms)
            if plan.patch.backlog is not UNSET:
                said["backlog"] = plan.patch.backlog
                dropped = lanes.cancel_backlog(
                    connection, sight, after.id, through=through if enabling else None
                )
                if dropped is not None:
                    _drop(connection, sight, after.id, dropped, job_id, wall_ms)
            return Made(channels.get(connection, sight, after.id), said)

        target = Target("channel", channel_id)
        return await self._changes.make(caller, sight, operation, target, make)

    async def rotate_secret(
        self, caller: Caller, sight: Sight, channel_id: str, *, overlap_seconds: int
    ) -> SigningKeys:
        """A new signing secret; the old one signs beside it for `overlap_seconds` (≤ 7 days)."""
        for _ in range(RACES_MAX):
            state = await self._get(caller, sight, channel_id, operation="channel.update")
            rules.check_overlap(overlap_seconds)
            before = state.channel
            now_ms = self._changes.clock.wall_ms()
            self._vault.signing(before)  # raises for a channel that has nothing to rotate
            stored = self._vault.open(before)
            secrets = rotated(stored, overlap_seconds=overlap_seconds, now_ms=now_ms)
            after = replace(
                before,
                sealed=self._vault.seal(before, secrets),
                version=before.version + 1,
                updated_at=now_ms,
            )
            if await self._store_rotation(caller, sight, before, after, overlap_seconds):
                return self._vault.signing(after)
        raise Conflict("The channel is being changed by somebody else.")

    async def _store_rotation(
        self, caller: Caller, sight: Sight, before: Channel, after: Channel, overlap_seconds: int
    ) -> bool:
        def store(connection: Connection) -> Made[bool]:
            self._vault.sealing(connection)
            if not channels.replace(connection, sight, after, expected_version=before.version):
                return Made(False)
            lanes.change(connection, sight, after.id, version=after.version, reset=False)
            return Made(True, {"secret": "rotated", "overlap_seconds": overlap_seconds})

        target = Target("channel", after.id)
        return await self._changes.make(caller, sight, "channel.update", target, store)


def _said(plan: Plan, after: Channel) -> dict[str, Any]:
    """What the audit says of it."""
    said = difference(plan.before, after, rules.PLAIN)
    secret = (("settings", plan.merged.settings), ("headers", plan.merged.headers))
    return said | {name: list(names) for name, names in secret if names}


def _tell_lane(
    connection: Connection,
    sight: Sight,
    plan: Plan,
    after: Channel,
    through: str,
    storage_ms: int,
) -> bool:
    """Tell the data plane; returns whether the change enables the channel."""
    version = after.version
    lanes.describe(connection, sight, after)
    if after.breaker != plan.before.breaker:
        lanes.close_breaker(connection, sight, after.id)
    enabling = after.enabled and not plan.before.enabled
    if enabling:
        slowly = None if after.ordered else through
        lanes.open(
            connection, sight, after.id, version=version, backlog_through=slowly, now_ms=storage_ms
        )
    elif plan.before.enabled and not after.enabled:
        lanes.park(connection, sight, after.id, version=version)
    else:
        reset = bool(plan.merged.settings or plan.merged.headers)
        lanes.change(connection, sight, after.id, version=version, reset=reset)
    return enabling


def _drop(
    connection: Connection,
    sight: Sight,
    channel_id: ChannelId,
    through: str,
    job_id: str,
    now_ms: int,
) -> None:
    task = jobs.create(
        connection,
        sight,
        id=job_id,
        kind=work.CANCEL_BACKLOG,
        channel_id=channel_id,
        internal=True,
        arguments={"through": through},
        now_ms=now_ms,
    )
    work.step(connection, task, now_ms=now_ms, rows_max=ROWS_AT_ONCE)


def _check_backlog(after: Channel, patch: ChannelPatch) -> None:
    if patch.backlog is UNSET:
        return
    if patch.backlog != "cancel":
        raise Invalid("backlog", 'must be "cancel"')
    if patch.enabled is UNSET or not after.enabled:
        raise Invalid("backlog", "goes with enabled: true")

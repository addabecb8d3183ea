"""Channels as the dispatcher needs them: unsealed, parsed, at hand."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tocsin.channels import AnyChannelType, Sending
from tocsin.crypto.sealing import Sealer, UnsealFailed
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.model import Channel, ChannelId, OrganizationId, Secrets
from tocsin.domain.outcome import Outcome
from tocsin.domain.retry import parse_schedule
from tocsin.storage.base import Held

TARGETS_CACHED_MAX = 12_000

_decode_secrets = msgspec.json.Decoder(Secrets).decode


class Target:
    """One channel at one version, ready to be sent to; `trouble` says why it can't be."""

    __slots__ = (
        "_settings",
        "channel",
        "current",
        "express",
        "schedule_ms",
        "secrets",
        "speaks_http",
        "timeout_seconds",
        "trouble",
        "type",
    )

    def __init__(self, channel: Channel, type: AnyChannelType | None, sealer: Sealer) -> None:
        self.channel = channel
        self.type = type
        self.schedule_ms = parse_schedule(channel.schedule)
        self.timeout_seconds = channel.timeout_seconds
        self.current = True
        self.trouble: str | None = None
        self.express = False
        """Whether an attempt may go out at once, if a connection is idle."""
        self.speaks_http = type is None or type.speaks_http
        """Whether the engine sends what `build` made."""
        self.secrets = Secrets(settings={})
        self._settings: Any = None
        if type is None:
            self.trouble = f"there is no channel type {channel.type} here"
            return
        try:
            blob = sealer.unseal(channel.sealed, channel.organization_id, channel.id)
            self.secrets = _decode_secrets(blob)
            self._settings = type.parse_settings(self.secrets.settings)
            self.express = channel.enabled and type.speaks_http
        except UnsealFailed:
            self.trouble = "the channel's settings can't be unsealed"
        except Exception:
            self.trouble = "the channel's settings can't be read"

    def sending(self, held: Held) -> Sending:
        """What an attempt is built from."""
        return Sending(
            delivery_id=held.id,
            attempt_number=held.number,
            origin=held.origin,
            event=held.event,
            channel=self.channel,
            headers=self.secrets.headers,
        )

    def build(self, sending: Sending) -> Request:
        """The request, unsigned."""
        assert self.type is not None
        return self.type.build(sending, self._settings)

    def sign(self, request: Request, sending: Sending, timestamp_s: int) -> Request:
        """The request as it is written now."""
        assert self.type is not None
        return self.type.sign(request, sending, self.secrets, timestamp_s)

    def judge(self, reply: Reply, now_ms: int) -> Outcome:
        """What the reply means."""
        assert self.type is not None
        return self.type.judge(reply, self._settings, now_ms)

    async def send(self, sending: Sending, may_write: Callable[[], bool]) -> Reply | Outcome:
        """One attempt of a type that does not speak HTTP."""
        assert self.type is not None
        return await self.type.send(sending, self._settings, may_write)


class Targets:
    """Targets by channel, read once and kept until their organization changes something."""

    def __init__(
        self,
        *,
        load: Callable[[ChannelId], Awaitable[Channel | None]],
        type_of: Callable[[str], AnyChannelType | None],
        sealer: Sealer,
    ) -> None:
        self._load = load
        self._type_of = type_of
        self._sealer = sealer
        self._cache: OrderedDict[ChannelId, Target] = OrderedDict()
        self._by_organization: dict[OrganizationId, set[ChannelId]] = {}
        self._loading: dict[ChannelId, asyncio.Task[Target | None]] = {}
        self._epoch = 0

    def cached(self, channel_id: ChannelId) -> Target | None:
        """The target if it is at hand."""
        return self._cache.get(channel_id)

    async def get(self, channel_id: ChannelId) -> Target | None:
        """The target, read if need be; None when the channel does not exist (any more)."""
        while True:
            target = self._cache.get(channel_id)
            if target is not None:
                return target
            epoch = self._epoch
            task = self._loading.get(channel_id)
            if task is None:
                task = asyncio.get_running_loop().create_task(self._read(channel_id))
                self._loading[channel_id] = task
                task.add_done_callback(lambda done: self._loaded(channel_id, done))
            target = await asyncio.shield(task)
            if target is None or self._epoch == epoch:
                return target
            # Something changed while it was read: read again, unless it is at hand by now.

    def _loaded(self, channel_id: ChannelId, task: "asyncio.Task[Target | None]") -> None:
        if self._loading.get(channel_id) is task:
            del self._loading[channel_id]
        if not task.cancelled():
            task.exception()  # every waiter has it; there may be none any more

    async def _read(self, channel_id: ChannelId) -> Target | None:
        epoch = self._epoch
        channel = await self._load(channel_id)
        if channel is None:
            return None
        target = Target(channel, self._type_of(channel.type), self._sealer)
        if epoch == self._epoch:
            self._cache[channel_id] = target
            self._by_organization.setdefault(channel.organization_id, set()).add(channel_id)
            if len(self._cache) > TARGETS_CACHED_MAX:
                old_id, old = self._cache.popitem(last=False)
                self._by_organization[old.channel.organization_id].discard(old_id)
                # A change could not tell it any more.
                old.current = False
        return target

    def forget(self, organization_id: OrganizationId) -> None:
        """No send starts with what was read of this organization before."""
        self._epoch += 1
        # What is being read may be older than the change: nobody else may join it.
        self._loading.clear()
        for channel_id in self._by_organization.pop(organization_id, ()):
            target = self._cache.pop(channel_id, None)
            if target is not None:
                target.current = False

"""What is secret in a channel: sealed as one blob, merged with what a caller sends, masked."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from tocsin.channels import AnyChannelType, dump, mask_headers, merge_headers
from tocsin.crypto.sealing import Sealer, UnsealFailed
from tocsin.crypto.signing import new_secret
from tocsin.domain.errors import Invalid
from tocsin.domain.model import Channel, RetiringSecret, Secrets
from tocsin.service.drafts import ChannelDraft, ChannelPatch

RETIRING_MAX = 5

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Secrets).decode


class Merged(Struct, frozen=True):
    """Checked secrets, and what about them is new. `settings` and `headers` name what changed;
    `url` is the target to vet, None where it did not come with the change."""

    secrets: Secrets
    settings: tuple[str, ...]
    headers: tuple[str, ...]
    url: str | None


class Vault:
    """Opens and seals the secrets of channels, bound to organization and channel."""

    def __init__(self, sealer: Sealer, types: Mapping[str, AnyChannelType]) -> None:
        self._sealer = sealer
        self.types = types

    def type(self, name: str) -> AnyChannelType:
        """A channel type by name; raises Invalid, listing those there are."""
        found = self.types.get(name)
        if found is None:
            raise Invalid("type", f"must be one of {', '.join(self.types)}")
        return found

    def open(self, channel: Channel) -> Secrets:
        """A channel's secrets; raises UnsealFailed."""
        blob = self._sealer.unseal(channel.sealed, channel.organization_id, channel.id)
        return _decode(blob)

    def seal(self, channel: Channel, secrets: Secrets) -> bytes:
        """The blob to store for this channel."""
        return self._sealer.seal(_encode(secrets), channel.organization_id, channel.id)

    def masked(self, channel: Channel) -> tuple[dict[str, Any], dict[str, str] | None]:
        """Settings and headers as anyone reads them; headers None for a type without them.

        What can't be read (the type or the master key is gone) is shown as nothing.
        """
        type = self.types.get(channel.type)
        if type is None:
            return {}, None
        try:
            secrets = self.open(channel)
        except UnsealFailed:
            secrets = Secrets(settings={})
        headers = mask_headers(secrets.headers) if type.has_headers else None
        return type.mask(secrets.settings), headers

    def merge(
        self,
        type: AnyChannelType,
        stored: Secrets,
        change: ChannelDraft | ChannelPatch,
    ) -> Merged:
        """The stored secrets with the change laid over, checked; raises Invalid.

        On create `stored` is empty. A type that signs has a signing secret from then on.
        """
        before = stored.settings
        if change.settings is None:
            raise Invalid("settings", "must be an object")
        after = before
        if change.settings is not UNSET:
            after = dump(type.parse_settings(type.merge_masked(change.settings, before)))
        moved = bool(before) and type.moved(before, after)
        headers = stored.headers
        if type.has_headers and (change.headers is not UNSET or moved):
            new = {} if change.headers is UNSET else change.headers
            headers = merge_headers(new, stored.headers, moved=moved)
        if change.settings is not UNSET or headers is not stored.headers:
            type.check_saved(after, headers)
        secret = stored.secret
        if secret is None and type.signs:
            secret = new_secret()
        return Merged(
            secrets=Secrets(
                settings=after, headers=headers, secret=secret, retiring=stored.retiring
            ),
            settings=_differing(before, after),
            headers=_differing(stored.headers, headers),
            url=None if change.settings is UNSET else type.target_url(after),
        )


def rotated(stored: Secrets, *, overlap_seconds: int, now_ms: int) -> Secrets:
    """The secrets with a new signing secret, the old one beside it for a while."""
    retiring = [old for old in stored.retiring if old.until_ms > now_ms]
    if overlap_seconds and stored.secret is not None:
        retiring.append(RetiringSecret(stored.secret, now_ms + overlap_seconds * 1000))
    return Secrets(
        settings=stored.settings,
        headers=stored.headers,
        secret=new_secret(),
        retiring=tuple(retiring[-RETIRING_MAX:]),
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    missing = object()
    names = sorted({*before, *after})
    return tuple(n for n in names if before.get(n, missing) != after.get(n, missing))

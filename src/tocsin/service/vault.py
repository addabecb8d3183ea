"""What is secret in a channel: sealed as one blob, merged with what a caller sends, masked."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from tocsin.channels import AnyChannelType, dump, mask_headers, merge_headers
from tocsin.crypto.ed25519 import new_private_key, public_key
from tocsin.crypto.sealing import Sealer, UnsealFailed
from tocsin.crypto.signing import new_secret
from tocsin.domain.errors import Conflict, Invalid, NotFound
from tocsin.domain.model import Channel, RetiringSecret, Secrets
from tocsin.service.drafts import ChannelDraft, ChannelPatch
from tocsin.storage.control import Connection, master_keys

RETIRING_MAX = 3

UNREADABLE = "The channel's secrets can't be read with this server's master key."

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Secrets).decode


class Merged(Struct, frozen=True):
    """Checked secrets, and what about them is new. `settings` and `headers` name what changed;
    `url` is the target to vet, None where it did not come with the change."""

    secrets: Secrets
    settings: tuple[str, ...]
    headers: tuple[str, ...]
    url: str | None


class SigningKeys(Struct, frozen=True):
    """What a receiver verifies with: the `whsec_` secret, and the `whpk_` key of channels that
    have one."""

    secret: str
    public_key: str | None

    @classmethod
    def of(cls, secrets: Secrets) -> "SigningKeys | None":
        """Those of a channel's secrets; None for a type that does not sign."""
        if secrets.secret is None:
            return None
        key = secrets.private_key
        return cls(secrets.secret, None if key is None else public_key(key))


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

    def signing(self, channel: Channel) -> SigningKeys:
        """What a channel's receiver verifies with; raises NotFound for a type that does not sign,
        and Conflict where it can't be read."""
        try:
            found = SigningKeys.of(self.open(channel))
        except UnsealFailed:
            raise Conflict(UNREADABLE) from None
        if found is None:
            raise NotFound(f"A channel of type {channel.type} has no signing secret.")
        return found

    def public_key(self, channel: Channel, settings: Mapping[str, Any]) -> str | None:
        """The `whpk_` key of a channel, if these settings of it, masked or not, ask for one."""
        type = self.types.get(channel.type)
        asked = type is not None and type.signs_with_key(settings)
        return self.signing(channel).public_key if asked else None

    def sealing(self, connection: Connection) -> None:
        """Asked in every transaction that stores what `seal` made; raises Unavailable where the
        master key is being rotated to another one than this node's."""
        master_keys.check_sealing(connection, self._sealer.fingerprints[0])

    def merge(
        self,
        type: AnyChannelType,
        stored: Secrets,
        change: ChannelDraft | ChannelPatch,
    ) -> Merged:
        """The stored secrets with the change laid over, checked; raises Invalid.

        On create `stored` is empty. A type that signs has a signing secret from then on; a key
        it has as long as its settings ask for it.
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
        secrets = replace(stored, settings=after, headers=headers)
        if secrets.secret is None and type.signs:
            secrets = replace(secrets, secret=new_secret())
        return Merged(
            secrets=_with_key(secrets, wanted=type.signs_with_key(after)),
            settings=_differing(before, after),
            headers=_differing(stored.headers, headers),
            url=None if change.settings is UNSET else type.target_url(after),
        )


def rotated(stored: Secrets, *, overlap_seconds: int, now_ms: int) -> Secrets:
    """The secrets with a new signing secret, and key if there is one, the old beside it for a
    while; without an overlap nothing old signs any more."""
    retiring: list[RetiringSecret] = []
    if overlap_seconds and stored.secret is not None:
        # Deliveries are stamped in whole seconds.
        until_ms = (-(-now_ms // 1000) + overlap_seconds) * 1000
        old = RetiringSecret(stored.secret, until_ms, stored.private_key)
        retiring = [*unexpired(stored, now_ms).retiring, old]
    return replace(
        stored,
        secret=new_secret(),
        private_key=None if stored.private_key is None else new_private_key(),
        retiring=tuple(retiring[-RETIRING_MAX:]),
    )


def unexpired(secrets: Secrets, now_ms: int) -> Secrets:
    """The secrets without those whose time to sign is over."""
    left = tuple(old for old in secrets.retiring if old.until_ms > now_ms)
    return replace(secrets, retiring=left)


def _with_key(secrets: Secrets, *, wanted: bool) -> Secrets:
    """The secrets with an ed25519 key if one is wanted; without any, old ones too, if not."""
    if wanted:
        key = secrets.private_key
        return secrets if key is not None else replace(secrets, private_key=new_private_key())
    retiring = tuple(replace(old, private_key=None) for old in secrets.retiring)
    return replace(secrets, private_key=None, retiring=retiring)


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    missing = object()
    names = sorted({*before, *after})
    return tuple(n for n in names if before.get(n, missing) != after.get(n, missing))

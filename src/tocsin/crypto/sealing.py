"""Sealing of what must not stand readable in the database, under the operator's master keys.

A sealed blob is a Fernet token over `organization 0x00 channel 0x00 secret`, so it can be read
only where it was written: moved to another organization's or channel's row it does not open.
"""

import binascii
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

KEY_BYTES_MIN = 32
FINGERPRINT_CHARS = 16


class UnsealFailed(Exception):
    """The blob was sealed under another key, for another owner, or is damaged."""


class BadMasterKey(ValueError):
    """A master key is not url-safe base64 of 32 bytes or more; never repeats the key."""


def new_master_key() -> str:
    """A fresh master key: the url-safe base64 of 32 random bytes."""
    return urlsafe_b64encode(secrets.token_bytes(KEY_BYTES_MIN)).decode()


def parse_master_keys(text: str) -> tuple[str, ...]:
    """The keys of a comma-separated setting, the one to seal with first; raises BadMasterKey."""
    keys = tuple(key for part in text.split(",") if (key := part.strip()))
    if not keys:
        raise BadMasterKey("no master key is given")
    for key in keys:
        _decode(key)
    return keys


def fingerprint(key: str) -> str:
    """Tells one master key from another without giving anything of it away."""
    return _derive(_decode(key), "fingerprint").hex()[:FINGERPRINT_CHARS]


class Sealer:
    """Seals with the first of its keys and unseals with any of them."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        raw_keys = [_decode(key) for key in keys]
        if not raw_keys:
            raise BadMasterKey("no master key is given")
        self._first = raw_keys[0]
        each = [Fernet(urlsafe_b64encode(_derive(raw, "sealing"))) for raw in raw_keys]
        self._own = each[0]
        self._fernet = MultiFernet(each)
        self.fingerprints = tuple(fingerprint(key) for key in keys)

    def __repr__(self) -> str:
        return f"Sealer({', '.join(self.fingerprints)})"

    def seal(self, secret: bytes, organization_id: str, channel_id: str) -> bytes:
        """Seal for this owner; the same input gives another blob each time."""
        return self._fernet.encrypt(_bound(organization_id, channel_id) + secret)

    def unseal(self, blob: bytes, organization_id: str, channel_id: str) -> bytes:
        """What was sealed for this owner; raises UnsealFailed for anything else."""
        owner = _bound(organization_id, channel_id)
        try:
            content = self._fernet.decrypt(blob)
        except InvalidToken:
            raise UnsealFailed("sealed under another master key, or damaged") from None
        if not content.startswith(owner):
            raise UnsealFailed("sealed for another organization or channel")
        return content[len(owner) :]

    def reseal(self, blob: bytes) -> bytes:
        """The same content under the first key, for its rotation; raises UnsealFailed."""
        try:
            return self._fernet.rotate(blob)
        except InvalidToken:
            raise UnsealFailed("sealed under another master key, or damaged") from None

    def sealed_now(self, blob: bytes) -> bool:
        """Whether it is under the first key."""
        try:
            self._own.decrypt(blob)
        except InvalidToken:
            return False
        return True

    def derive(self, purpose: str) -> bytes:
        """32 bytes made from the first key for another use, such as authenticating cursors."""
        return _derive(self._first, f"use/{purpose}")


def _decode(key: str) -> bytes:
    try:
        raw = urlsafe_b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4))
        canonical = urlsafe_b64encode(raw).decode().rstrip("=")
    except (binascii.Error, ValueError):
        raise BadMasterKey("a master key must be url-safe base64") from None
    # The reader above passes over foreign characters, and two keys must not be the same one.
    if canonical != key.rstrip("="):
        raise BadMasterKey("a master key must be url-safe base64")
    if len(raw) < KEY_BYTES_MIN:
        raise BadMasterKey(f"a master key must have at least {KEY_BYTES_MIN} bytes")
    return raw


def _derive(raw: bytes, purpose: str) -> bytes:
    return hmac.digest(raw, f"tocsin/{purpose}/1".encode(), "sha256")


def _bound(organization_id: str, channel_id: str) -> bytes:
    return f"{organization_id}\0{channel_id}\0".encode()

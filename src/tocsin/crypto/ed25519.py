"""Asymmetric signatures of Standard Webhooks 1.0: ed25519, version `v1a`.

`whsk_` is the base64 of the 32 bytes of the private key and the 32 of the public one, `whpk_` that
of the public key alone.
"""

import binascii
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"
VERSION = "v1a,"
KEY_BYTES = 32


def new_private_key() -> str:
    """A fresh `whsk_` key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return PRIVATE_PREFIX + _base64(
        key.private_bytes_raw() + key.public_key().public_bytes_raw(),
    )


def public_key(private_key: str) -> str:
    """The `whpk_` key that verifies what a `whsk_` key signs."""
    return PUBLIC_PREFIX + _base64(_key(private_key).public_key().public_bytes_raw())


def signature(private_key: str, signed: bytes) -> str:
    """One signature as it stands in `webhook-signature`."""
    return VERSION + _base64(_key(private_key).sign(signed))


def check_public_key(text: str) -> None:
    """Raise ValueError unless it is a `whpk_` key; the error does not repeat it."""
    _decoded(text, PUBLIC_PREFIX, KEY_BYTES)


def fits(public: str, given: str, signed: bytes) -> bool:
    """Whether one signature, with its version, is by the private key of a `whpk_` key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not given.startswith(VERSION):
        return False
    key = Ed25519PublicKey.from_public_bytes(_decoded(public, PUBLIC_PREFIX, KEY_BYTES))
    try:
        key.verify(binascii.a2b_base64(given.removeprefix(VERSION), strict_mode=True), signed)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)
def _key(private_key: str) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = _decoded(private_key, PRIVATE_PREFIX, 2 * KEY_BYTES)
    return Ed25519PrivateKey.from_private_bytes(raw[:KEY_BYTES])


def _decoded(text: str, prefix: str, length: int) -> bytes:
    try:
        raw = binascii.a2b_base64(text.removeprefix(prefix), strict_mode=True)
    except ValueError:
        raw = b""
    if not text.startswith(prefix) or len(raw) != length:
        raise ValueError(f"not a Standard Webhooks {prefix} key")
    return raw


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()

"""Signatures of deliveries: Standard Webhooks 1.0, and hookstream's own header.

Source of the format: https://github.com/standard-webhooks/standard-webhooks, `spec`.
"""

import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from functools import lru_cache

from tocsin.crypto import ed25519

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix, not a secret
SECRET_BYTES = 32
TOLERANCE_SECONDS = 300
_BLOCK_BYTES = 64


def new_secret() -> str:
    """A fresh Standard Webhooks secret: `whsec_` and the base64 of 32 random bytes."""
    return SECRET_PREFIX + _base64(secrets.token_bytes(SECRET_BYTES))


@lru_cache(maxsize=4096)
def decode_secret(secret: str) -> bytes:
    """The key behind a secret, with or without its prefix; ValueError for what is none.

    The error does not repeat the secret.
    """
    try:
        key = binascii.a2b_base64(secret.removeprefix(SECRET_PREFIX), strict_mode=True)
    except ValueError:
        raise ValueError("not a Standard Webhooks secret") from None
    if not key:
        raise ValueError("an empty Standard Webhooks secret")
    return key


@lru_cache(maxsize=4096)
def _pads(secret: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """The two hashes of HMAC-SHA256 with the key worked in (RFC 2104, section 4).

    Copying them is half the time of a keyed call, and every delivery is signed.
    """
    key = decode_secret(secret)
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))
    return inner, outer


def _signature(secret: str, head: bytes, body: bytes) -> str:
    inner, outer = _pads(secret)
    mac = inner.copy()
    mac.update(head)
    mac.update(body)
    whole = outer.copy()
    whole.update(mac.digest())
    return "v1," + _base64(whole.digest())


def sign(signing_secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature a secret, separated by one space.

    It is `v1,` of a `whsec_` secret and `v1a,` of a `whsk_` key. The order is kept; while a secret
    is being rotated the receiver may know either one.
    """
    head = b"%b.%d." % (message_id.encode(), timestamp_s)
    if len(signing_secrets) == 1:
        return _signature(signing_secrets[0], head, body)
    return " ".join(
        [
            ed25519.signature(secret, head + body)
            if secret.startswith(ed25519.PRIVATE_PREFIX)
            else _signature(secret, head, body)
            for secret in signing_secrets
        ]
    )


def verify(
    secret: str, message_id: str, timestamp: str, signatures: str, body: bytes, now_s: int
) -> bool:
    """Whether a delivery is genuine and fresh, as a receiver checks it.

    Takes the three header values as they came. The secret may be a `whpk_` key, for `v1a`.
    Signatures of other versions are passed over; a timestamp more than five minutes off is
    refused, so that a captured delivery can't be replayed.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(int(timestamp) - now_s) > TOLERANCE_SECONDS:
        return False
    if secret.startswith(ed25519.PUBLIC_PREFIX):
        signed = b"%b.%d." % (message_id.encode(), int(timestamp)) + body
        return any(ed25519.fits(secret, one, signed) for one in signatures.split())
    expected = sign((secret,), message_id, int(timestamp), body).encode()
    return any(hmac.compare_digest(expected, s.encode()) for s in signatures.split())


def hookstream_signature(secret: str, body: bytes) -> str:
    """The value of `X-hookstream-Signature`: `sha256=` and the hex HMAC of the raw body."""
    return "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode()

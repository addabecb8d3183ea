"""Bearer tokens: how they are made, recognised, stored and compared.

Tocsin's own carry a checksum (`toc_`, 43 characters of randomness, 6 of CRC-32 over all before),
so that a scanner can tell a leaked token from a look-alike without asking anyone.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from base64 import urlsafe_b64encode
from typing import Literal

TOKEN_PREFIX = "toc_"  # noqa: S105 - a prefix, not a secret
OPERATOR_TOKEN_CHARS_MIN = 32
PREFIX_CHARS = 12

_TOKEN = re.compile(r"(toc_[A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})", re.ASCII)
_VISITOR = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_HOOKSTREAM = re.compile(r"hs_(?:live|test)_[0-9a-f]{64}", re.ASCII)


def new_token() -> str:
    """A fresh token of 53 characters, 256 bits of them random."""
    body = TOKEN_PREFIX + secrets.token_urlsafe(32)
    return body + _checksum(body)


def new_hookstream_token(kind: Literal["live", "test"] = "live") -> str:
    """A fresh token in the form that hookstream's clients know."""
    return f"hs_{kind}_{secrets.token_hex(32)}"


def new_operator_token() -> str:
    """A fresh operator token of 43 characters."""
    return secrets.token_urlsafe(32)


def new_visitor_token() -> str:
    """A fresh token of a session or of a one-time link: 43 url-safe characters, 256 bits."""
    return secrets.token_urlsafe(32)


def check_visitor_token_form(token: str) -> bool:
    """Whether the text can be the token of a session or link."""
    return _VISITOR.fullmatch(token) is not None


def check_token_form(token: str) -> bool:
    """Whether the text can be a token made here; saves asking the database about noise."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        return _HOOKSTREAM.fullmatch(token) is not None
    return _checksum(match[1]) == match[2]


def hash_token(token: str) -> str:
    """What is stored of a token: its SHA-256 in hex. Enough, because tokens are random."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def token_prefix(token: str) -> str:
    """The first characters, by which people recognise a token in a list."""
    return token[:PREFIX_CHARS]


def same(a: str, b: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(a.encode(errors="surrogatepass"), b.encode(errors="surrogatepass"))


def _checksum(text: str) -> str:
    return urlsafe_b64encode(zlib.crc32(text.encode()).to_bytes(4, "big")).decode().rstrip("=")

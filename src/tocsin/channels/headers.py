"""A channel's own request headers: what is allowed, how they are masked and merged."""

import re
from collections.abc import Mapping
from typing import Any

from tocsin.channels.fields import has_mask
from tocsin.domain.errors import Invalid
from tocsin.domain.text import MASK, check_short, shortened, visible

HEADERS_MAX = 20
NAME_CHARS_MAX = 128
VALUE_CHARS_MAX = 4096

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)

# What belongs to the framing, to the connection, or to Tocsin itself.
_FORBIDDEN = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-applivery-token",
        "x-hookstream-signature",
    }
)
_FORBIDDEN_PREFIXES = ("proxy-", "webhook-", "tocsin-")


def check_headers(headers: Mapping[str, Any], where: str = "headers") -> dict[str, str]:
    """The headers, values trimmed; raises Invalid naming `headers.<name>`."""
    if len(headers) > HEADERS_MAX:
        raise Invalid(where, f"at most {HEADERS_MAX} headers")
    _refuse_twins(headers, where)
    checked: dict[str, str] = {}
    for name, value in headers.items():
        field = _field(where, name)
        lowered = name.lower()
        if len(name) > NAME_CHARS_MAX or _TOKEN.fullmatch(name) is None:
            raise Invalid(field, "is not a valid header name")
        if lowered in _FORBIDDEN or lowered.startswith(_FORBIDDEN_PREFIXES):
            raise Invalid(field, "is set by Tocsin and can't be given")
        if not isinstance(value, str):
            raise Invalid(field, "must be a string")
        if "\n" in value:
            raise Invalid(field, "must not contain control characters")
        check_short(value, field, VALUE_CHARS_MAX, chars_min=0)
        trimmed = value.strip(" \t")
        if not trimmed:
            raise Invalid(field, "must not be empty")
        checked[name] = trimmed
    return checked


def mask_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as they are read: names in clear, values masked."""
    return dict.fromkeys(headers, MASK)


def merge_headers(
    new: Mapping[str, Any] | None,
    stored: Mapping[str, str],
    *,
    moved: bool = False,
    where: str = "headers",
) -> dict[str, str]:
    """The stored headers with the new ones laid over by name, in any case, and checked.

    None as `new` removes all, None as a value removes that one, the mask keeps the stored value.
    `moved` says that the URL now has another origin: stored values are credentials for the old
    one, so what is not sent again is forgotten and a mask is refused. On create `stored` is empty.
    """
    if new is None:
        return {}
    _refuse_twins(new, where)
    kept = {name.lower(): (name, value) for name, value in stored.items()}
    merged: dict[str, tuple[str, Any]] = {} if moved else dict(kept)
    for name, value in new.items():
        lowered = name.lower()
        if value is None:
            merged.pop(lowered, None)
        elif not has_mask(value):
            merged[lowered] = (name, value)
        elif value != MASK or lowered not in kept:
            raise Invalid(_field(where, name), "is a masked value")
        elif moved:
            raise Invalid(
                _field(where, name), "must be sent again, because the URL has another origin"
            )
    return check_headers(dict(merged.values()), where)


def _refuse_twins(headers: Mapping[str, Any], where: str) -> None:
    seen: set[str] = set()
    for name in headers:
        if name.lower() in seen:
            raise Invalid(_field(where, name), "is given twice")
        seen.add(name.lower())


def _field(where: str, name: str) -> str:
    return f"{where}.{shortened(visible(name), 64)}"

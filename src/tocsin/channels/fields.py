"""What the settings of all channel types share: marks, masks, URLs, and errors that name fields."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct

from tocsin.domain.errors import Invalid
from tocsin.domain.text import MASK, check_short, shortened, visible

URL_CHARS_MAX = 2048
VALUE_CHARS_MAX = 16_384
SECRET_CHARS_MAX = 1024

_SECRET = "secret"  # noqa: S105 - the name of a mark
_TRANSMITTED = "transmitted"

_URL = re.compile(
    r"(https?)://"
    r"(\[[0-9A-Fa-f:.]+\]|[^/?#@:\\\[\]\x00-\x20\x7f]+)(?::([0-9]{1,5}))?"
    r"(?:[/?#][^\\\x00-\x20\x7f]*)?",
    re.IGNORECASE,
)
_PORTS = {"http": 80, "https": 443}

_PLACE = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one channel type; each field carries a `field` or `secret` mark.

    Written out, it shows no secrets.
    """

    def __repr__(self) -> str:
        hidden = marked(type(self), _SECRET)
        shown = (
            f"{name}={MASK if name in hidden and value is not None else repr(value)}"
            for name, value in msgspec.structs.asdict(self).items()
            if value is not UNSET
        )
        return f"{type(self).__name__}({', '.join(shown)})"


S = TypeVar("S", bound=Settings)


def field(title: str, description: str = "", **bounds: Any) -> Meta:
    """A mark with label and help, for `Annotated[<type>, field(…)]`; bounds as `msgspec.Meta`.

    Where None is allowed, bounds go inside: `Annotated[Annotated[str, Meta(…)] | None, field(…)]`.
    """
    return Meta(title=title, description=description or None, **bounds)


def secret(title: str, description: str = "", *, transmitted: bool = False, **bounds: Any) -> Meta:
    """A mark like `field` for what is masked wherever it is read.

    `transmitted` means that the target is sent the very value, as with a bearer token: it is
    forgotten when the URL moves to another origin.
    """
    return Meta(
        title=title,
        description=description or None,
        extra={_SECRET: True, _TRANSMITTED: transmitted},
        extra_json_schema={"writeOnly": True},
        **bounds,
    )


@cache
def marked(settings_type: type[Settings], mark: str = _SECRET) -> frozenset[str]:
    """The names of the fields that carry a mark: `secret` or `transmitted`."""
    return frozenset(
        info.name
        for info in msgspec.inspect.type_info(settings_type).fields  # type: ignore[attr-defined]
        if isinstance(info.type, msgspec.inspect.Metadata) and (info.type.extra or {}).get(mark)
    )


def parse(raw: Mapping[str, Any], settings_type: type[S], where: str = "settings") -> S:
    """The settings as their struct; raises Invalid naming `settings.<key>`.

    Types are not converted: a boolean is no integer, a number no text.
    """
    for name, value in raw.items():
        _check_value(value, f"{where}.{_safe(name)}")
    try:
        settings = msgspec.convert(dict(raw), settings_type)
    except msgspec.ValidationError as error:
        raise _named(str(error), where) from None
    for name in marked(settings_type):
        if getattr(settings, name) == "":
            raise Invalid(f"{where}.{name}", "must not be empty")
    return settings


def dump(settings: Settings) -> dict[str, Any]:
    """The settings as plain JSON members, defaults included."""
    members: dict[str, Any] = msgspec.to_builtins(settings)
    return members


def schema(settings_type: type[Settings]) -> dict[str, Any]:
    """The JSON Schema of the settings, complete in itself."""
    _, components = msgspec.json.schema_components((settings_type,), ref_template="#/$defs/{name}")
    own = dict(components.pop(settings_type.__name__))
    return own | {"$defs": components} if components else own


def has_mask(value: Any) -> bool:
    """Whether the mask stands anywhere in the value, so that it can't be a real one."""
    if isinstance(value, str):
        return MASK in value
    if isinstance(value, Mapping):
        return any(map(has_mask, value)) or any(map(has_mask, value.values()))
    return isinstance(value, list | tuple) and any(map(has_mask, value))


def check_url(url: str, where: str = "settings.url") -> None:
    """Raise Invalid unless this is an absolute http(s) URL without user-info.

    Only the form is checked; whether the address may be reached is the SSRF guard's to say.
    """
    if len(url) > URL_CHARS_MAX:
        raise Invalid(where, f"must be at most {URL_CHARS_MAX} characters long")
    if _URL.fullmatch(url) is None:
        raise Invalid(where, "must be an absolute http or https URL without user-info")


def origin_of(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL, lower-cased and with the port filled in; None for no URL."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower().rstrip("."), match[3]
    return scheme, host, int(port) if port else _PORTS[scheme]


def shown_url(url: str) -> str:
    """Scheme and host alone: all that errors, logs and pages may show of a credential URL."""
    origin = origin_of(url)
    return f"{origin[0]}://{origin[1]}" if origin else "?"


def masked_tail(url: str, parts: int = 1) -> str:
    """A URL whose last path parts are the secret, with the mask for them and all that follows."""
    kept = re.split(r"[?#]", url, maxsplit=1)[0].rstrip("/").split("/")
    return "/".join((*kept[: max(3, len(kept) - parts)], MASK))


def _check_value(value: Any, where: str) -> None:
    """Settings are short fields at any depth: no control characters, bounded."""
    if isinstance(value, str):
        check_short(value, where, VALUE_CHARS_MAX, chars_min=0)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            _check_value(name, where)
            _check_value(one, f"{where}.{_safe(name)}")
    elif isinstance(value, list | tuple):
        for one in value:
            _check_value(one, where)


def _named(message: str, where: str) -> Invalid:
    """Turn msgspec's message with its path into an error of ours that names the field."""
    if place := _PLACE.fullmatch(message):
        message, path = place[1], place[2].replace("[...]", "")
        where = f"{where}.{path}".rstrip(".")
    if missing := _MISSING.fullmatch(message):
        return Invalid(f"{where}.{missing[1]}", "is required")
    if unknown := _UNKNOWN.fullmatch(message):
        return Invalid(f"{where}.{_safe(unknown[1])}", "is not known")
    return Invalid(where, message[:1].lower() + message[1:].replace("`", ""))


def _safe(name: str) -> str:
    return shortened(visible(name), 64)

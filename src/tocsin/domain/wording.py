"""Names and values of a payload in words that people read: `app.build_number` → `App build number`,
`2026-11-21T22:04:00.000Z` → `2026-11-21 22:04 UTC`."""

import re
from typing import Any

import msgspec

from tocsin.domain.errors import Invalid
from tocsin.domain.text import iso, parse_time

_LISTED_MAX = 5
_KILO = 1000

_SEGMENT = re.compile(r"[^\W_]+(?:[_-][^\W_]+)*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SIZES = {"bytes", "size", "size_bytes", "file_size", "fileSize", "sizeBytes"}
_SPELLED = {
    word.lower(): word
    for word in (
        *("API", "APK", "CI", "CPU", "ID", "IMEI", "IP", "IPA", "MDM", "OS", "PR", "QA", "SDK"),
        *("SHA", "UDID", "UI", "URL", "UUID", "iOS", "iPadOS", "macOS", "tvOS", "watchOS"),
    )
}
_PLATFORMS = {
    one.lower(): one
    for one in ("Android", "AOSP", "Apple", "iOS", "iPadOS", "macOS", "tvOS", "watchOS", "Windows")
}


def label(path: str) -> str:
    """A member's dotted path as a label. What is no plain name is left as it is."""
    segments = path.split(".")
    if not all(_SEGMENT.fullmatch(segment) for segment in segments):
        return path
    words: list[str] = []
    for segment in segments:
        said = [_word(word) for word in re.split(r"[_-]", _HUMP.sub("_", segment))]
        # `build.build_number` says it once.
        words += said[1:] if words and len(said) > 1 and said[0] == words[-1] else said
    text = " ".join(words)
    return text if words[0] in _SPELLED.values() else text[:1].upper() + text[1:]


def _word(word: str) -> str:
    return _SPELLED.get(word.lower()) or (word if word.isupper() else word.lower())


def platform(name: str) -> str:
    """A platform as its maker writes it: `ios` → `iOS`."""
    return _PLATFORMS.get(name.lower(), name)


def readable(value: Any, name: str = "") -> str:
    """A JSON value in a few words; what is too large to read is counted instead.

    `name` is the member it is the value of: it may tell a size.
    """
    match value:
        case None:
            return ""
        case str():
            return moment(value)
        case bool():
            return "true" if value else "false"
        case int() | float():
            if name in _SIZES and value >= _KILO:
                return _size(value)
            return msgspec.json.encode(value).decode()
        case list():
            if len(value) > _LISTED_MAX or any(isinstance(one, dict | list) for one in value):
                return f"{len(value)} items" if len(value) != 1 else "1 item"
            return ", ".join(filter(None, map(readable, value)))
        case _:
            return f"{len(value)} members" if len(value) != 1 else "1 member"


def counted(value: float) -> str:
    """A figure with its thousands apart, and no more than two decimals."""
    rounded = round(value, 2)
    return f"{int(rounded) if rounded == int(rounded) else rounded:,}"


def moment(text: str) -> str:
    """A time as people read it; any other text is left as it is."""
    if not 20 <= len(text) <= 40 or text[10] not in "Tt":
        return text
    try:
        shown = iso(parse_time(text))
    except Invalid:
        return text
    return f"{shown[:10]} {shown[11:16]} UTC"


def _size(count: float) -> str:
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= _KILO
        if size < _KILO:
            return f"{size:.1f} {unit}"
    return f"{size:.1f} GB"

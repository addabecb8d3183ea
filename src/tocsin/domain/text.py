"""Text at the borders: bounds, control characters, the mask of secrets, and times on the wire."""

import codecs
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tocsin.domain.errors import Invalid

MASK = "\u2022\u2022\u2022\u2022"
"""What stands in the place of a secret, in every dialect."""

CUT = "…"


def _pictures() -> dict[int, str]:
    """A visible stand-in for every character that could move a cursor or hide text."""
    table = {code: chr(0x2400 + code) for code in range(0x20)}
    table[0x7F] = "\u2421"
    hidden = (
        *range(0x80, 0xA0),
        0x061C,
        *range(0x200E, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2066, 0x206A),
        0xFEFF,
    )
    return table | {code: f"<U+{code:04X}>" for code in hidden}


_PICTURES = _pictures()
_PICTURES_BUT_LAYOUT = {c: p for c, p in _PICTURES.items() if c not in (0x09, 0x0A)}

_CONTROL_BUT_LAYOUT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def visible(text: str, *, keep_layout: bool = False) -> str:
    """The text with control, direction and line characters shown instead of obeyed.

    For terminals, logs and mail headers; `keep_layout` leaves newline and tab as they are.
    """
    if text.isprintable() and text.isascii():
        return text
    shown = text.translate(_PICTURES_BUT_LAYOUT if keep_layout else _PICTURES)
    return _SURROGATE.sub("\ufffd", shown)


def plain(text: str) -> str:
    """The text for people: U+0000 and other control characters are dropped, layout is kept."""
    if text.isprintable():
        return text
    return _SURROGATE.sub("\ufffd", _CONTROL_BUT_LAYOUT.sub("", text))


def bounded(raw: bytes | str, bytes_max: int) -> str:
    """Foreign text made fit to store and show: visible, NUL-free, at most `bytes_max` of UTF-8.

    What is too long is cut between characters; bytes that are no UTF-8 become U+FFFD.
    """
    if isinstance(raw, bytes):
        # An incremental reader drops the half character that the cut may leave at the end.
        reader = codecs.getincrementaldecoder("utf-8")("replace")
        text = reader.decode(raw[:bytes_max], final=len(raw) <= bytes_max)
    else:
        text = raw[:bytes_max]
    text = visible(text.replace("\r\n", "\n"), keep_layout=True)
    if len(text) * 4 <= bytes_max:
        return text
    return text.encode()[:bytes_max].decode(errors="ignore")


def shortened(text: str, chars_max: int) -> str:
    """The text, or as much of it as fits with an ellipsis at the end."""
    return text if len(text) <= chars_max else text[: chars_max - 1].rstrip() + CUT


def check_short(text: str, field: str, chars_max: int, *, chars_min: int = 1) -> None:
    """Raise Invalid naming the field if its length or a control character is not acceptable.

    Newline and tab are; U+0000 and lone surrogates are not.
    """
    if not chars_min <= len(text) <= chars_max:
        least = f"{chars_min} to " if chars_min else "at most "
        raise Invalid(field, f"must be {least}{chars_max} characters long")
    if _CONTROL_BUT_LAYOUT.search(text) or _SURROGATE.search(text):
        raise Invalid(field, "must not contain control characters")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_1_MS = -62_135_596_800_000
_YEAR_10000_MS = 253_402_300_800_000
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-][0-9]{2}:[0-9]{2}))",
    re.ASCII,
)


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0")


@lru_cache(maxsize=1024)
def iso(ms: int) -> str:
    """A time as it goes over the wire: `2026-11-21T22:04:00.000Z`."""
    return "%s%03dZ" % (_to_the_second(ms // 1000), ms % 1000)  # noqa: UP031 - hot


def parse_time(text: str, field: str = "occurred_at") -> int:
    """Milliseconds of an ISO 8601 date-time, which must carry `Z` or an offset.

    Digits beyond milliseconds are cut off. Raises Invalid naming the field, also for what an
    offset moves out of the years 1 to 9999: `iso` could not write it.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise Invalid(field, "must be an ISO 8601 date-time with Z or an offset")
    date, time, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{offset or '+00:00'}")
        whole_ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Invalid(field, "is no date and time that exists") from None
    if not _YEAR_1_MS <= whole_ms < _YEAR_10000_MS:
        raise Invalid(field, "is no date and time that exists")
    return whole_ms + int(((fraction or "") + "000")[:3])

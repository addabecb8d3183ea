"""The message that people read: from an event's own words, else made sensibly from its data."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from tocsin.domain.app_messages import told
from tocsin.domain.model import Event, Origin, People
from tocsin.domain.own_messages import told_of_itself
from tocsin.domain.text import plain, shortened
from tocsin.domain.wording import counted, label, readable

SEVERITIES = ("info", "warning", "error", "critical")

TITLE_CHARS_MAX = 256
TEXT_CHARS_MAX = 4096
LINK_CHARS_MAX = 2048
FIELDS_MAX = 10
FIELD_NAME_CHARS_MAX = 80
FIELD_VALUE_CHARS_MAX = 300

_DEPTH_MAX = 3

_LINK = re.compile(r"https?://[^\x00-\x20\x7f<>\"\\|]+", re.IGNORECASE)

# Members that payloads of many systems have, in the order in which they are believed.
_TITLE_MEMBERS = ("title", "subject")
_TEXT_MEMBERS = ("message", "text", "description", "summary", "reason")
_LINK_MEMBERS = ("link", "url", "html_url")
_SEVERITY_MEMBERS = ("severity", "level")


class Message(Struct, frozen=True, kw_only=True):
    """What a channel type lays out. All text is bounded and free of control characters but
    newline and tab (title and fields: none); `text` may be empty; not escaped for any target."""

    title: str
    text: str = ""
    severity: str = "info"
    link: str | None = None
    fields: tuple[tuple[str, str], ...] = ()


def message_of(event: Event, origin: Origin = Origin.EVENT) -> Message:
    """The message of an event; never fails, whatever the data."""
    people = event.people or People()
    data = _decode(event.data)
    if origin is Origin.ALERT and isinstance(data, dict):
        made = _of_alert(event, data)
    elif origin is Origin.OPERATIONAL and isinstance(data, dict):
        made = _of_itself(event, data)
    elif isinstance(data, dict):
        made = _of_object(event, data, titled=bool(people.title))
    else:
        made = Message(title=_title_of(event.type), text=_lines(readable(data)))
    fields = made.fields
    if people.fields is not None:
        fields = _bounded_fields(iter(people.fields.items()))
    return Message(
        title=_line(people.title or "", TITLE_CHARS_MAX) or made.title,
        text=made.text if people.text is None else _lines(people.text),
        severity=people.severity if people.severity in SEVERITIES else made.severity,
        link=people.link if people.link and link_valid(people.link) else made.link,
        fields=fields,
    )


def link_valid(text: str) -> bool:
    """Whether the text may become a link in a message: http or https, nothing that breaks out."""
    return len(text) <= LINK_CHARS_MAX and _LINK.fullmatch(text) is not None


def _decode(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _of_object(event: Event, data: dict[str, Any], *, titled: bool) -> Message:
    used: set[str] = set()

    def take(names: tuple[str, ...]) -> str:
        for name in names:
            value = data.get(name)
            if isinstance(value, str) and value.strip():
                used.add(name)
                return value
        return ""

    title, text = take(_TITLE_MEMBERS), take(_TEXT_MEMBERS)
    app = told(
        event.type,
        data,
        event.occurred_at,
        titled=titled or bool(title),
        texted=bool(text),
    )
    link, linked = _link(event, data)
    severity = next((n for n in _SEVERITY_MEMBERS if _is_severity(data.get(n))), None)
    used |= {name for name in (linked, severity) if name is not None} | app.used
    return Message(
        title=_line(title or app.title, TITLE_CHARS_MAX) or _title_of(event.type),
        text=_lines("\n\n".join(filter(None, (text.strip(), app.text)))),
        severity=data[severity].lower() if severity else app.severity or "info",
        link=link,
        fields=_bounded_fields(_flat(data, used)),
    )


def _link(event: Event, data: dict[str, Any]) -> tuple[str | None, str | None]:
    """A link and the path of its member; `build.created` is also looked for in `build`."""
    inner = event.type.partition(".")[0]
    inside = data.get(inner)
    places = {"": data, f"{inner}.": inside if isinstance(inside, dict) else {}}
    for before, place in places.items():
        for name in _LINK_MEMBERS:
            if _is_link(place.get(name)):
                return place[name], before + name
    return None, None


def _of_alert(event: Event, data: dict[str, Any]) -> Message:
    rule = data.get("alert_rule")
    name = rule.get("name") if isinstance(rule, dict) else None
    resolved = event.type == "alert.resolved"
    reason, details = data.get("trigger_reason"), data.get("trigger_data")
    text = reason if isinstance(reason, str) else ""
    return Message(
        title=_line(f"{'Resolved' if resolved else 'Alert'}: {name or 'rule'}", TITLE_CHARS_MAX),
        text=_lines(f"It is over. It was: {text}" if resolved and text else text),
        severity="info" if resolved else "error",
        fields=_bounded_fields(_figures(details if isinstance(details, dict) else {})),
    )


def _figures(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What an alert rule found, each figure with its unit."""
    for name, value in details.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name == "issues" and isinstance(value, list):
            titles = (one.get("title") for one in value if isinstance(one, dict))
            yield from (("Issue", title) for title in titles if isinstance(title, str))
        elif number and name.endswith("_ms"):
            yield label(name.removesuffix("_ms")), f"{counted(value)} ms"
        elif number and name == "window_minutes":
            yield "Window", f"{counted(value)} min"
        elif number and name == "percentile":
            yield "Percentile", f"p{value:g}"
        elif number and (name.endswith("_percent") or _is_share(name, details)):
            share = value if "drop_percent" in details else value * 100
            yield label(name.removesuffix("_percent")), f"{share:g} %"
        else:
            yield from _flat({name: value}, set())


def _is_share(name: str, details: dict[str, Any]) -> bool:
    """Whether the figure is a part of a whole."""
    shared = "failure_rate" in details or "drop_percent" in details
    return name == "failure_rate" or (shared and name == "threshold")


def _of_itself(event: Event, data: dict[str, Any]) -> Message:
    said = told_of_itself(event.type, data)
    return Message(
        title=_line(said.title, TITLE_CHARS_MAX) or _title_of(event.type),
        text=_lines(said.text),
        severity=said.severity or "info",
        fields=_bounded_fields(_flat(data, set(said.used))),
    )


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and link_valid(value)


def _is_severity(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in SEVERITIES


def _title_of(event_type: str) -> str:
    """`build.created` → `Build created`."""
    words = re.sub(r"[._-]+", " ", event_type.removeprefix("tocsin.")).strip()
    return words[:1].upper() + words[1:] or event_type


def _line(text: str, chars_max: int) -> str:
    return shortened(" ".join(plain(text).split()), chars_max)


def _lines(text: str) -> str:
    return shortened(plain(text).strip(), TEXT_CHARS_MAX)


def _bounded_fields(pairs: Iterator[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    fields: list[tuple[str, str]] = []
    for name, value in pairs:
        name, value = _line(name, FIELD_NAME_CHARS_MAX), _line(value, FIELD_VALUE_CHARS_MAX)
        if name and value:
            fields.append((name, value))
        if len(fields) == FIELDS_MAX:
            break
    return tuple(fields)


def _flat(
    data: dict[str, Any], used: set[str], before: str = "", depth: int = 1
) -> Iterator[tuple[str, str]]:
    """Scalars by their path, a few levels down; nulls and what was told are left out."""
    for name, value in data.items():
        path = before + name
        if path in used or value is None:
            continue
        if isinstance(value, dict) and value and depth < _DEPTH_MAX:
            yield from _flat(value, used, f"{path}.", depth + 1)
        else:
            yield label(path), readable(value, name)

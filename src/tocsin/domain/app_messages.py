"""What the events of an app's life say to people: builds, feedback, certificates, devices.

Their payloads have no fixed shape: the places where platforms keep a thing are looked at in turn.
What a title has said is not repeated below it.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tocsin.domain.errors import Invalid
from tocsin.domain.ids import is_id
from tocsin.domain.text import parse_time, shortened
from tocsin.domain.wording import moment, platform, readable

EXCERPT_CHARS_MAX = 600
EXCERPT_LINES_MAX = 12
DAY_MS = 86_400_000

_WORD_CHARS_MAX = 120

_APP = (
    *("app.name", "application.name", "app", "application", "app_name", "application_name"),
    *("appName", "applicationName", "build.app.name", "build.application.name"),
)
_VERSION = (
    *("version", "version_name", "versionName", "build.version", "build.version_name"),
    *("build.versionName", "app.version", "application.version", "app_version", "appVersion"),
)
_NUMBER = (
    *("number", "build_number", "buildNumber", "version_code", "versionCode", "build.number"),
    *("build.build_number", "build.buildNumber", "build.version_code", "build.versionCode"),
    "build",
)
_PLATFORM = ("platform", "os", "build.platform", "build.os", "app.platform")
_CHANGELOG = (
    *("changelog", "changes", "release_notes", "releaseNotes", "notes", "whats_new", "whatsNew"),
    *("build.changelog", "build.release_notes", "build.releaseNotes", "build.notes"),
)
_STATUS = ("status", "build.status", "result", "state")
_FAILED = ("error", "errored", "failed", "failure", "rejected")
_AUTHOR = (
    *("author.name", "user.name", "reporter.name", "author", "user", "reporter", "from"),
    *("created_by.name", "created_by", "createdBy", "author.email", "user.email", "email"),
)
_SAID = ("comment", "content", "feedback", "body", "details", "feedback.text", "feedback.message")
_CERTIFICATE = (
    *("name", "certificate.name", "certificate", "certificate_name", "certificateName"),
    *("certificate.common_name", "common_name", "commonName"),
)
_EXPIRES = tuple(
    before + name
    for before in ("", "certificate.")
    for name in ("expires_at", "expiresAt", "expiration_date", "expirationDate", "not_after",
                 "notAfter", "expires", "expiry")
)  # fmt: skip
_DAYS = ("days_left", "daysLeft", "days_remaining", "daysRemaining", "days")
_DEVICE = (
    *("device.name", "device.model", "device", "device_name", "deviceName", "name", "model"),
    *("device.serial", "serial", "serial_number", "serialNumber"),
)
_OWNER = ("user.name", "user.email", "user", "owner.name", "owner", "mdm_user", "mdmUser", "email")
_TOKEN = ("name", "token.name", "enrollment.name", "label")
_ITEM = ("item.name", "item", "name", "model", "item.serial", "serial", "serial_number")

_SYSTEMS = {"android": "Android", "apple": "Apple", "windows": "Windows", "aosp": "AOSP"}


class Told(Struct, frozen=True):
    """What is made of a payload. Empty or None where it gave nothing; `used` are the dotted paths
    of the members that are in it."""

    title: str = ""
    text: str = ""
    severity: str | None = None
    used: frozenset[str] = frozenset()


class _Payload:
    """A payload that remembers what was taken out of it."""

    def __init__(self, data: dict[str, Any], at_ms: int) -> None:
        self._data = data
        self.at_ms = at_ms
        self.used: set[str] = set()

    def look(self, paths: tuple[str, ...]) -> str:
        """The first of these members that is a short text or a number, on one line."""
        return self._first(paths)[1]

    def take(self, paths: tuple[str, ...]) -> str:
        """The same, and it counts as told."""
        path, text = self._first(paths)
        if text:
            self.used.add(path)
        return text

    def lines(self, paths: tuple[str, ...]) -> str:
        """The first that is a text, or a list of texts; it counts as told."""
        for path in paths:
            value = self._at(path)
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(one, str) for one in texts):
                continue
            found = [one.strip() for one in texts if one.strip()]
            if found:
                self.used.add(path)
                return "\n".join(f"• {one}" for one in found) if texts is value else found[0]
        return ""

    def _first(self, paths: tuple[str, ...]) -> tuple[str, str]:
        for path in paths:
            text = _short(self._at(path))
            if text:
                return path, text
        return "", ""

    def _at(self, path: str) -> Any:
        value: Any = self._data
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value


def _short(value: Any) -> str:
    """A name or number; an id tells people nothing."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    text = value if isinstance(value, str) else readable(value)
    text = shortened(" ".join(text.split()), _WORD_CHARS_MAX)
    return "" if is_id(text) else text


def told(event_type: str, data: dict[str, Any], at_ms: int, *, titled: bool, texted: bool) -> Told:
    """What the payload of an event of this type says; nothing for a type that is no app's.

    `titled` and `texted` say that there is a title or text already: then the words that would make
    one stay where they are. A changelog is told beside any text.
    """
    make = _MADE.get(event_type)
    if make is None:
        return Told()
    payload = _Payload(data, at_ms)
    title, severity = make(payload, event_type)
    if titled:
        title = ""
        payload.used.clear()
    text = ""
    if event_type.startswith("build."):
        text = _excerpt(payload.lines(_CHANGELOG))
    elif event_type in ("feedback.created", "bug.created") and not texted:
        text = payload.lines(_SAID)
    return Told(title, text, severity, frozenset(payload.used))


def _excerpt(text: str) -> str:
    """The beginning of a changelog, whole lines as far as they fit."""
    lines = text.strip().splitlines()
    kept: list[str] = []
    room = EXCERPT_CHARS_MAX
    for line in lines[:EXCERPT_LINES_MAX]:
        if len(line) > room:
            break
        kept.append(line)
        room -= len(line) + 1
    if len(kept) == len(lines):
        return "\n".join(kept)
    return "\n".join([*kept, "…"]) if kept else shortened(lines[0], EXCERPT_CHARS_MAX)


def _app(payload: _Payload) -> str:
    """`Fjord 4.2.0`."""
    name = payload.take(_APP)
    return f"{name} {payload.take(_VERSION)}".strip() if name else ""


def _build(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    name = payload.take((*_APP, "name", "build.name"))
    version, number = payload.take(_VERSION), payload.take(_NUMBER)
    made_for = payload.take(_PLATFORM)
    what = " ".join(
        filter(None, (name, version, number and (f"({number})" if version else number)))
    )
    made_for = f" for {platform(made_for)}" if made_for else ""
    failed = payload.look(_STATUS).lower() in _FAILED
    if failed:
        verb = "Build failed"
    else:
        verb = "New build" if event_type == "build.created" else "Build ready"
    title = f"{verb}: {what}{made_for}" if what else verb + made_for
    told_any = failed or what or made_for
    return title if told_any else "", "error" if failed else None


def _feedback(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    author, app = payload.take(_AUTHOR), _app(payload)
    if event_type == "bug.created":
        by, on = f" reported by {author}" if author else "", f" in {app}" if app else ""
        return (f"Bug{on}{by}" if by or on else ""), None
    by, on = f" from {author}" if author else "", f" on {app}" if app else ""
    return (f"Feedback{by}{on}" if by or on else ""), None


def _certificate(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    what = payload.take(_CERTIFICATE) or "A certificate"
    when = _when(payload)
    return (f"{what} {when}" if when else f"{what} will expire"), "warning"


def _when(payload: _Payload) -> str:
    """`expires in 30 days`; the date itself stays to be read below."""
    expires = payload.look(_EXPIRES)
    days: int | None = None
    said = payload.look(_DAYS)
    if said.lstrip("-").isdecimal() and len(said) < 7:
        days = int(payload.take(_DAYS))
    elif expires:
        days = _days_until(expires, payload.at_ms)
    if days is None:
        return f"expires on {moment(expires)}" if expires else ""
    if days < 0:
        return "has expired"
    return {0: "expires today", 1: "expires tomorrow"}.get(days, f"expires in {days} days")


def _days_until(expires: str, at_ms: int) -> int | None:
    try:
        whole = expires if len(expires) > 10 else f"{expires}T00:00:00Z"
        return parse_time(whole) // DAY_MS - at_ms // DAY_MS
    except Invalid:
        return None


def _renovation(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    when = _when(payload)
    what = payload.take(_CERTIFICATE)
    title = "The Apple Push certificate " + (when or "has to be renewed")
    return (f"{title}: {what}" if what else title), "warning"


def _enrollment(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    name = payload.take(_TOKEN)
    title = f"New enrollment for {_system(event_type)} devices"
    return (f"{title}: {name}" if name else title), None


def _device(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    device, owner = payload.take(_DEVICE), payload.take(_OWNER)
    of = f" of {owner}" if owner else ""
    title = f"New {_system(event_type)} device"
    return (f"{title}{of}: {device}" if device else title + of), None


def _new_user(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    device, owner = payload.take(_DEVICE), payload.take(_OWNER)
    title = " ".join(filter(None, (_system(event_type), "device", device, "has a new user")))
    return (f"{title}: {owner}" if owner else title), None


def _item(payload: _Payload, event_type: str) -> tuple[str, str | None]:
    item = payload.take(_ITEM)
    return (f"New in the inventory: {item}" if item else "New in the inventory"), None


def _system(event_type: str) -> str:
    return _SYSTEMS[event_type.partition(".")[0]]


_MADE: dict[str, Callable[[_Payload, str], tuple[str, str | None]]] = {
    "build.created": _build,
    "build.processed": _build,
    "feedback.created": _feedback,
    "bug.created": _feedback,
    "certificate.will_expire": _certificate,
    "apple_push.renovation": _renovation,
    "inventory.item_registered": _item,
    **{f"{os}.enrollment.created": _enrollment for os in _SYSTEMS},
    **{f"{os}.device.created": _device for os in _SYSTEMS},
    **{f"{os}.device.changed_mdm_user": _new_user for os in _SYSTEMS},
}

"""What Tocsin's own events say to people: which channel is in trouble, and what to do about it.

Their payloads are made here (`service/outbox.py`), but nothing is taken for granted: a member that
is not as it should be is left out.
"""

from collections.abc import Callable
from typing import Any

from tocsin.domain.app_messages import Told
from tocsin.domain.wording import moment

_Make = Callable[[str, dict[str, Any]], tuple[str, str, str]]


def told_of_itself(event_type: str, data: dict[str, Any]) -> Told:
    """The message of an operational event; nothing for another one's type."""
    make = _MADE.get(event_type)
    if make is None:
        return Told()
    channel = data.get("channel")
    name = channel.get("name") if isinstance(channel, dict) else None
    called = f"channel “{name}”" if isinstance(name, str) else "a channel"
    title, text, severity = make(called, data)
    used = {"channel.name", "channel.id", "minute", "count", "failures", "failing_since", "reason"}
    return Told(title, text, severity, frozenset(used))


def _failing(name: str, data: dict[str, Any]) -> tuple[str, str, str]:
    failures = _number(data.get("failures"))
    text = f"The last {failures} deliveries to it have failed." if failures else ""
    return f"{_begun(name)} is failing", text, "warning"


def _recovered(name: str, data: dict[str, Any]) -> tuple[str, str, str]:
    return f"{_begun(name)} has recovered", "A delivery to it has arrived again.", "info"


def _disabled(name: str, data: dict[str, Any]) -> tuple[str, str, str]:
    waits = "What is sent to it waits until somebody enables it."
    since = data.get("failing_since")
    why = ""
    if data.get("reason") == "gone":
        why = "Its target says that it is gone for good."
    elif isinstance(since, str):
        why = f"It has only failed since {moment(since)}."
    return f"{_begun(name)} is disabled", f"{why} {waits}".strip(), "error"


def _exhausted(name: str, data: dict[str, Any]) -> tuple[str, str, str]:
    count, minute = _number(data.get("count")), data.get("minute")
    what = "1 delivery" if count == "1" else f"{count} deliveries".strip()
    verb, them = ("was", "it") if count == "1" else ("were", "them")
    when = f"In the minute from {moment(minute)}. " if isinstance(minute, str) else ""
    text = f"{when}Retry {them} once the target works."
    return f"{_begun(what)} to {name} {verb} given up", text, "error"


def _begun(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


_MADE: dict[str, _Make] = {
    "tocsin.channel.failing": _failing,
    "tocsin.channel.recovered": _recovered,
    "tocsin.channel.disabled": _disabled,
    "tocsin.delivery.exhausted": _exhausted,
}

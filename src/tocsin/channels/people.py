"""What the channel types that people read have in common: the message, and its icon."""

from tocsin.channels.base import Sending
from tocsin.domain.message import Message, message_of
from tocsin.domain.model import Event, Origin

SEVERITY_ICONS = {"info": "ℹ️", "warning": "⚠️", "error": "🔴", "critical": "🚨"}

_TYPE_ICONS = {
    "build": "📦",
    "feedback": "💬",
    "bug": "🐞",
    "certificate": "🔐",
    "apple_push": "🔐",
    "inventory": "🗃️",
    **dict.fromkeys(("android", "aosp", "apple", "windows"), "📱"),
}
_GOOD_NEWS = ("alert.resolved", "tocsin.channel.recovered")


def message_for(sending: Sending) -> tuple[str, Message]:
    """The message that people get, and an icon that goes before its title; a test greets them."""
    if sending.origin is Origin.TEST:
        return "👋", _test_message(sending)
    message = message_of(sending.event, sending.origin)
    return _icon(message, sending.event), message


def about(message: Message, event: Event) -> str:
    """`Warning  ·  build.created`, for the small print."""
    return f"{message.severity.capitalize()}  ·  {event.type}"


def _test_message(sending: Sending) -> Message:
    return Message(
        title="Hello from Tocsin",
        text=f"This is a test of the channel “{sending.channel.name}”. "
        "It works: its notifications will appear here.",
    )


def _icon(message: Message, event: Event) -> str:
    if message.severity != "info":
        return SEVERITY_ICONS[message.severity]
    if event.type in _GOOD_NEWS:
        return "✅"
    return _TYPE_ICONS.get(event.type.partition(".")[0], "🔔")

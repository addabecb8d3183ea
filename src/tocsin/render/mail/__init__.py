"""Mails for people: one message as HTML and as plain text, both saying the same."""

import functools
from pathlib import Path

from msgspec import Struct

from tocsin.domain.message import Message
from tocsin.render.templates import environment

FOLDER = Path(__file__).parent


_COLOURS = {"info": "#3b82f6", "warning": "#d97706", "error": "#ef4444", "critical": "#b91c1c"}


class Letter(Struct, frozen=True, kw_only=True):
    """What a mail shows: a message, and the small print below it."""

    message: Message
    event_type: str
    moment: str
    channel: str

    @property
    def severity(self) -> str:
        """The severity as a word."""
        return self.message.severity.capitalize()


def html(letter: Letter) -> str:
    """The page: nothing in it is loaded from elsewhere, and all of it is escaped."""
    template = _environment().get_template("mail.html")
    text: str = template.render(letter=letter, colour=_COLOURS[letter.message.severity])
    return text


def text(letter: Letter) -> str:
    """The same in plain words, for people and programs that show no HTML."""
    message = letter.message
    parts = [message.title]
    if message.text:
        parts.append(message.text)
    if message.fields:
        parts.append("\n".join(f"{name}: {value}" for name, value in message.fields))
    if message.link is not None:
        parts.append(message.link)
    parts.append(
        f"-- \n{letter.severity} · {letter.event_type} · {letter.moment}\n"
        f"Sent by Tocsin to the channel “{letter.channel}”."
    )
    return "\n\n".join(parts) + "\n"


_environment = functools.cache(lambda: environment(FOLDER))

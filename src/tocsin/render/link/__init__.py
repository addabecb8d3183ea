"""The page behind a one-time link: it says what a press of its button will do."""

import functools
from pathlib import Path

from msgspec import Struct

from tocsin.render.templates import environment

FOLDER = Path(__file__).parent
STYLE = "link.css"


class Field(Struct, frozen=True, kw_only=True):
    """One thing to fill in. `value` is what was given already, never a password."""

    name: str
    label: str
    type: str = "text"
    hint: str = ""
    value: str = ""
    complete: str = "off"


class Page(Struct, frozen=True, kw_only=True):
    """What the page says; without fields it is the end of the way."""

    title: str
    text: str
    error: str = ""
    button: str = ""
    fields: tuple[Field, ...] = ()


def html(page: Page) -> str:
    """The page; everything in it is escaped, and all it loads is its style sheet."""
    text: str = _environment().get_template("link.html").render(page=page)
    return text


def style() -> bytes:
    """The style sheet."""
    return (FOLDER / STYLE).read_bytes()


_environment = functools.cache(lambda: environment(FOLDER))

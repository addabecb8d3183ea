"""The API reference as a page: a template, a style sheet, and a script that it can do without."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from tocsin.render.templates import environment

_TOKEN = re.compile(
    r"""(?P<c>\#\ .*)|(?P<v>\$[A-Z_]+)|(?P<k>"[a-zA-Z_]+"(?=:))|(?P<t>"(?:[^"\\$]|\\.)*")"""
    r"""|(?P<n>(?<=[ \[])(?:-?[0-9.]+|true|false|null)(?=[,\n\]]|$))"""
)

FOLDER = Path(__file__).parent
ASSETS = {
    "reference.css": "text/css; charset=utf-8",
    "reference.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def page(reference: Mapping[str, Any]) -> str:
    """The page; everything in it is escaped."""
    text: str = _environment().get_template("page.html").render(reference)
    return text


def asset(name: str) -> bytes:
    """A file that the page loads."""
    return (FOLDER / name).read_bytes()


@functools.cache
def _environment() -> Environment:
    made = environment(FOLDER)
    made.filters["marked"] = marked
    made.filters["coloured"] = coloured
    made.filters["breakable"] = breakable
    return made


def marked(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    parts = [
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def coloured(text: str) -> Markup:
    """A command or JSON with its parts told apart."""
    parts: list[Markup] = []
    at = 0
    for found in _TOKEN.finditer(text):
        parts.append(escape(text[at : found.start()]))
        parts.append(Markup('<span class="{}">{}</span>').format(found.lastgroup, found[0]))
        at = found.end()
    return Markup("").join([*parts, escape(text[at:])])


def breakable(name: str) -> Markup:
    """A dotted name that may be broken after its dots."""
    return Markup(".<wbr>").join(name.split("."))

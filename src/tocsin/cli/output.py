"""Output: tables and records for people, JSON for scripts, failures that say what to do next.

Whatever comes from tenants or targets passes `visible`: nothing of it can steer a terminal.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tocsin.cli.errors import CommandFailed
from tocsin.domain.text import visible

PIPE_COLUMNS = 400
NOTHING = "–"

STYLES = {
    "active": "green",
    "delivered": "green",
    "failing": "yellow",
    "retry": "yellow",
    "waiting": "yellow",
    "sending": "cyan",
    "disabled": "dim",
    "cancelled": "dim",
    "exhausted": "red",
    "rejected": "red",
    "gone": "red",
}

# JSON escapes below U+0020 only; these could still steer or mislead a terminal.
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for a row a line in a pipe."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def as_json(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON text that is safe to print."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_json(value: Any) -> None:
    """The value as indented JSON."""
    print(as_json(value))


def shown(value: Any) -> str:
    """A value of the API in a cell."""
    match value:
        case None | "":
            return NOTHING
        case list() | dict() if not value:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case str():
            return visible(value)
        case list() if all(isinstance(item, str) for item in value):
            return visible(", ".join(value)) or NOTHING
        case dict() | list():
            return visible(as_json(value, indent=None))
        case _:
            return visible(str(value))


def cell(value: Any) -> Text:
    """The same with a colour where the word has one."""
    style = STYLES.get(value, "") if isinstance(value, str) else ""
    return Text(shown(value), style=style)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
    """One line a row; `columns` maps a member of a row to its heading."""
    out = console()
    if not rows:
        out.print(empty)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name, heading in columns.items():
        table.add_column(heading, overflow="fold", no_wrap=name == "id")
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in columns))
    out.print(table)


def print_record(members: Iterable[tuple[str, Any]]) -> None:
    """One object, a member a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in members:
        table.add_row(name, cell(value))
    console().print(table)


def print_line(text: str, style: str = "") -> None:
    """A sentence; made visible, never read as markup."""
    console().print(Text(visible(text, keep_layout=True), style=style), soft_wrap=True)


def print_hint(text: str) -> None:
    """What to do next, beside the output and not in it."""
    line = Text(visible(text, keep_layout=True), style="dim")
    console(stderr=True).print(line, soft_wrap=True)


def print_failure(failure: CommandFailed) -> None:
    """What went wrong and what to do about it, on standard error."""
    out = console(stderr=True)
    message = Text.assemble(("error: ", "bold red"), visible(failure.message, keep_layout=True))
    out.print(message, soft_wrap=True)
    if failure.hint:
        hint = Text.assemble(("try:   ", "bold"), visible(failure.hint, keep_layout=True))
        out.print(hint, soft_wrap=True)


def print_object(value: Mapping[str, Any], *, json: bool) -> None:
    """One object of the API."""
    if json:
        print_json(value)
    else:
        print_record((name.replace("_", " "), member) for name, member in value.items())


def done(sentence: str, value: Any, *, json: bool) -> None:
    """What was done: a sentence for people, the API's reply for scripts (`{}` for an empty one)."""
    if json:
        print_json({} if value is None else value)
    else:
        print_line(sentence)

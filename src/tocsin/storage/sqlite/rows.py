"""One statement over many rows, in as few steps of the database as possible.

Every step gives the interpreter lock away and takes it back; beside a busy event loop that costs
more than many rows. `Rows` hands over a thousand as one value, which the database takes apart
without the lock; `Values` is for payloads, and for rows that are few or unusual.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec

ROWS_PER_STEP = 1_000
PARAMETERS_MAX = 4_000

_CHUNKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)

Row = tuple[Any, ...]


class Values:
    """A statement of the form `before (row), (row), … after`.

    Only a few sizes of chunk are used, so that every text is prepared once and then comes from
    the connection's statement cache.
    """

    def __init__(self, before: str, row: str, after: str = "") -> None:
        self._texts = tuple(
            (n, f"{before} {', '.join([row] * n)} {after}")
            for n in _CHUNKS
            if n * row.count("?") <= PARAMETERS_MAX
        )

    def run(self, connection: sqlite3.Connection, rows: Sequence[Row], tail: Row = ()) -> int:
        """Run it for all rows, `tail` bound after each chunk; returns the rows it changed."""
        changed = 0
        at, left = 0, len(rows)
        for size, text in self._texts:
            while left >= size:
                values = list(chain.from_iterable(rows[at : at + size]))
                values.extend(tail)
                changed += connection.execute(text, values).rowcount
                at += size
                left -= size
        return changed


def texts(rows: Sequence[str]) -> list[str]:
    """Rows as JSON arrays for `Rows`, as many in each as one step takes.

    A row is a text of fields with fixed places, which the database finds in a third of the time
    that members of a JSON value take. It may hold no NUL, at which SQLite's JSON functions end it.
    Raises what the encoder raises for what is no text.
    """
    return [
        msgspec.json.encode(rows[at : at + ROWS_PER_STEP]).decode()
        for at in range(0, len(rows), ROWS_PER_STEP)
    ]


class Rows:
    """A statement that reads its rows from `json_each(?1)`; a `Layout` says what is in them."""

    def __init__(self, statement: str) -> None:
        self._statement = statement

    def run(self, connection: sqlite3.Connection, rows: Sequence[str], tail: Row = ()) -> int:
        """Run it for `texts` of rows, `tail` bound behind each; returns the rows it changed."""
        changed = 0
        for text in rows:
            changed += connection.execute(self._statement, (text, *tail)).rowcount
        return changed


class Layout:
    """Where the fields of a row are: so many, of these widths, and the rest.

    `template % values` is a row without its rest. It has `chars` characters; one of any other
    length has a value that does not fit.
    """

    def __init__(self, *widths: int) -> None:
        self._widths = widths
        self.template = "".join(f"%{width}s" for width in widths)
        self.chars = sum(widths)

    def text(self, at: int) -> str:
        """The text of a field, as SQL."""
        return f"substr(value, {1 + sum(self._widths[:at])}, {self._widths[at]})"

    def number(self, at: int) -> str:
        """The number in a field, as SQL; blanks are 0."""
        return f"CAST({self.text(at)} AS INTEGER)"

    @property
    def rest(self) -> str:
        """What stands behind the last field, as SQL."""
        return f"substr(value, {1 + self.chars})"

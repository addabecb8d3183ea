"""One statement over many rows, in as few steps of the database as possible.

`executemany` gives the interpreter lock away and takes it back for every row; beside a busy event
loop that costs more than the row. A statement with up to 128 rows of values is one step.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

_CHUNKS = (128, 64, 32, 16, 8, 4, 2, 1)

Row = tuple[Any, ...]


class Values:
    """A statement of the form `before (row), (row), … after`.

    Only a few sizes of chunk are used, so that every text is prepared once and then comes from
    the connection's statement cache.
    """

    def __init__(self, before: str, row: str, after: str = "") -> None:
        self._texts = tuple((n, f"{before} {', '.join([row] * n)} {after}") for n in _CHUNKS)

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

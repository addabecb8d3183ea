"""Tables as they are moved from one database to another: columns, keys, and sums to compare by.

What is different between the two is put right on the way: no node of the new one holds anything
yet, and times on the storage clock are moved to the clock of the new database.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from tocsin.storage.tables import metadata
from tocsin.storage.watch_tables import duties

Row = tuple[Any, ...]
Change = Callable[[Any], Any]

SUM_BYTES = 16
_SUMS = 1 << (8 * SUM_BYTES)

# `meta` and `nodes` are the databases' own, and so is who has which duty.
_OWN = frozenset({"meta", "nodes", duties.name})
_STORAGE_TIMES = {
    "lanes": (
        "next_due_ms",
        "blocked_until_ms",
        "backlog_before_ms",
        "backlog_due_ms",
        "breaker_until_ms",
    ),
    "deliveries": ("due_ms",),
}
_HOLDERS = {"lanes": ("owner",), "deliveries": ("node",)}

_encode = msgspec.msgpack.Encoder().encode


class MoveRefused(Exception):
    """What was to be moved can't be, or not to there; the message says what to do."""


class Sheet(Struct, frozen=True):
    """One table: its columns, which of them are its key, and what is changed on the way."""

    name: str
    columns: tuple[str, ...]
    key: tuple[int, ...]
    dated: int | None
    """The column whose day the row is stored under, where there is one."""
    changes: tuple[tuple[int, Change], ...]

    def key_of(self, row: Row) -> list[Any]:
        """Where a row stands in the order of the table."""
        return [row[at] for at in self.key]

    def changed(self, rows: Iterable[Sequence[Any]]) -> list[Row]:
        """Rows as the new database has them."""
        if not self.changes:
            return [tuple(row) for row in rows]
        made = []
        for row in rows:
            values = list(row)
            for at, change in self.changes:
                values[at] = change(values[at])
            made.append(tuple(values))
        return made


class Tally(Struct):
    """How many rows, and a sum of their hashes, whatever their order."""

    rows: int = 0
    total: int = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Count these rows in."""
        for row in rows:
            digest = blake2b(_encode(row), digest_size=SUM_BYTES).digest()
            self.total = (self.total + int.from_bytes(digest)) % _SUMS
            self.rows += 1

    @property
    def checksum(self) -> str:
        return f"{self.total:0{2 * SUM_BYTES}x}"


def sheets(ahead_ms: int) -> list[Sheet]:
    """All tables that are moved; `ahead_ms` is how far the old storage clock is ahead."""
    return [_sheet(table, ahead_ms) for table in metadata.sorted_tables if table.name not in _OWN]


def _sheet(table: sa.Table, ahead_ms: int) -> Sheet:
    columns = tuple(str(column.name) for column in table.columns)
    changes: list[tuple[int, Change]] = []
    for at, column in enumerate(table.columns):
        if isinstance(column.type, sa.Boolean):
            changes.append((at, _bool))
        elif column.name in _HOLDERS.get(table.name, ()):
            changes.append((at, _nobody))
        elif ahead_ms and column.name in _STORAGE_TIMES.get(table.name, ()):
            changes.append((at, _earlier(ahead_ms)))
    key = tuple(columns.index(column.name) for column in table.primary_key.columns)
    dated = key[0] if table.name in ("events", "deliveries", "attempts") else None
    return Sheet(str(table.name), columns, key, dated, tuple(changes))


def _bool(value: Any) -> bool | None:
    return None if value is None else bool(value)


def _nobody(value: Any) -> int:
    return 0


def _earlier(ahead_ms: int) -> Change:
    def change(value: int | None) -> int | None:
        # 0 is no moment: nothing is held back.
        return max(1, value - ahead_ms) if value else value

    return change

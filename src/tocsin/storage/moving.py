"""Moving a whole store from a SQLite file to PostgreSQL, in pages, and comparing what came.

Ended at any moment and run again it goes on where it was. The file is only read, but for what any
start does to it: it is migrated, and what a dead server held comes free.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from tocsin.clock import Clock
from tocsin.storage.folder import lock
from tocsin.storage.postgres.receiving import Done, Progress, Target
from tocsin.storage.sheets import MoveRefused, Sheet, Tally, sheets
from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.sqlite.giving import Source, reading

PAGE_ROWS = 2_000
PAGE_BYTES = 4 << 20
CLOCKS_AGREE_MS = 1_000
"""Clocks that differ by less are taken for the same."""

Told = Callable[[str, int, int], None]
"""Hears what is done, and how far it is: rows, of rows in all."""


class Place(Struct, frozen=True):
    """Where it goes: an address, and the same as it may be shown."""

    dsn: str
    shown: str
    prepared: bool = True


class Moved(Struct, frozen=True):
    """What there is now: rows and checksum of each table, the same in both databases.

    `resumed`: an earlier run had begun; `before`: one had done it all. `ahead_ms` is how far the
    file's storage clock was ahead of the database's: waiting times were moved by as much.
    """

    tables: dict[str, tuple[int, str]]
    resumed: bool
    before: bool
    ahead_ms: int

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.tables.values())


async def move(
    path: Path,
    place: Place,
    *,
    clock: Clock,
    began: Mapping[str, int],
    told: Told = lambda what, done, total: None,
    page_rows: int = PAGE_ROWS,
) -> Moved:
    """Move everything, or what an earlier run has left; `began` as in `open_store`.

    Raises StoreInUse while a server runs on the file, MoveRefused, StoreRefused, a SchemaMismatch,
    and OSError, each with a message that says what to do.
    """
    await _prepare(path, clock, began)
    held = lock(path)
    try:
        target = Target(place.dsn, place=place.shown, prepared=place.prepared)
        with reading(path) as source:
            try:
                async with target:
                    return await _move(source, target, clock, told, page_rows)
            except Exception as error:
                meant = target.meant(error)
                if meant is error:
                    raise
                raise meant from error
    finally:
        os.close(held)


async def _prepare(path: Path, clock: Clock, began: Mapping[str, int]) -> None:
    """Have the file as a start leaves it: of today's schema, and nothing in it held."""
    held = lock(path)
    try:
        with reading(path) as source:
            ready = not source.needs_start
            clock.start_above(source.latest_ms if source.schema else 0)
    finally:
        os.close(held)
    if not ready:
        async with SqliteStore(
            path,
            wall_ms=clock.wall_ms,
            storage_ms=clock.storage_ms,
            began=began,
            started=clock.start_above,
        ):
            pass


async def _move(source: Source, target: Target, clock: Clock, told: Told, page_rows: int) -> Moved:
    ahead_ms = clock.storage_ms() - await target.now_ms()
    if abs(ahead_ms) < CLOCKS_AGREE_MS:
        ahead_ms = 0
    state = await target.begin(source.state, ahead_ms)
    if isinstance(state, Done):
        return Moved(tables=state.tables, resumed=False, before=True, ahead_ms=state.ahead_ms)
    all_sheets = sheets(state.ahead_ms)
    counts = {sheet.name: source.count(sheet) for sheet in all_sheets}
    resumed = bool(state.table)
    await _copy(source, target, all_sheets, counts, state, told, page_rows)
    tables = await _compare(source, target, all_sheets, sum(counts.values()), told)
    done = Done(source=state.source, ahead_ms=state.ahead_ms, tables=tables)
    await target.finish(source.notes(), source.highest_node, done)
    return Moved(tables=tables, resumed=resumed, before=False, ahead_ms=state.ahead_ms)


async def _copy(
    source: Source,
    target: Target,
    all_sheets: Sequence[Sheet],
    counts: Mapping[str, int],
    state: Progress,
    told: Told,
    page_rows: int,
) -> None:
    names = [sheet.name for sheet in all_sheets]
    first = names.index(state.table) if state.table else 0
    done, total = sum(counts[name] for name in names[:first]), sum(counts.values())
    for sheet in all_sheets[first:]:
        above = state.position if sheet.name == state.table else []
        if above:
            done += source.count(sheet, above)
        told("copying", done, total)
        while rows := source.page(sheet, above, page_rows, PAGE_BYTES):
            above = sheet.key_of(rows[-1])
            progress = Progress(
                source=state.source, ahead_ms=state.ahead_ms, table=sheet.name, position=above
            )
            await target.page(sheet, rows, progress)
            done += len(rows)
            told("copying", done, total)


async def _compare(
    source: Source, target: Target, all_sheets: Sequence[Sheet], total: int, told: Told
) -> dict[str, tuple[int, str]]:
    """Read both databases again, whole; raises MoveRefused where they differ."""
    tables: dict[str, tuple[int, str]] = {}
    done = 0
    for sheet in all_sheets:
        here, there = Tally(), Tally()
        for rows in source.chunks(sheet):
            here.add(rows)
        async for rows in target.chunks(sheet):
            there.add(rows)
            told("comparing", done + there.rows, total)
        if here != there:
            raise MoveRefused(
                f"{sheet.name} differs: {here.rows:,} rows with the checksum {here.checksum} in "
                f"the file, {there.rows:,} with {there.checksum} in the database. Drop that "
                "database, make a new one, and begin anew; the file is as it was."
            )
        done += there.rows
        tables[sheet.name] = (there.rows, there.checksum)
    return tables

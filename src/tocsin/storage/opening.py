"""Opening the store that the settings name."""

import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tocsin.clock import Clock
from tocsin.config import Settings
from tocsin.storage.base import Store
from tocsin.storage.folder import lock
from tocsin.storage.sqlite import SqliteStore

NODE_FILE = "node"
MIB = 1 << 20

Copy = Callable[[Path, Callable[[int, int], None]], Coroutine[Any, Any, None]]

_log = logging.getLogger("tocsin.storage")


def _nothing() -> None:
    pass


class Signals:
    """What a store calls; set before it may matter.

    `died`: a part of the store has ended by itself. `lost`: this node's lease had ended, nothing it
    holds is its own any more. `woken`: another node has freed deliveries.
    """

    def __init__(self, died: Callable[[BaseException], None]) -> None:
        self.died = died
        self.lost: Callable[[], None] = _nothing
        self.woken: Callable[[], None] = _nothing


@asynccontextmanager
async def open_store(
    settings: Settings,
    clock: Clock,
    signals: Signals,
    *,
    began: Mapping[str, int] | None = None,
) -> AsyncIterator[Store]:
    """The store, open, and the clock put right by it; frees what an earlier process here held.

    `began` has the claims (delivery id → claim) whose send that process had begun. Raises
    StoreInUse, StoreRefused or SchemaMismatch, each with a message that says what to do.
    """
    if not settings.postgres:
        async with SqliteStore(
            settings.sqlite_path,
            wall_ms=clock.wall_ms,
            storage_ms=clock.storage_ms,
            began=began,
            started=clock.start_above,
            died=signals.died,
            reserve_bytes=settings.disk_reserve_mb * MIB,
        ) as store:
            yield store
        return
    # Imported only where it is needed: with SQLite it would be 10 MiB for nothing.
    from tocsin.storage.postgres import PostgresStore, Started

    place = settings.data_dir / NODE_FILE
    held = lock(place)
    try:
        earlier = _read(place)
        async with PostgresStore(
            settings.store,
            wall_ms=clock.wall_ms,
            storage_ms=clock.storage_ms,
            prepared=settings.postgres_prepared,
            before=None if earlier is None else Started(*earlier),
            began=began,
            numbered=lambda node: _write(place, node.number, node.at),
            measured=clock.follow,
            lost=lambda: signals.lost(),
            woken=lambda: signals.woken(),
            died=signals.died,
        ) as opened:
            yield opened
    finally:
        os.close(held)


def copying(store: Store) -> Copy | None:
    """How to copy the store's database file; None where there is no such file."""
    return store.copy if isinstance(store, SqliteStore) else None


def _read(place: Path) -> tuple[int, int] | None:
    """Number and start of the node that the process before this one was, if there was one."""
    try:
        number, at = place.read_text().split()
        return int(number), int(at)
    except (OSError, ValueError):
        return None


def _write(place: Path, number: int, at: int) -> None:
    try:
        descriptor = os.open(place, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            file.write(f"{number} {at}\n")
    except OSError as error:
        _log.warning("can't note the node's number in %s: %s", place, error)

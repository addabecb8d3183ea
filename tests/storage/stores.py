"""Real stores for tests, one parameter a driver, and small builders for their rows."""

import asyncio
import contextlib
import functools
import itertools
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, overload

import sqlalchemy as sa
from tests.postgres import apart, server

from tocsin.domain.ids import IdMaker
from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    ProjectId,
    Status,
)
from tocsin.storage.base import (
    AttemptRecord,
    Held,
    NewDelivery,
    NewEvent,
    Settlement,
)
from tocsin.storage.postgres import PostgresStore, Started
from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.tables import channels, lanes, organizations

DRIVERS = ("sqlite", "postgres")
ORGANIZATION = OrganizationId("a" * 24)

AnyStore = SqliteStore | PostgresStore

_ids = IdMaker(1)
_names = itertools.count()


def now_ms() -> int:
    """Wall and storage time of these tests."""
    return time.time_ns() // 1_000_000


def new_id() -> str:
    """An id above all before it."""
    return _ids.make(now_ms())


@overload
def open_store(
    driver: Literal["sqlite"], folder: Path, **options: Any
) -> AbstractAsyncContextManager[SqliteStore]: ...


@overload
def open_store(
    driver: str, folder: Path, **options: Any
) -> AbstractAsyncContextManager[AnyStore]: ...


def open_store(driver: str, folder: Path, **options: Any) -> AbstractAsyncContextManager[Any]:
    """A store of a driver on an empty or existing database in a folder."""
    return _opened(driver, folder, options)


@asynccontextmanager
async def _opened(driver: str, folder: Path, options: dict[str, Any]) -> AsyncIterator[AnyStore]:
    clock: dict[str, Callable[[], int]] = {"wall_ms": now_ms, "storage_ms": now_ms}
    if driver == "sqlite":
        lay_sqlite(folder / "tocsin.db")
        async with SqliteStore(folder / "tocsin.db", **{**clock, **options}) as store:
            yield store
        return
    assert driver == "postgres"
    place = _places.get(folder) or _new_place(folder)
    given = {"before": place.node, "numbered": place.note, **clock, **options}
    async with PostgresStore(server().dsn(place.database), **given) as opened:
        place.open += 1
        try:
            yield opened
        finally:
            place.open -= 1


def lay_sqlite(path: Path) -> None:
    """Where there is no file yet, put one that is migrated and was never used: Alembic takes longer
    than most tests do."""
    if not path.exists():
        path.write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory(prefix="tocsin-template-") as folder:
        path = Path(folder) / "tocsin.db"

        async def start() -> None:
            async with SqliteStore(path, wall_ms=now_ms, storage_ms=now_ms):
                pass

        apart(start)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM nodes")
            connection.commit()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


class _Place:
    """The database that stands for a folder, and the node that was there before."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.node: Started | None = None
        self.open = 0

    def note(self, node: Started) -> None:
        self.node = node


CLOSED_KEPT = 2
_places: dict[Path, _Place] = {}


def _new_place(folder: Path) -> _Place:
    """Takes over, emptied, the database of a folder that no test comes back to."""
    closed = [other for other, place in _places.items() if not place.open]
    if len(closed) > CLOSED_KEPT:
        database = _places.pop(closed[0]).database
        server().clean(database)
    else:
        database = server().migrated()
    place = _places[folder] = _Place(database)
    return place


async def make_organization(store: AnyStore, organization_id: str = ORGANIZATION) -> None:
    """An organization at version 1."""
    row = {
        "id": organization_id,
        "name": "Acme",
        "slug": f"acme-{next(_names)}",
        "version": 1,
        "created_at": 1,
        "updated_at": 1,
    }
    await store.write(lambda c: c.execute(sa.insert(organizations).values(row)).rowcount)


async def make_channel(store: AnyStore, organization_id: str = ORGANIZATION) -> ChannelId:
    """An open channel with its lane, at version 1."""
    channel_id = new_id()
    row = {
        "id": channel_id,
        "organization_id": organization_id,
        "type": "webhook",
        "name": "a channel",
        "event_types": '["*"]',
        "filter": "[]",
        "schedule": '["5s"]',
        "timeout_ms": 15000,
        "ordered": False,
        "enabled": True,
        "sealed": b"",
        "version": 1,
        "created_at": 1,
        "updated_at": 1,
    }
    lane = {"channel_id": channel_id, "organization_id": organization_id, "version": 1}

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.insert(channels).values(row))
        connection.execute(sa.insert(lanes).values(lane))

    await store.write(work)
    return ChannelId(channel_id)


def new_event(
    *channel_ids: ChannelId,
    claim: bool = True,
    data: bytes = b'{"n": 1}',
    organization_id: str = ORGANIZATION,
    project_id: str | None = None,
    version: int = 1,
    due_ms: int | None = None,
    **fields: Any,
) -> NewEvent:
    """An event with one delivery to each channel."""
    stamp = now_ms()
    return NewEvent(
        event=Event(
            id=EventId(new_id()),
            organization_id=OrganizationId(organization_id),
            project_id=None if project_id is None else ProjectId(project_id),
            type="build.created",
            data=data,
            occurred_at=stamp,
            created_at=stamp,
        ),
        deliveries=[NewDelivery(DeliveryId(new_id()), c, claim) for c in channel_ids],
        version=version,
        due_ms=stamp if due_ms is None else due_ms,
        **fields,
    )


def born(event: NewEvent, at: int = 0) -> Held:
    """The delivery of an event as it is held when it was claimed at birth."""
    delivery = event.deliveries[at]
    return Held(
        id=delivery.id,
        claim=1,
        channel_id=delivery.channel_id,
        event=event.event,
        origin=Origin.EVENT,
        number=1,
        step=0,
        lost=0,
        due_ms=event.due_ms,
    )


def settlement(held: Held, status: Status = Status.DELIVERED, **fields: Any) -> Settlement:
    """How a held delivery went on."""
    ok = status is Status.DELIVERED
    made = Settlement(
        id=held.id,
        claim=held.claim,
        organization_id=held.event.organization_id,
        channel_id=held.channel_id,
        origin=held.origin,
        version=1,
        status=status,
        finished_at=now_ms(),
        due_ms=now_ms(),
        step=held.step + (not ok),
        attempt=AttemptRecord(
            number=held.number,
            started_at=now_ms(),
            duration_ms=3,
            outcome="delivered" if ok else "retry",
            status_code=204 if ok else 500,
            error=None if ok else "http_status: 500",
            response_body=None if ok else "no",
        ),
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def claim(store: AnyStore, at_ms: int | None = None, **limits: Any) -> list[Held]:
    """Claim with plenty of room."""
    given = {"room": 1000, "bytes_max": 1 << 24, "lane_room": 1000, "full": [], **limits}
    claims = await store.claim(now_ms=now_ms() if at_ms is None else at_ms, **given)
    return claims.held


async def rows(store: AnyStore, statement: str) -> list[dict[str, Any]]:
    """What the database says, read beside the writer; a test may read longer than a caller may."""
    if isinstance(store, PostgresStore):
        return await store.read(
            lambda c: [dict(row._mapping) for row in c.execute(sa.text(statement))]
        )
    return await asyncio.to_thread(_rows, store.path, statement)


def _rows(path: Path, statement: str) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as reader:
        reader.execute("PRAGMA query_only = ON")
        reader.row_factory = sqlite3.Row
        return [dict(row) for row in reader.execute(statement)]


async def one(store: AnyStore, statement: str) -> dict[str, Any]:
    """The only row of a statement."""
    found = await rows(store, statement)
    assert len(found) == 1
    return found[0]

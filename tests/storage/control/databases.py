"""Both databases for the control plane's tests: a SQLite file, and a PostgreSQL of our own."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from tests.postgres import server, sqlalchemy_url

from tocsin.storage.migrations import migrate
from tocsin.storage.postgres.partitions import make, missing_day

T = TypeVar("T")


class Database:
    """Runs functions of a connection, each in a transaction of its own."""

    name = ""

    async def run(self, work: Callable[[Connection], T]) -> T:
        raise NotImplementedError


class Sqlite(Database):
    """A file, with transactions that are begun by hand as the product does."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)

        @sa.event.listens_for(self.engine, "connect")
        def by_hand(connection: Any, _: object) -> None:
            connection.isolation_level = None

        @sa.event.listens_for(self.engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    async def run(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)


class Postgres(Database):
    """One database of a running server; partitions are made as rows ask for them."""

    name = "postgresql"

    def __init__(self, dsn: str) -> None:
        self.engine = create_async_engine(sqlalchemy_url(dsn))

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            return await self._run(work)
        except sa.exc.IntegrityError as error:
            day = missing_day(error.orig and error.orig.__cause__)
            if day is None:
                raise
            await self._run(lambda c: _prepare(c, day))
            return await self.run(work)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        async with self.engine.begin() as connection:
            return await connection.run_sync(work)


def _prepare(connection: Connection, day: int) -> None:
    migrate(connection)
    make(connection, [day])


@contextlib.asynccontextmanager
async def postgres_database(*, migrated: bool) -> AsyncIterator[Postgres]:
    """A new database of the session's server."""
    name = server().migrated() if migrated else server().empty()
    database = Postgres(server().dsn(name))
    try:
        yield database
    finally:
        await database.engine.dispose()
        server().drop(name)

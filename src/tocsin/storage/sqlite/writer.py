"""The one thread that writes: it gathers what is queued into one transaction and commits it.

Settles go before everything else in a transaction. If a statement fails for any reason but the
store itself, the transaction is rolled back and its operations run again one by one, and a plural
operation is split until the culprit is alone, so that no item fails another's commit.
"""

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from tocsin.domain.errors import TocsinError, Unavailable
from tocsin.storage.additions import Taken
from tocsin.storage.sqlite.known import Known
from tocsin.storage.sqlite.reserve import Reserve
from tocsin.telemetry.counts import StoreCounts

WAL_BYTES_MAX = 128 * 1024 * 1024
OPERATIONS_PER_TRANSACTION_MAX = 64
TRANSACTIONS_PER_LOOK = 4
DISK_FULL = "The disk is nearly full: nothing new is taken."
DISK_RETRY_SECONDS = 5

_STORE_FAULTS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
    }
)


def store_fault(error: BaseException) -> bool:
    """Whether an error is the store's own and not that of an item."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        # The driver's own: either the connection is closed, or a value is of no storable type.
        return "closed" in str(error)
    return code is None or code & 0xFF in _STORE_FAULTS


class CommitUnknown(Exception):
    """A COMMIT failed: whether it took effect is not known."""


class Operation(Protocol):
    """Work for the writer thread.

    `control` operations have a transaction of their own. `run` gives the answer; `split` gives
    smaller operations that together do the same, or nothing when it is the culprit itself, whose
    answer `alone` then gives. `join` puts the answers of the parts together. `taken` are the
    claims that an answer tells of: whoever never hears it can't hold them. One that `grows` brings
    new rows and is refused while the disk is nearly full.
    """

    order: int
    control: bool
    grows: bool

    def run(self, writer: "Writer") -> Any: ...

    def split(self) -> "Sequence[Operation]": ...

    def alone(self, error: Exception) -> "Operation | Exception": ...

    def join(self, answers: Sequence[Any]) -> Any: ...

    def taken(self, answer: Any) -> Sequence[Taken]: ...


_Ticket = tuple[Operation, asyncio.Future[Any]]


class Writer:
    """Owns the writing connection and its thread. `died` is called if the thread ends by itself.

    `free` gives claims back in the transaction under way. Below `reserve_bytes` of free disk no
    operation that `grows` is begun.
    """

    def __init__(
        self,
        path: Path,
        died: Callable[[BaseException], None],
        free: Callable[["Writer", Sequence[Taken]], None],
        connect: "Callable[[Path], sqlite3.Connection]",
        reserve_bytes: int = 0,
    ) -> None:
        self._path = path
        self._connect = connect
        self._died = died
        self._free = free
        self._reserve = Reserve(path, reserve_bytes)
        self._doubtful: list[Taken] = []
        self._tickets: list[_Ticket] = []
        self._ended = False
        self._queue: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="tocsin-writer", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._core: sa.Connection | None = None
        self._engine: sa.Engine | None = None
        self._transactions = 0
        self.crowded = False  # the log is to be emptied, and waits for readers
        self.node = 0
        self.known = Known()
        self.counts = StoreCounts()

    def start(self) -> None:
        """Start the thread; the connection opens with the first operation."""
        self._thread.start()

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    async def submit(self, operation: Operation) -> Any:
        """Run an operation in a transaction; its answer means that this was committed."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.put((operation, future))
        if self._ended:
            self._refuse_rest()
        # A waiter that is cancelled must not disturb the transaction.
        return await asyncio.shield(future)

    @property
    def waiting(self) -> int:
        """How many operations wait for a transaction."""
        return self._queue.qsize()

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection, for operations in the writer thread."""
        if self._connection is None:
            opened = self._connection = self._connect(self._path)
            # Made at once: its first use rolls back, so that must not be in a transaction.
            self._engine = core_engine(lambda: opened)
            self._core = self._engine.connect()
        return self._connection

    @property
    def core(self) -> sa.Connection:
        """The same connection for SQLAlchemy Core; the writer begins and commits."""
        assert self._core is not None, "the transaction has opened it"
        return self._core

    def _run(self) -> None:
        try:
            while True:
                self._tickets, closing = self._gather()
                if self._tickets:
                    self._group(self._tickets)
                    self._keep_small()
                if closing:
                    break
        except BaseException as error:  # the thread must never end in silence
            self._loop.call_soon_threadsafe(self._died, error)
        finally:
            self._disconnect()
            self._ended = True
            self._loop.call_soon_threadsafe(self._refuse_rest)

    def _refuse_rest(self) -> None:
        """Answer what nobody will work on any more: no waiter may hang on a thread that ended."""
        rest, self._tickets = self._tickets, []
        while not self._queue.empty():
            ticket = self._queue.get_nowait()
            if ticket is not None:
                rest.append(ticket)
        gone = Unavailable("The database is closed.")
        _resolve([(future, gone) for _, future in rest])

    def _gather(self) -> tuple[list[_Ticket], bool]:
        tickets: list[_Ticket] = []
        closing = False
        ticket = self._queue.get()
        while True:
            if ticket is None:
                closing = True
            else:
                tickets.append(ticket)
            if closing or len(tickets) >= OPERATIONS_PER_TRANSACTION_MAX:
                break
            try:
                ticket = self._queue.get_nowait()
            except queue.Empty:
                break
        return tickets, closing

    def _group(self, tickets: list[_Ticket]) -> None:
        hot = sorted((t for t in tickets if not t[0].control), key=lambda t: t[0].order)
        if any(operation.grows for operation, _ in hot) and self._full():
            grown = [ticket for ticket in hot if ticket[0].grows]
            self._answer(grown, [Unavailable(DISK_FULL, DISK_RETRY_SECONDS)] * len(grown))
            hot = [ticket for ticket in hot if not ticket[0].grows]
        if hot:
            self._answer(hot, self._together([operation for operation, _ in hot]))
        for ticket in tickets:
            if ticket[0].control:
                self.known.forget()
                self._answer([ticket], [self._apart(ticket[0])])

    def _full(self) -> bool:
        try:
            return self._reserve.reached(lambda: self.connection)
        except sqlite3.Error:
            return True

    def _together(self, operations: Sequence[Operation]) -> list[Any]:
        try:
            return self._transaction(operations)
        except (Unavailable, CommitUnknown) as error:
            return [_unavailable(error)] * len(operations)
        except Exception:
            return [self._apart(operation) for operation in operations]

    def _apart(self, operation: Operation) -> Any:
        try:
            return self._transaction([operation])[0]
        except (Unavailable, CommitUnknown) as error:
            return _unavailable(error)
        except TocsinError as error:
            return error
        except Exception as error:
            if operation.control:
                return error
            parts = operation.split()
            if parts:
                answers = [self._apart(part) for part in parts]
                for answer in answers:
                    if isinstance(answer, Unavailable):
                        return answer
                return operation.join(answers)
            smaller = operation.alone(error)
            if isinstance(smaller, Exception):
                return operation.join([smaller])
            return self._apart(smaller)

    def _transaction(self, operations: Sequence[Operation]) -> list[Any]:
        """Run operations in one transaction; raises Unavailable for faults of the store."""
        if self._doubtful:
            self._free_doubtful()
        began = time.monotonic()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            answers = [operation.run(self) for operation in operations]
        except Exception as error:
            self.counts.failed("rolled_back")
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            fault = cause is not None and store_fault(cause)
            if fault or not self._rollback():
                self._disconnect()
            if fault:
                raise Unavailable("The database is not available.") from error
            raise
        ready = time.monotonic()
        try:
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.counts.failed("unknown")
            self._disconnect()
            for operation, answer in zip(operations, answers, strict=True):
                self._doubtful += operation.taken(answer)
            raise CommitUnknown from error
        self.counts.committed(len(operations), began, ready, time.monotonic())
        return answers

    def _free_doubtful(self) -> None:
        """Give back what a commit of unknown outcome may have claimed: its answer was refused, so
        nobody on this node holds it, and nobody else would take it."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            self._free(self, self._doubtful)
            self.connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._disconnect()
            raise Unavailable("The database is not available.") from error
        self._doubtful = []

    def _rollback(self) -> bool:
        self.known.forget()
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return False
        return True

    def _answer(self, tickets: Sequence[_Ticket], answers: Sequence[Any]) -> None:
        pairs = [(future, answer) for (_, future), answer in zip(tickets, answers, strict=True)]
        self._loop.call_soon_threadsafe(_resolve, pairs)

    def _keep_small(self) -> None:
        """Now and then: keep the log bounded even when readers overlap for long."""
        self._transactions += 1
        if self._transactions % TRANSACTIONS_PER_LOOK:
            return
        self.known.bound()
        try:
            self.crowded = os.stat(f"{self._path}-wal").st_size > WAL_BYTES_MAX
            if self.crowded:
                busy = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                self.crowded = bool(busy)
        except (OSError, sqlite3.Error):
            pass  # the next transaction meets the same fault and reports it

    def _disconnect(self) -> None:
        self.known.forget()
        core, self._core = self._core, None
        engine, self._engine = self._engine, None
        connection, self._connection = self._connection, None
        for part in (core, connection):
            try:
                if part is not None:
                    part.close()
            except Exception:  # noqa: S110 - it is thrown away whatever it says
                pass
        if engine is not None:
            engine.dispose()


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    return Unavailable("The database did not confirm the commit; the outcome is unknown.")


def _resolve(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, answer in pairs:
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def connect(
    path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """A writing connection: WAL, every commit synced, transactions begun by hand."""
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        timeout=5,
        factory=factory,
    )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 4000",
        f"journal_size_limit = {WAL_BYTES_MAX}",
        "cache_size = -10000",
        "temp_store = MEMORY",
        "foreign_keys = ON",
        "secure_delete = ON",  # what is erased is gone; many builds of SQLite have it on anyway
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def core_engine(connection: Callable[[], sqlite3.Connection]) -> sa.Engine:
    """A SQLAlchemy engine over a connection of ours, which it neither begins nor commits."""
    engine = sa.create_engine(
        "sqlite://",
        creator=connection,
        poolclass=sa.StaticPool,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
    )
    return engine

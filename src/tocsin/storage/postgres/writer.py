"""The one task that writes: it gathers what is queued into one transaction and commits it.

While a transaction runs, further operations gather for the next one; whoever has more to come waits
for the `turn`, so that all of it goes together. Settles go before everything else in it.

All rows of `lanes` that its operations will change are locked first, in channel order
(organizations before them, where a channel may be disabled): two nodes never wait for each other
in a circle. If a statement fails for any reason but the store itself, the transaction is rolled
back and its operations run again one by one, and a plural operation is split until the culprit is
alone, so that no item fails another's commit.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Protocol

import asyncpg

from tocsin.domain.errors import TocsinError, Unavailable
from tocsin.domain.model import ChannelId
from tocsin.storage.additions import Taken
from tocsin.storage.postgres.again import again
from tocsin.storage.postgres.lanes import Lanes
from tocsin.storage.postgres.later import Later
from tocsin.storage.postgres.session import Connection, Sessions, store_fault
from tocsin.telemetry.counts import StoreCounts

OPERATIONS_PER_TRANSACTION_MAX = 64
GATHER_STEPS = 3
"""After so many steps of the event loop whoever was answered, or given his turn, has come again."""
RECONNECT_SECONDS = (0.0, 0.1, 0.25, 0.5, 1.0)
CLOSE_SECONDS = 5.0


class CommitUnknown(Exception):
    """A COMMIT was not confirmed: whether it took effect is not known."""


class Transaction:
    """The transaction under way; `freed` says that something may be claimed once it is committed.

    `numbers` are all node numbers that this process has had, the present one last.
    """

    __slots__ = ("connection", "freed", "lanes", "later", "numbers", "wall_ms")

    def __init__(self, connection: Connection, numbers: Sequence[int], wall_ms: int) -> None:
        self.connection = connection
        self.numbers = numbers
        self.wall_ms = wall_ms
        self.lanes = Lanes(connection)
        self.later = Later(connection)
        self.freed = False

    @property
    def node(self) -> int:
        return self.numbers[-1]

    async def write(self) -> None:
        """Write what waits for the end: then, and before a statement that has to see it."""
        await self.later.write(*self.lanes.changes())


class Operation(Protocol):
    """Work for the writer; its answer means that it is committed.

    `run` gives the answer. It touches no lane but those of `channels`, unless it never waits for
    their locks, or is to run `apart`, in a transaction of its own. `split` gives smaller operations
    that together do the same, or nothing when it is the culprit itself, whose answer `alone` then
    gives. `join` puts the answers of the parts together. `taken` are the claims that an answer
    tells of: whoever never hears it can't hold them.
    """

    @property
    def order(self) -> int: ...

    @property
    def apart(self) -> bool: ...

    @property
    def organizations(self) -> Collection[str]: ...

    @property
    def channels(self) -> Collection[ChannelId]: ...

    async def run(self, at: Transaction) -> Any: ...

    def split(self) -> "Sequence[Operation]": ...

    def alone(self, error: Exception) -> "Operation | Exception": ...

    def join(self, answers: Sequence[Any]) -> Any: ...

    def taken(self, answer: Any) -> Sequence[Taken]: ...


class Whole:
    """An operation that is not split: its error is its own."""

    order = 1
    apart = False
    organizations: Collection[str] = ()
    channels: Collection[ChannelId] = ()

    def split(self) -> Sequence[Operation]:
        return ()

    def alone(self, error: Exception) -> Operation | Exception:
        return error

    def join(self, answers: Sequence[Any]) -> Any:
        return answers[0]

    def taken(self, answer: Any) -> Sequence[Taken]:
        return ()


_Ticket = tuple[Operation, asyncio.Future[Any]]


class Writer:
    """Owns the writing connection and its task. `died` is called if the task ends by itself.

    `give_back` makes the operation that frees claims, `make_day` makes the partitions of a day,
    `freed` is told when something that was committed may be claimed by any node. `numbers` is
    shared with the store, which adds to it when this node had to take a new one.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        numbers: Sequence[int],
        wall_ms: Callable[[], int],
        died: Callable[[BaseException], None],
        give_back: Callable[[Sequence[Taken]], Operation],
        make_day: Callable[[int], Awaitable[object]],
        freed: Callable[[], None],
    ) -> None:
        self._sessions = sessions
        self._numbers = numbers
        self._wall_ms = wall_ms
        self._died = died
        self._give_back = give_back
        self._make_day = make_day
        self._freed = freed
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Ticket] = deque()
        self._wake = asyncio.Event()
        self._busy = self._more = False
        self._turns: list[asyncio.Future[None]] = []
        self._connection: Connection | None = None
        self._begun = False
        self._doubtful: list[Taken] = []
        self._failures = 0
        self._not_before = 0.0
        self._closing = False
        self.counts = StoreCounts()
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many operations wait for a transaction."""
        return len(self._queue)

    def start(self) -> None:
        """Start the task; the connection opens with the first operation."""
        self._task = self._loop.create_task(self._run(), name="tocsin writer")

    async def close(self) -> None:
        """Finish what is queued, then close the connection."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=CLOSE_SECONDS)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()

    async def turn(self) -> None:
        """Wait until no transaction is under way: what is submitted then goes with the next one."""
        if self._busy:
            turn: asyncio.Future[None] = self._loop.create_future()
            self._turns.append(turn)
            await turn

    def _give_turns(self) -> None:
        self._busy = False
        turns, self._turns = self._turns, []
        for turn in turns:
            if not turn.done():
                turn.set_result(None)

    async def submit(self, operation: Operation) -> Any:
        """Run an operation in a transaction; its answer means that this was committed."""
        if self._task is None or self._task.done():
            raise Unavailable("The database is closed.")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append((operation, future))
        self._wake.set()
        # A waiter that is cancelled must not disturb the transaction.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        tickets: list[_Ticket] = []
        try:
            while True:
                if not self._queue:
                    if self._closing:
                        return
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                count = min(len(self._queue), OPERATIONS_PER_TRANSACTION_MAX)
                tickets = [self._queue.popleft() for _ in range(count)]
                self._busy = True
                await self._group(tickets)
                self._give_turns()
                for _ in range(GATHER_STEPS):
                    await asyncio.sleep(0)
                self._more = bool(self._queue)
                if self._begun and not self._more:
                    await self._end()
        except BaseException as error:  # the task must never end in silence
            self._died(error)
            if not isinstance(error, Exception):
                self._refuse(tickets)
                raise
        finally:
            self._refuse(tickets)

    def _refuse(self, tickets: list[_Ticket]) -> None:
        """Answer what nobody will work on any more: no waiter may hang."""
        rest = [*tickets, *self._queue]
        self._queue.clear()
        self._give_turns()
        _resolve(rest, [Unavailable("The database is closed.")] * len(rest))

    async def _group(self, tickets: list[_Ticket]) -> None:
        together = sorted((t for t in tickets if not t[0].apart), key=lambda t: t[0].order)
        if together:
            _resolve(together, await self._together([operation for operation, _ in together]))
        for ticket in tickets:
            if ticket[0].apart:
                _resolve([ticket], [await self._apart(ticket[0])])

    async def _together(self, operations: Sequence[Operation]) -> list[Any]:
        try:
            return await self._transaction(operations)
        except (Unavailable, CommitUnknown) as error:
            return [_unavailable(error)] * len(operations)
        except Exception:
            return [await self._apart(operation) for operation in operations]

    async def _apart(self, operation: Operation) -> Any:
        try:
            return (await self._transaction([operation]))[0]
        except (Unavailable, CommitUnknown) as error:
            return _unavailable(error)
        except TocsinError as error:
            return error
        except Exception as error:
            parts = operation.split()
            if parts:
                answers = [await self._apart(part) for part in parts]
                for answer in answers:
                    if isinstance(answer, Unavailable):
                        return answer
                return operation.join(answers)
            smaller = operation.alone(error)
            if isinstance(smaller, Exception):
                return operation.join([smaller])
            return await self._apart(smaller)

    async def _transaction(self, operations: Sequence[Operation]) -> list[Any]:
        """Run operations in one transaction, again where that may help.

        Raises Unavailable for faults of the store, CommitUnknown, or an operation's own error.
        """
        return await again(
            lambda: self._once(operations), cause_of=lambda error: error, make_day=self._make_day
        )

    async def _once(self, operations: Sequence[Operation]) -> list[Any]:
        connection = await self._connected()
        if self._doubtful:
            # Its answer was refused, so nobody on this node holds it, and nobody else would take
            # it. The lock on its lanes waits for a COMMIT that may still be under way.
            await self._commit(connection, [self._give_back(self._doubtful)])
            self._doubtful = []
        return await self._commit(connection, operations)

    async def _commit(self, connection: Connection, operations: Sequence[Operation]) -> list[Any]:
        at = Transaction(connection, self._numbers, self._wall_ms())
        began = self._loop.time()
        try:
            if not self._begun:
                await self._sessions.begin(connection)
            self._begun = False
            organizations = {one for o in operations for one in o.organizations}
            await at.lanes.lock(organizations, {one for o in operations for one in o.channels})
            answers = [await operation.run(at) for operation in operations]
            await at.write()
        except Exception as error:
            self.counts.failed("rolled_back")
            fault = store_fault(error)
            if fault or not await self._rollback(connection):
                self._disconnect()
            if fault:
                raise Unavailable("The database is not available.") from error
            raise
        except BaseException:
            self._disconnect()
            raise
        ready = self._loop.time()
        # The next one begins with it, where there is one, or was one after the last: one answer
        # less to wait for.
        more = (self._more or bool(self._queue)) and self._sessions.prepared
        try:
            if await connection.execute("COMMIT AND CHAIN" if more else "COMMIT") != "COMMIT":
                raise AssertionError("an error inside of the transaction was passed over")
        except BaseException as error:
            self.counts.failed("unknown")
            self._disconnect()
            for operation, answer in zip(operations, answers, strict=True):
                self._doubtful += operation.taken(answer)
            raise CommitUnknown from error
        self._begun = more
        self.counts.committed(len(operations), began, ready, self._loop.time())
        if at.freed:
            self._freed()
        return answers

    async def _end(self) -> None:
        """End a transaction that was begun for nothing."""
        self._begun = False
        connection = self._connection
        if connection is not None and not await self._rollback(connection):
            self._disconnect()

    async def _rollback(self, connection: Connection) -> bool:
        try:
            await connection.execute("ROLLBACK")
        except Exception:
            return False
        return True

    async def _connected(self) -> Connection:
        """The open connection, opened again with growing pauses; raises Unavailable."""
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return connection
        if self._loop.time() < self._not_before:
            raise Unavailable("The database is not available.")
        self._begun = False
        try:
            self._connection = connection = await self._sessions.open()
        except Exception as error:
            pause = RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)]
            self._failures += 1
            self._not_before = self._loop.time() + pause
            raise Unavailable("The database is not available.") from error
        self._failures = 0
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._begun = False
        if connection is not None:
            connection.terminate()


def _unavailable(error: Exception) -> Unavailable:
    if isinstance(error, Unavailable):
        return error
    return Unavailable("The database did not confirm the commit; the outcome is unknown.")


def _resolve(tickets: Sequence[_Ticket], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(tickets, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

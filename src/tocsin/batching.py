"""Gathering single calls into plural ones while the previous plural call runs ("group commit").

An idle system adds no waiting: the first item starts a call at once. While it runs, later items
gather and go together in the next one, up to a weight; a busy system so pays one commit for
hundreds of items.

Whoever submits does so under a name. Names take turns, so that a flood under one of them makes
nobody else wait for more than its own share of a call.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


_Item = tuple[T, int, asyncio.Future[R]]


class _Line(Generic[T, R]):
    """What waits under one name."""

    __slots__ = ("queue", "waiting")

    def __init__(self) -> None:
        self.queue: deque[_Item[T, R]] = deque()
        self.waiting = 0

    def take(self, batch: list[_Item[T, R]], weight_max: int, *, alone: bool) -> int:
        """Move items to a batch; returns their weight. One that is too heavy goes `alone`."""
        queue, taken = self.queue, 0
        while queue:
            weight = queue[0][1]
            if taken + weight > weight_max and not (alone and not taken):
                break
            taken += weight
            batch.append(queue.popleft())
        self.waiting -= taken
        return taken


class Batcher(Generic[T, R]):
    """Runs `run(items)` one call at a time; every item gets its own answer, in order.

    `run` returns one result per item; a result that is an exception is raised to that item's
    waiter, an exception from `run` itself to all of its waiters. A waiter that is cancelled does
    not disturb the call. `weight_max` bounds the sum of weights of one call (a single heavier item
    goes alone). Each call waits for `turn` first, and gathers until then. Nothing bounds what
    waits: callers refuse or hold back before `submit`, by `fits`.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        weight_max: int,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._turn = turn
        self._run = run
        self._weight_max = weight_max
        self._lines: dict[str, _Line[T, R]] = {}
        self._task: asyncio.Task[None] | None = None
        self.waiting = 0

    def fits(self, name: str, waiting_max: int) -> bool:
        """Whether more may wait under a name, if `waiting_max` may wait in all: as much as is still
        free, so that there is always room for the next one."""
        if self.waiting * 2 <= waiting_max:
            return True
        line = self._lines.get(name)
        return line is None or line.waiting < waiting_max - self.waiting

    def submit(self, item: T, weight: int = 1, name: str = "") -> asyncio.Future[R]:
        """Queue an item; the future holds its answer."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        line.queue.append((item, weight, future))
        line.waiting += weight
        self.waiting += weight
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())
        return future

    async def close(self) -> None:
        """Wait until everything that was submitted is answered."""
        while self._task is not None:
            await asyncio.wait({self._task})

    async def _drain(self) -> None:
        try:
            while self._lines:
                if self._turn is not None:
                    await self._turn()
                batch = self._take()
                try:
                    results = await self._run([item for item, _, _ in batch])
                except Exception as error:
                    results = [error] * len(batch)
                for (_, weight, future), result in zip(batch, results, strict=True):
                    self.waiting -= weight
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    def _take(self) -> list[_Item[T, R]]:
        """The next call's items: in turn as much of each name as goes, until it is full."""
        batch: list[_Item[T, R]] = []
        left = self._weight_max
        while self._lines and left > 0:
            share = max(1, left // len(self._lines))
            taken = 0
            for name, line in list(self._lines.items()):
                weight = line.take(batch, min(share, left), alone=not batch)
                taken += weight
                left -= weight
                if not line.queue:
                    del self._lines[name]
                if left <= 0:
                    break
            if not taken:
                break
        if self._lines:
            # Who was served first is last the next time.
            first = next(iter(self._lines))
            self._lines[first] = self._lines.pop(first)
        return batch

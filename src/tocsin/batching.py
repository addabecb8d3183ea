"""Gathering single calls into plural ones while the previous plural call runs ("group commit").

An idle system adds no waiting: the first item starts a call at once. While it runs, later items
gather and go together in the next one, up to a weight; a busy system so pays one commit for
hundreds of items.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Runs `run(items)` one call at a time; every item gets its own answer, in order.

    `run` returns one result per item; a result that is an exception is raised to that item's
    waiter, an exception from `run` itself to all of its waiters. A waiter that is cancelled does
    not disturb the call. `weight_max` bounds the sum of weights of one call (a single heavier item
    goes alone). Nothing bounds what waits: callers refuse or hold back before `submit`, by
    `waiting`.
    """

    def __init__(
        self,
        run: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
        *,
        weight_max: int,
    ) -> None:
        self._run = run
        self._weight_max = weight_max
        self._queue: deque[tuple[T, int, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.waiting = 0

    def submit(self, item: T, weight: int = 1) -> asyncio.Future[R]:
        """Queue an item; the future holds its answer."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._queue.append((item, weight, future))
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
            while self._queue:
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

    def _take(self) -> list[tuple[T, int, asyncio.Future[R]]]:
        queue = self._queue
        batch = [queue.popleft()]
        weight = batch[0][1]
        while queue and weight + queue[0][1] <= self._weight_max:
            weight += queue[0][1]
            batch.append(queue.popleft())
        return batch

"""A bounded number of slots, shared between owners so that none can hold them all."""

import asyncio
from collections import deque


class FairSlots:
    """At most `total` slots; one owner holds at most `share`, a quarter of them unless it is given,
    and queues behind itself.

    Owners that wait take turns. Not for threads.
    """

    __slots__ = ("_free", "_held", "_share", "_waiting")

    def __init__(self, total: int, *, share: int | None = None) -> None:
        self._free = total
        self._share = share or max(1, total // 4)
        self._held: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def acquire(self, owner: str) -> None:
        """Wait for a slot; a cancelled waiter takes none."""
        if owner not in self._waiting and self._fits(owner):
            self._take(owner)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(owner)
            else:
                self._hand_on()
            raise

    def release(self, owner: str) -> None:
        """Give one slot back; it goes to the next owner in turn that may hold one more."""
        held = self._held[owner] - 1
        if held:
            self._held[owner] = held
        else:
            del self._held[owner]
        self._free += 1
        self._hand_on()

    def _fits(self, owner: str) -> bool:
        return self._free > 0 and self._held.get(owner, 0) < self._share

    def _take(self, owner: str) -> None:
        self._free -= 1
        self._held[owner] = self._held.get(owner, 0) + 1

    def _hand_on(self) -> None:
        for owner in tuple(self._waiting):
            queue = self._waiting.pop(owner)
            while queue and queue[0].done():
                queue.popleft()
            if queue and self._fits(owner):
                self._take(owner)
                queue.popleft().set_result(None)
                if queue:
                    self._waiting[owner] = queue  # to the end: the others come first now
            elif queue:
                self._waiting[owner] = queue

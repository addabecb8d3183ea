"""The worker: claims what is free and due, as far as this node has room."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from tocsin.clock import Clock
from tocsin.domain.errors import Unavailable
from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
from tocsin.engine.lanes import Lanes
from tocsin.storage.base import DataPlane, Held

CLAIM_MAX = 1_000
LANE_ROOM_MIN = 50
POLL_MS = 1_000
RELEASE_MAX = 2_000
RETRY_SECONDS = 0.5

_log = logging.getLogger("tocsin.engine")


class Worker:
    """Looks when something falls due, is woken, or a second has passed."""

    def __init__(
        self,
        *,
        store: DataPlane,
        lanes: Lanes,
        clock: Clock,
        offered: Callable[[], None],
        may_claim: Callable[[], bool],
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._offered = offered
        self._may_claim = may_claim
        self._wake = asyncio.Event()
        self._due_ms = 0
        self._left_some = False
        self._left_out: tuple[Sequence[ChannelId], Sequence[OrganizationId]] = ((), ())
        self._released: list[tuple[DeliveryId, int, ChannelId]] = []

    def wake(self, due_ms: int) -> None:
        """Something free falls due at this moment (storage ms)."""
        if due_ms < self._due_ms or self._due_ms == 0:
            self._due_ms = due_ms
            self._wake.set()

    def room(self) -> None:
        """Room has come free: look again, if the last look had to leave something."""
        if self._left_some and self._lanes.room and not self._lanes.still_full(*self._left_out):
            self._due_ms = self._clock.storage_ms()
            self._wake.set()

    def claimable(self) -> None:
        """A lane that a claim left out has room: look again."""
        self._due_ms = self._clock.storage_ms()
        self._wake.set()

    def release(self, held: Sequence[Held]) -> None:
        """Give deliveries back to the store with the next step; their room is free at once."""
        for item in held:
            self._lanes.gave_back(item.channel_id, len(item.event.data))
        self.give_back(held)

    def give_back(self, held: Sequence[Held]) -> None:
        """The same for what never had room in the lanes."""
        self._released += [(item.id, item.claim, item.channel_id) for item in held]
        if held:
            self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            now_ms = self._clock.storage_ms()
            pause_ms = max(0, min(POLL_MS, self._due_ms - now_ms)) if self._due_ms else POLL_MS
            if pause_ms:
                try:
                    async with asyncio.timeout(pause_ms / 1000):
                        await self._wake.wait()
                except TimeoutError:
                    pass
            self._wake.clear()
            try:
                await self.flush_released()
                await self._claim()
            except Unavailable as error:
                _log.warning("can't claim: %s", error)
                self._due_ms = self._clock.storage_ms() + int(RETRY_SECONDS * 1000)
                await asyncio.sleep(RETRY_SECONDS)

    async def flush_released(self) -> None:
        """Store what was released."""
        while self._released:
            batch = self._released[:RELEASE_MAX]
            await self._store.release(batch)
            del self._released[: len(batch)]

    async def _claim(self) -> None:
        await self._store.turn()
        lanes = self._lanes
        room = min(CLAIM_MAX, lanes.room)
        if not room or not self._may_claim():
            self._due_ms = 0
            self._left_some, self._left_out = True, ((), ())
            return
        full, over = lanes.full(), lanes.over()
        shut, rooms = lanes.narrow()
        # Less with less room, so that what is left is not one lane's.
        lane_room = max(LANE_ROOM_MIN, lanes.room // 8)
        # Whoever wakes the worker from here on is heard: this claim may not see what is new.
        self._due_ms = 0
        claims = await self._store.claim(
            now_ms=self._clock.storage_ms(),
            room=room,
            bytes_max=lanes.bytes_room,
            lane_room=lane_room,
            full=full + shut,
            over=over,
            rooms=rooms,
        )
        # What else is due and was left is told by the moment of the next look.
        self._left_some, self._left_out = bool(full or over), (full, over)
        lanes.look_behind(claims.held, min(lane_room, room), full)
        if not self._wake.is_set():
            self._due_ms = claims.next_due_ms or 0
        if claims.held:
            self.release(lanes.offer(claims.held, reserved=False))
        self._offered()

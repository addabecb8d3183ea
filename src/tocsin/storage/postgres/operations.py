"""The data plane's calls as operations for the writer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tocsin.domain.model import ChannelId, DeliveryId
from tocsin.storage import additions, settlements
from tocsin.storage.additions import Taken
from tocsin.storage.base import Added, Claims, NewEvent, Settled, Settlement
from tocsin.storage.postgres import adding, claiming, settling
from tocsin.storage.postgres.claiming import Wanted
from tocsin.storage.postgres.writer import Operation, Transaction, Whole

SETTLE, ADD = 0, 2


class Direct(Whole):
    """Statements of the driver's own, `apart` or joining whatever transaction is made next."""

    def __init__(
        self, work: Callable[[Transaction], Awaitable[Any]], *, apart: bool = False
    ) -> None:
        self._work = work
        self.apart = apart

    async def run(self, at: Transaction) -> Any:
        return await self._work(at)


class Add:
    """Publish; a culprit gets its own error, the others are stored."""

    order = ADD
    apart = False
    organizations: Sequence[str] = ()

    def __init__(self, items: Sequence[NewEvent]) -> None:
        self._items = items
        self.channels = {d.channel_id for item in items for d in item.deliveries}

    async def run(self, at: Transaction) -> list[Added]:
        return await adding.add(at, self._items)

    def split(self) -> Sequence[Operation]:
        half = len(self._items) // 2
        return (Add(self._items[:half]), Add(self._items[half:])) if half else ()

    def alone(self, error: Exception) -> Operation | Exception:
        return error

    def join(self, answers: Sequence[Any]) -> list[Added | Exception]:
        return additions.joined(answers)

    def taken(self, answer: Any) -> Sequence[Taken]:
        return additions.claimed_at_birth(self._items, answer)


class Settle:
    """Settle; a culprit is settled with a minimal attempt, never rolled back into a resend."""

    order = SETTLE
    apart = False

    def __init__(self, items: Sequence[Settlement], now_ms: int, *, minimal: bool = False) -> None:
        self._items = items
        self._now_ms = now_ms
        self._minimal = minimal
        self.organizations, self.channels = settling.touched(items)

    async def run(self, at: Transaction) -> Settled:
        return await settling.settle(at, self._items, self._now_ms)

    def split(self) -> Sequence[Operation]:
        half = len(self._items) // 2
        if not half:
            return ()
        return Settle(self._items[:half], self._now_ms), Settle(self._items[half:], self._now_ms)

    def alone(self, error: Exception) -> Operation | Exception:
        if self._minimal:
            return error
        return Settle([settlements.minimal(self._items[0])], self._now_ms, minimal=True)

    def join(self, answers: Sequence[Any]) -> Settled | Exception:
        return settlements.joined(answers)

    def taken(self, answer: Any) -> Sequence[Taken]:
        return ()


class Claim(Whole):
    """Claim free due deliveries."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted

    async def run(self, at: Transaction) -> Claims:
        return await claiming.claim(at, self._wanted)

    def taken(self, answer: Any) -> Sequence[Taken]:
        return [(item.id, item.claim, item.channel_id) for item in answer.held]


class Release(Whole):
    """Give claimed deliveries back."""

    def __init__(self, held: Sequence[tuple[DeliveryId, int, ChannelId]]) -> None:
        self._held = held
        self.channels = {channel_id for _, _, channel_id in held}

    async def run(self, at: Transaction) -> None:
        if self._held:
            await claiming.release(at, self._held)

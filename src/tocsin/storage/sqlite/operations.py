"""The data plane's calls as operations for the writer thread."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from tocsin.domain.model import ChannelId, DeliveryId, OrganizationId
from tocsin.storage import additions, settlements
from tocsin.storage.additions import Taken
from tocsin.storage.base import Added, NewEvent, Settled, Settlement
from tocsin.storage.sqlite import adding, claiming, settling
from tocsin.storage.sqlite.batches import AddBatch, SettleBatch
from tocsin.storage.sqlite.writer import Operation, Writer

SETTLE, OTHER, ADD, PURGE = 0, 1, 2, 3


class _Whole:
    """An operation that is not split: its error is its own."""

    order = OTHER
    control = False
    grows = False

    def split(self) -> Sequence[Operation]:
        return ()

    def alone(self, error: Exception) -> Operation | Exception:
        return error

    def join(self, answers: Sequence[Any]) -> Any:
        return answers[0]

    def taken(self, answer: Any) -> Sequence[Taken]:
        return ()


class Control(_Whole):
    """A control-plane function, in a transaction of its own."""

    control = True
    grows = False

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self._work = work

    def run(self, writer: Writer) -> Any:
        return self._work(writer.core)


class Direct(_Whole):
    """A function of the driver's own, joining whatever transaction is made next."""

    def __init__(self, work: Callable[[Writer], Any], order: int = OTHER) -> None:
        self._work = work
        self.order = order

    def run(self, writer: Writer) -> Any:
        return self._work(writer)


class Add:
    """Publish; a culprit gets its own error, the others are stored."""

    order = ADD
    control = False
    grows = True

    def __init__(self, items: Sequence[NewEvent], batch: AddBatch | None = None) -> None:
        self._items = items
        self._batch = batch

    def run(self, writer: Writer) -> list[Added]:
        return adding.add(writer.connection, writer.node, writer.known, self._items, self._batch)

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
    control = False
    grows = False

    def __init__(
        self,
        items: Sequence[Settlement],
        now_ms: int,
        wall_ms: int,
        batch: SettleBatch | None = None,
        *,
        minimal: bool = False,
    ) -> None:
        self._items = items
        self._now_ms = now_ms
        self._wall_ms = wall_ms
        self._batch = batch
        self._minimal = minimal

    def run(self, writer: Writer) -> Settled:
        return settling.settle(
            writer.connection,
            writer.node,
            writer.known,
            self._items,
            self._now_ms,
            self._wall_ms,
            self._batch,
        )

    def split(self) -> Sequence[Operation]:
        if self._batch is not None:
            # Either some claim no longer stands, or an item is at fault: this tells them apart.
            return (self._part(self._items, minimal=self._minimal),)
        half = len(self._items) // 2
        if not half:
            return ()
        return self._part(self._items[:half]), self._part(self._items[half:])

    def alone(self, error: Exception) -> Operation | Exception:
        if self._minimal:
            return error
        return self._part([settlements.minimal(self._items[0])], minimal=True)

    def _part(self, items: Sequence[Settlement], *, minimal: bool = False) -> Operation:
        return Settle(items, self._now_ms, self._wall_ms, minimal=minimal)

    def join(self, answers: Sequence[Any]) -> Settled | Exception:
        return settlements.joined(answers)

    def taken(self, answer: Any) -> Sequence[Taken]:
        return ()


class Claim(_Whole):
    """Claim free due deliveries."""

    def __init__(
        self,
        *,
        now_ms: int,
        room: int,
        bytes_max: int,
        lane_room: int,
        full: Sequence[ChannelId],
        over: Sequence[OrganizationId],
        rooms: Mapping[ChannelId, int],
    ) -> None:
        self._arguments = (now_ms, room, bytes_max, lane_room, full, over, rooms)

    def run(self, writer: Writer) -> claiming.Claimed:
        return claiming.claim(writer.connection, writer.node, *self._arguments)

    def taken(self, answer: Any) -> Sequence[Taken]:
        return [(row.id, row.claim + 1, row.channel_id) for row in answer[0]]


class Release(_Whole):
    """Give claimed deliveries back."""

    def __init__(self, held: Sequence[tuple[DeliveryId, int, ChannelId]], wall_ms: int) -> None:
        self._held = held
        self._wall_ms = wall_ms

    def run(self, writer: Writer) -> None:
        writer.known.open_lanes.difference_update(channel_id for _, _, channel_id in self._held)
        claiming.release(writer.connection, writer.node, self._held, self._wall_ms)

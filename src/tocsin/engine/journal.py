"""Which sends have begun: a small file that survives the process, not the machine.

A claim that is lost with its node counts against its delivery only if its send began. A database
write before every send would cost a commit; a mapped page costs a copy, and the kernel keeps it
when the process is killed.
"""

import mmap
import os
import struct
from pathlib import Path
from types import TracebackType

from tocsin.domain.model import DeliveryId

_SLOT = struct.Struct("<24sQ")
_EMPTY = bytes(_SLOT.size)


class SendJournal:
    """Slots of (delivery, claim), one for each send begun and not yet settled.

    A context manager. `began` holds what the file said when it was opened; `start` empties it,
    once the store has taken that over. `free` are the slots left: without one no send may begin.
    """

    def __init__(self, path: Path, slots: int) -> None:
        self._path = path
        self._slots = slots
        self.began: dict[str, int] = {}

    def __enter__(self) -> "SendJournal":
        descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            self.began = _read(descriptor)
            size = max(self._slots * _SLOT.size, os.fstat(descriptor).st_size)
            os.ftruncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.free: list[int] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._map.close()

    def start(self) -> None:
        """Empty every slot; from here on `begin` may be called."""
        self._map[:] = bytes(len(self._map))
        self.free = [at * _SLOT.size for at in range(self._slots)]

    def begin(self, delivery_id: DeliveryId, claim: int) -> int:
        """Note a send directly before its first byte; returns its slot."""
        slot = self.free.pop()
        _SLOT.pack_into(self._map, slot, delivery_id.encode(), claim)
        return slot

    def end(self, slot: int) -> None:
        """Forget a send whose settlement is committed."""
        self._map[slot : slot + _SLOT.size] = _EMPTY
        self.free.append(slot)


def _read(descriptor: int) -> dict[str, int]:
    size = os.fstat(descriptor).st_size
    content = os.pread(descriptor, size - size % _SLOT.size, 0)
    found = {}
    for delivery_id, claim in _SLOT.iter_unpack(content):
        if claim:
            found[delivery_id.decode("ascii", "replace")] = claim
    return found

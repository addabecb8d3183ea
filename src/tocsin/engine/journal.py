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
BYTES_READ_MAX = 16 * 1024 * 1024
"""More is no journal of ours, whatever it is."""


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
            os.fchmod(descriptor, 0o600)
            size = max(self._slots * _SLOT.size, min(os.fstat(descriptor).st_size, BYTES_READ_MAX))
            # Real blocks: writing to a mapped page that the disk has no room for kills a process.
            os.posix_fallocate(descriptor, 0, size)
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
    size = min(os.fstat(descriptor).st_size, BYTES_READ_MAX)
    content = os.pread(descriptor, size - size % _SLOT.size, 0)
    found: dict[str, int] = {}
    for raw, claim in _SLOT.iter_unpack(content):
        if claim:
            # The slot of an earlier claim may not be empty yet when the next one begins.
            delivery_id = raw.decode("ascii", "replace")
            found[delivery_id] = max(claim, found.get(delivery_id, 0))
    return found

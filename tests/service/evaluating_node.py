"""A node that does nothing but evaluate alert rules, as a process of its own that a test stops and
lets go on. Its clock stands at the minute that a file says; its lease is short."""

import asyncio
import mmap
import struct
import sys
from contextlib import suppress
from pathlib import Path

from tests.storage.stores import now_ms

from tocsin.clock import Clock
from tocsin.domain.alerts import MINUTE_MS
from tocsin.domain.errors import Unavailable
from tocsin.service import duties
from tocsin.service.duties import Duties
from tocsin.service.evaluating import GRACE_MS, Evaluator
from tocsin.storage.postgres import PostgresStore

DUTY = "evaluating alert rules"
LOOK_SECONDS = 0.02
LEASE_SECONDS = 0.3
_FORMAT = "<q"


class MinuteFile:
    """The minute that all of these processes live in."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(struct.pack(_FORMAT, 0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), struct.calcsize(_FORMAT))

    def read(self) -> int:
        minute: int = struct.unpack_from(_FORMAT, self._map)[0]
        return minute

    def write(self, minute: int) -> None:
        struct.pack_into(_FORMAT, self._map, 0, minute)


class FileClock(Clock):
    """Wall time from the file; what leases are measured by is the machine's own."""

    def __init__(self, minute: MinuteFile) -> None:
        super().__init__()
        self._minute = minute

    def wall_ms(self) -> int:
        return self._minute.read() * MINUTE_MS + GRACE_MS


async def main(dsn: str, path: Path) -> None:
    duties.SPARE_SECONDS = LEASE_SECONDS - LOOK_SECONDS
    clock = FileClock(MinuteFile(path))
    async with PostgresStore(dsn, wall_ms=now_ms, storage_ms=now_ms) as store:
        print(store.node, flush=True)
        evaluator, shared = Evaluator(store, clock), Duties(store, clock)
        while True:
            # The other one may have been stopped with a lock in its hands.
            with suppress(Unavailable):
                await shared.do(DUTY, LOOK_SECONDS, evaluator.run_once)
            await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))

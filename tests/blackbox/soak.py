"""What a soak is made of: targets that flap, publishers at a steady rate, and a ledger of both."""

import asyncio
import json
import os
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct
from tests.blackbox import stepped_clock
from tests.blackbox.load import Wire, request
from tests.blackbox.receiver import HANG, Answer, Receipt, Receiver, reply
from tests.blackbox.server import Tenant

STEADY = ("/steady/0", "/steady/1", "/steady/2")
FLAPPING, SLOW, IN_ORDER, DEAD = "/flapping", "/slow", "/in-order", "/dead"

HANG_TIMEOUT_SECONDS = 4
OUTAGE_EVERY_SECONDS, OUTAGE_SECONDS = 25.0, 4.0
FAULTS_MAX = 4
"""From so many attempts on a delivery is let through, unless everything is down."""
SLOW_REPLY_SECONDS = 0.5
ORDERED_REPLY_SECONDS = 0.004
DEAD_STEPS_SECONDS = (2, 4)
SAMPLE_SECONDS = 1.0
UP_SECONDS_MAX = 200.0
AGAIN_SECONDS = 0.05

CUT_HEAD = b"HTTP/1.1 200 OK\r\ncontent-le"
CUT_BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly the beg"

_FATES = (
    *((10, reply(500)),),
    *((5, reply(429)),),
    *((1, reply(503, retry_after="1")),),
    *((5, Answer(CUT_HEAD, then="reset")),),
    *((5, Answer(CUT_HEAD, then="close")),),
    *((5, Answer(b"", then="reset")),),
    *((2, HANG),),
    *((4, reply(after_seconds=SLOW_REPLY_SECONDS)),),
    *((3, Answer(CUT_BODY, then="close")),),
)
"""So many of a hundred attempts get this answer."""


class Tried(Struct, frozen=True):
    """One request that came in."""

    at: float
    attempt: int
    delivery_id: str


class Success(Struct, frozen=True):
    """One answer that says 2xx, when it was written."""

    at: float
    attempt: int
    delivery_id: str


Key = tuple[str, int]
"""A path and the number of an event."""


def number_of(receipt: Receipt) -> int:
    """The number the publisher gave the event."""
    number: int = receipt.json()["data"]["number"]
    return number


class Ledger(Receiver):
    """Keeps of each request only what is asked for later: a soak has hundreds of thousands.

    The flapping path has its faults until `heal`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tried: dict[Key, list[Tried]] = defaultdict(list)
        self.succeeded: dict[Key, list[Success]] = defaultdict(list)
        self.in_order: list[tuple[int, float, float]] = []
        """What came to the ordered channel: its number, when, and when it was answered."""
        self.well = False
        self._began = time.monotonic()
        self._failed: Counter[int] = Counter()

    def heal(self) -> None:
        """From now on every target but the dead one is well."""
        self.well = True

    def _received(self, receipt: Receipt) -> Answer:
        number = number_of(receipt)
        self.tried[receipt.path, number].append(
            Tried(receipt.at, receipt.attempt, receipt.delivery_id)
        )
        if receipt.path == DEAD:
            return reply(500)
        if receipt.path == IN_ORDER:
            return self._ordered(number)
        if self.well or receipt.path in STEADY:
            return reply()
        if receipt.path == SLOW:
            return reply(after_seconds=SLOW_REPLY_SECONDS)
        return self._fate(number, receipt)

    def _ordered(self, number: int) -> Answer:
        if number % 50 == 49 and self._failed[number] < 2:
            self._failed[number] += 1
            return reply(500, after_seconds=ORDERED_REPLY_SECONDS)
        return reply(after_seconds=ORDERED_REPLY_SECONDS)

    def _fate(self, number: int, receipt: Receipt) -> Answer:
        if (receipt.at - self._began) % OUTAGE_EVERY_SECONDS < OUTAGE_SECONDS:
            return reply(500)
        if len(self.tried[receipt.path, number]) > FAULTS_MAX:
            return reply()
        lot = (number * 7919 + receipt.attempt * 104_729) % 100
        for share, answer in _FATES:
            lot -= share
            if lot < 0:
                return answer
        return reply()

    def _answered(self, receipt: Receipt, answer: Answer) -> None:
        number, now = number_of(receipt), time.monotonic()
        if receipt.path == IN_ORDER:
            self.in_order.append((number, receipt.at, now))
        if answer.data.startswith(b"HTTP/1.1 2") and b"\r\n\r\n" in answer.data:
            self.succeeded[receipt.path, number].append(
                Success(now, receipt.attempt, receipt.delivery_id)
            )


class Clock:
    """The wall clock of the processes started with `command`, which may be put to another time."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.off_seconds = 0
        self._write()
        self.command = (
            *("env", f"{stepped_clock.VARIABLE}={self._file}"),
            *(sys.executable, "-P", stepped_clock.__file__, "serve"),
        )

    def step(self, seconds: int) -> None:
        """Put it forward, or back."""
        self.off_seconds += seconds
        self._write()

    def _write(self) -> None:
        # Renamed, so that nobody reads half of it.
        new = self._file.with_suffix(".new")
        new.write_text(str(self.off_seconds))
        new.replace(self._file)


class Sample(Struct, frozen=True):
    """What a process holds at an age."""

    age_seconds: float
    rss_mib: float
    descriptors: int


def sample(pid: int, age_seconds: float) -> Sample | None:
    """What a process holds now; None when it has ended."""
    _, _, rss = Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")
    if not rss:
        return None
    return Sample(age_seconds, int(rss.split()[0]) / 1024, len(os.listdir(f"/proc/{pid}/fd")))


class Accepted(Struct, frozen=True):
    """An event that had its 202, and when."""

    event_id: str
    at: float


class Publisher:
    """Publishes one organization's events of one type at a steady rate, through deaths.

    `again` is for what must be known to be in, one after the other: a publish without an answer is
    repeated under its idempotency key. Otherwise its fate stays unknown.
    """

    def __init__(self, tenant: Tenant, type: str, numbers: "Numbers", *, again: bool) -> None:
        self._tenant = tenant
        self._type = type
        self._numbers = numbers
        self._again = again
        self.accepted: dict[int, Accepted] = {}
        self.unknown: set[int] = set()
        self.refused: Counter[int] = Counter()
        self.up = asyncio.Event()
        self.up.set()
        self.ending = False

    async def run(self, rate: float, connections: int) -> None:
        """Until `ending`; a rate of 0 is as fast as it is answered."""
        connections = 1 if self._again else connections
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._connection(connections / rate if rate else 0.0))

    async def _connection(self, every_seconds: float) -> None:
        wire: Wire | None = None
        due = time.monotonic()
        while not self.ending:
            # What a death has kept from being published is not made up for.
            due = max(due + every_seconds, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            number = self._numbers.next()
            asked = self._request(number)
            while True:
                wire = wire or await self._connect()
                if await self._said(wire, number, asked):
                    break
                wire.close()
                wire = None
                if not self._again:
                    self.unknown.add(number)
                    break
                await asyncio.sleep(AGAIN_SECONDS)
        if wire is not None:
            wire.close()

    def _request(self, number: int) -> bytes:
        body: dict[str, Any] = {"type": self._type, "data": {"number": number}}
        if self._again:
            body["idempotency_key"] = str(number)
        return request(self._tenant, json.dumps(body).encode())

    async def _said(self, wire: Wire, number: int, asked: bytes) -> bool:
        try:
            status, body = await wire.ask(asked)
        except (OSError, asyncio.IncompleteReadError):
            return False
        if status == 202:
            self.accepted[number] = Accepted(json.loads(body)["id"], time.monotonic())
        else:
            self.refused[status] += 1
        return status == 202 or not self._again

    async def _connect(self) -> Wire:
        async with asyncio.timeout(UP_SECONDS_MAX):
            while True:
                await self.up.wait()
                with suppress(OSError):
                    return await Wire.open(self._tenant.server.port)
                await asyncio.sleep(0.01)


class Numbers:
    """Numbers that no two events share."""

    def __init__(self) -> None:
        self._last = -1

    def next(self) -> int:
        self._last += 1
        return self._last

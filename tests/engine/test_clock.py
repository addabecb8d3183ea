"""Steps of the wall clock, and of a monotonic clock that is none: due times go on as they were."""

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.parts import Receiver, running
from tests.storage.stores import rows

from tocsin.clock import Clock
from tocsin.storage.sqlite import SqliteStore

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
ERROR = b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"


class Sources:
    """Two clocks that a test moves, in milliseconds."""

    def __init__(self, wall_ms: int, monotonic_ms: int) -> None:
        self.wall_ms = wall_ms
        self.monotonic_ms = monotonic_ms

    def clock(self) -> Clock:
        return Clock(lambda: self.wall_ms * 1_000_000, lambda: self.monotonic_ms * 1_000_000)


class SteppedClock(Clock):
    """The real clock with a wall that somebody puts forward or back."""

    def __init__(self, stepped_ms: int = 0) -> None:
        super().__init__()
        self._base_ms += stepped_ms
        self.stepped_ms = stepped_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self.stepped_ms


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as opened:
        yield opened


def test_storage_time_is_wall_time_at_the_start_and_then_its_own() -> None:
    sources = Sources(1_000_000, 500)
    clock = sources.clock()
    assert clock.storage_ms() == 1_000_000
    sources.wall_ms -= 2 * HOUR_MS
    sources.monotonic_ms += 250
    assert clock.storage_ms() == 1_000_250
    assert clock.wall_ms() == 1_000_000 - 2 * HOUR_MS


def test_it_never_begins_below_what_is_stored() -> None:
    clock = Sources(1_000_000, 500).clock()
    clock.start_above(999_999)
    assert clock.storage_ms() == 1_000_000
    clock.start_above(5_000_000)
    assert clock.storage_ms() == 5_000_000


def test_it_goes_on_where_the_monotonic_clock_goes_back() -> None:
    sources = Sources(1_000_000, 50_000)
    clock = sources.clock()
    sources.monotonic_ms += 10_000
    assert clock.storage_ms() == 1_010_000
    sources.monotonic_ms -= 30_000
    assert clock.storage_ms() == 1_010_000
    sources.monotonic_ms += 7
    assert clock.storage_ms() == 1_010_007


@pytest.mark.parametrize("step_ms", [HOUR_MS, -2 * HOUR_MS])
async def test_a_step_delays_no_retry_and_sends_nothing_twice(
    tmp_path: Path, receiver: Receiver, step_ms: int
) -> None:
    clock = SteppedClock()
    async with running(tmp_path, clock=clock) as parts:
        await parts.channel(receiver.url, schedule=("1s", "1s"))
        receiver.script = [ERROR]
        await parts.publish(1)
        await parts.attempts(1)
        receiver.hang.clear()
        await parts.publish(1)
        await receiver.came(2)
        clock.stepped_ms += step_ms
        await parts.publish(3)
        receiver.hang.set()
        await receiver.came(6)
        await parts.settled(5)
    assert len(receiver.bodies) == 6
    async with running(tmp_path, clock=clock) as parts:
        found = await rows(parts.store, "SELECT id, event_id FROM deliveries")
    assert len({row["id"] for row in found} | {row["event_id"] for row in found}) == 10


async def test_a_clock_put_back_before_a_restart_delays_no_retry(tmp_path: Path) -> None:
    """The wall was two hours ahead, is put right, and only then the process starts again."""
    ahead = Sources(10 * HOUR_MS, 0).clock()
    async with SqliteStore(
        tmp_path / "tocsin.db", wall_ms=ahead.wall_ms, storage_ms=ahead.storage_ms
    ) as store:
        noted = ahead.storage_ms()
        await store.note_time()
    right = Sources(8 * HOUR_MS, 0).clock()
    async with SqliteStore(
        tmp_path / "tocsin.db",
        wall_ms=right.wall_ms,
        storage_ms=right.storage_ms,
        started=right.start_above,
    ):
        assert right.storage_ms() == noted


def test_a_stepped_machine_shows_the_same() -> None:
    """The real clocks under libfaketime, where that is installed."""
    faketime = shutil.which("faketime")
    if faketime is None:
        pytest.skip("LIBFAKETIME IS NOT INSTALLED: no real clock was stepped")
    code = (
        "from tocsin.clock import Clock; import time; c = Clock(); a = c.storage_ms();"
        " time.sleep(0.2); b = c.storage_ms(); assert 0 < b - a < 60_000, b - a"
    )
    for start in ("+1h", "-2h"):
        subprocess.run([faketime, "-f", start, sys.executable, "-c", code], check=True, timeout=60)


def test_it_follows_another_clock_but_not_back() -> None:
    """A database's: taken as it is at first, then put right by a little, and never set back."""
    monotonic = [1_000_000_000]
    clock = Clock(lambda: 5_000_000_000_000_000, lambda: monotonic[0])
    clock.follow(2_000_000, 1.0)
    assert clock.storage_ms() == 2_000_000
    clock.follow(2_000_500, 1.0)  # a little off: put right by less than that
    assert 2_000_000 < clock.storage_ms() < 2_000_010
    clock.follow(1_000_000, 1.0)  # it was set back: time goes on from where it is
    before_ms = clock.storage_ms()
    monotonic[0] += 5_000_000_000
    assert clock.storage_ms() == before_ms + 5_000
    clock.follow(9_000_000, 6.0)  # it was set forward
    assert clock.storage_ms() == 9_000_000

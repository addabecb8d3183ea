"""When counts are rolled up, and how far back each kind of bucket can be read."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.storage.stores import ORGANIZATION, AnyStore, make_channel, make_organization, open_store

from tocsin.domain.permissions import Caller
from tocsin.service.sight import Sight
from tocsin.service.statistics import Bucket, Statistics
from tocsin.storage.control import rolling
from tocsin.storage.watch_tables import channel_minutes

pytestmark = pytest.mark.anyio

DAY = rolling.DAY
START = 20_000 * DAY
OPERATOR = Caller(kind="operator", name="operator", grants=("*",))


class Watched:
    """A store, and statistics of it at a time that the test chooses."""

    def __init__(self, store: AnyStore) -> None:
        self.store = store
        self.minute = START
        clock = SimpleNamespace(wall_ms=lambda: self.minute * 60_000)
        changes: Any = SimpleNamespace(store=store, clock=clock)
        self.statistics = Statistics(changes=changes, directory=None)  # type: ignore[arg-type]

    async def count(self, channel: str, minutes: list[int]) -> None:
        counts = dict.fromkeys(("attempts", "failed", "delivered", "exhausted"), 1)
        place = {"channel_id": channel, "organization_id": ORGANIZATION, "node": 1}
        rows = [{**place, **counts, "minute": minute, "l3": 1} for minute in minutes]
        await self.store.write(lambda c: c.execute(sa.insert(channel_minutes), rows).rowcount)

    async def attempts(self, bucket: Bucket, days: int) -> int:
        found = await self.statistics.read(
            OPERATOR,
            Sight(ORGANIZATION),
            bucket=bucket,
            after=(self.minute - days * DAY) * 60_000,
        )
        return sum(step.attempts for step in found)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with open_store("sqlite", tmp_path) as store:
        await make_organization(store)
        yield Watched(store)


async def test_minutes_become_hours_then_days_then_nothing(watched: Watched) -> None:
    channel = await make_channel(watched.store)
    await watched.count(channel, [START - at for at in (1, 59, 61, 600)])
    assert await watched.statistics.roll_up() == 0
    assert await watched.attempts(Bucket.MINUTE, 1) == 4
    watched.minute = START + 3 * DAY + 60
    assert await watched.statistics.roll_up() == 4
    assert await watched.attempts(Bucket.HOUR, 5) == 4
    assert await watched.statistics.roll_up() == 0
    watched.minute = START + 91 * DAY
    assert await watched.statistics.roll_up() == 3  # hours
    assert await watched.attempts(Bucket.DAY, 100) == 4
    watched.minute = START + 399 * DAY
    assert await watched.statistics.roll_up() == 0
    assert await watched.attempts(Bucket.DAY, 401) == 4
    watched.minute = START + 402 * DAY
    assert await watched.statistics.roll_up() == 1
    assert await watched.attempts(Bucket.DAY, 410) == 0


async def test_many_rows_are_rolled_up_in_several_steps(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling, "ROWS_PER_STEP_MAX", 7)
    channels = [await make_channel(watched.store) for _ in range(3)]
    for channel in channels:
        await watched.count(channel, [START - at for at in range(1, 41)])
    watched.minute = START + 4 * DAY
    assert await watched.statistics.roll_up() == 120
    assert await watched.attempts(Bucket.HOUR, 6) == 120


async def test_an_organization_with_many_channels_is_read_in_parts(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.service.statistics.CHANNELS_PER_READ", 2)
    for _ in range(5):
        await watched.count(await make_channel(watched.store), [START - 5, START - 70])
    assert await watched.attempts(Bucket.HOUR, 1) == 10

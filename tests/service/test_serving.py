"""Which minutes a node notes as served: whole ones, without a break, by a clock that is driven."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.stores import DRIVERS, AnyStore, open_store

from tocsin.clock import Clock
from tocsin.domain.alerts import MINUTE_MS
from tocsin.service.serving import KEPT_MINUTES, Serving
from tocsin.storage.control import alerting

pytestmark = pytest.mark.anyio

M = 29_000_000


class Node(Clock):
    """A node whose wall time and machine time a test moves."""

    def __init__(self, store: AnyStore) -> None:
        super().__init__()
        self.store = store
        self.wall = M * MINUTE_MS + 30_000
        self.machine = 7.0
        self.is_ready = True
        self.refused = 0
        self.serving = Serving(store, self, ready=lambda: self.is_ready, refused=self.count)

    def wall_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.machine

    def count(self) -> int:
        return self.refused

    async def goes_on(self, seconds: float, *, step: float = 5.0) -> None:
        """Look every few seconds for so long."""
        for _ in range(round(seconds / step)):
            self.wall += round(step * 1000)
            self.machine += step
            await self.serving.look()

    async def noted(self) -> list[int]:
        """The minutes, from the first one on."""
        found = await self.store.read(
            lambda c: alerting.served(c, since_minute=0, until_minute=2 * M)
        )
        return sorted(minute - M for minute in found)


@pytest.fixture(params=DRIVERS)
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    async with open_store(request.param, tmp_path) as store:
        yield Node(store)


async def test_whole_minutes_but_not_the_first_one(node: Node) -> None:
    await node.goes_on(85)
    assert await node.noted() == []
    await node.goes_on(5)
    assert await node.noted() == [1]
    await node.goes_on(180)
    assert await node.noted() == [1, 2, 3, 4]


@pytest.mark.parametrize("what", ["not ready", "refused", "stopped", "set back", "set ahead"])
async def test_a_minute_with_a_break_is_none(node: Node, what: str) -> None:
    await node.goes_on(100)  # ten seconds into the third minute
    match what:
        case "not ready":
            node.is_ready = False
            await node.goes_on(5)
            node.is_ready = True
        case "refused":
            node.refused += 1
        case "stopped":
            await node.goes_on(30, step=30)
        case "set back":
            node.wall -= 4_000
        case "set ahead":
            node.wall += 4_000
    await node.goes_on(120)
    assert await node.noted() == [1, 3]


async def test_old_ones_are_forgotten(node: Node) -> None:
    await node.store.write(lambda c: alerting.serve(c, [M - KEPT_MINUTES, M - 10], node=9))
    await node.goes_on(90)
    assert await node.noted() == [-10, 1]


async def test_a_minute_is_noted_once_by_each_node(node: Node) -> None:
    await node.goes_on(90)
    node.serving = Serving(node.store, node, ready=lambda: True, refused=node.count)
    node.wall -= 90_000
    await node.goes_on(90)
    assert await node.noted() == [1]

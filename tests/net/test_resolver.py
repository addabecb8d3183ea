"""Names: bounded, fair, cached, one question at a time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.net.hostile import until

from tocsin.net import NameNotResolved, Resolver
from tocsin.net.lookup import thread_lookup
from tocsin.net.slots import FairSlots

pytestmark = pytest.mark.anyio


class Names:
    """A lookup that answers when it is told to, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: dict[str, asyncio.Future[Sequence[str]]] = {}

    async def hang(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.waiting[host] = asyncio.get_running_loop().create_future()
        return await self.waiting[host]

    async def know(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return ["192.0.2.1", "192.0.2.2", "192.0.2.1"]

    async def deny(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        raise OSError


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def cancelled_after(*tasks: asyncio.Task[tuple[str, ...]]) -> AsyncIterator[None]:
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_answers_are_kept_for_a_while() -> None:
    names = Names()
    async with Resolver(names.know, ttl_seconds=1.0) as resolver:
        assert resolver.cached("a.example") is None
        found = await resolver.resolve("a.example", organization="acme")
        assert found == ("192.0.2.1", "192.0.2.2")
        assert resolver.cached("a.example") == found
        assert await resolver.resolve("a.example", organization="other") == found
        assert len(names.asked) == 1
        await until(lambda: resolver.cached("a.example") is None)
        await resolver.resolve("a.example", organization="acme")
        assert len(names.asked) == 2


async def test_failures_are_kept_too() -> None:
    names = Names()
    async with Resolver(names.deny) as resolver:
        for _ in range(3):
            with pytest.raises(NameNotResolved):
                await resolver.resolve("a.example", organization="acme")
        with pytest.raises(NameNotResolved):
            resolver.cached("a.example")
        assert len(names.asked) == 1


async def test_one_flight_for_many_waiters_survives_the_first() -> None:
    names = Names()
    async with Resolver(names.hang) as resolver:
        first = asyncio.create_task(resolver.resolve("a.example", organization="a"))
        await settle()
        others = [
            asyncio.create_task(resolver.resolve("a.example", organization=f"o{n}"))
            for n in range(20)
        ]
        await settle()
        first.cancel()
        await settle()
        names.waiting["a.example"].set_result(["192.0.2.1"])
        assert set(await asyncio.gather(*others)) == {("192.0.2.1",)}
        assert names.asked == ["a.example"]


async def test_a_name_that_hangs_ends_in_time() -> None:
    names = Names()
    async with Resolver(names.hang, seconds_max=0.05) as resolver:
        for _ in range(2):  # the second finds the failure
            with pytest.raises(NameNotResolved):
                await resolver.resolve("a.example", organization="acme")
        await settle()
        with pytest.raises(NameNotResolved):
            await resolver.resolve("a.example", organization="acme")
        assert names.asked == ["a.example"]


async def test_a_caller_may_wait_less() -> None:
    names = Names()
    async with Resolver(names.hang) as resolver:
        with pytest.raises(NameNotResolved):
            await resolver.resolve("a.example", organization="acme", timeout_seconds=0.01)
        assert resolver.cached("a.example") is None  # not known to fail: still being asked


async def test_one_organization_holds_a_quarter_of_the_slots() -> None:
    names = Names()
    async with Resolver(names.hang, slots=8) as resolver:
        greedy = [
            asyncio.create_task(resolver.resolve(f"{n}.example", organization="greedy"))
            for n in range(20)
        ]
        await settle()
        assert names.asked == ["0.example", "1.example"]
        # A name that waits in the queue of one is asked at once for another.
        other = asyncio.create_task(resolver.resolve("9.example", organization="other"))
        async with cancelled_after(*greedy):
            await settle()
            assert names.asked[2:] == ["9.example"]
            names.waiting["9.example"].set_result(["192.0.2.9"])
            assert await other == ("192.0.2.9",)
            names.waiting["0.example"].set_result(["192.0.2.1"])
            await settle()
            assert names.asked[3:] == ["2.example"]


async def test_slots_take_turns_and_lose_nothing_to_cancellation() -> None:
    slots = FairSlots(4)  # one each
    held = [f"o{n}" for n in range(4)]
    for owner in held:
        await slots.acquire(owner)
    order: list[str] = []

    async def wait(owner: str) -> None:
        await slots.acquire(owner)
        order.append(owner)

    tasks = [asyncio.create_task(wait(owner)) for owner in ("x", "x", "y", "o0", "z")]
    await settle()
    tasks[2].cancel()
    slots.release("o1")
    slots.release("o2")
    tasks[4].cancel()  # may hold its turn already
    await settle()
    assert order == ["x"]
    slots.release("x")
    slots.release("o0")
    await settle()
    assert sorted(order) == ["o0", "x", "x"]
    for owner in ("x", "o0", "o3"):
        slots.release(owner)
    await asyncio.gather(*tasks, return_exceptions=True)
    for n in range(4):
        async with asyncio.timeout(30):
            await slots.acquire(f"n{n}")


async def test_localhost_and_the_hosts_file() -> None:
    async with Resolver() as resolver:
        for host in ("localhost", "app.localhost"):
            assert await resolver.resolve(host, organization="acme") == ("127.0.0.1",)
        with pytest.raises(NameNotResolved):
            await resolver.resolve("nowhere.invalid", organization="acme")


async def test_threads_as_the_second_choice() -> None:
    async with thread_lookup(2) as lookup:
        assert "127.0.0.1" in await lookup("localhost")
        with pytest.raises(NameNotResolved):
            await lookup("nowhere.invalid")


async def test_closing_ends_what_hangs() -> None:
    names = Names()
    async with Resolver(names.hang) as resolver:
        task = asyncio.create_task(resolver.resolve("a.example", organization="acme"))
        await settle()
    await asyncio.gather(task, return_exceptions=True)
    assert task.done()

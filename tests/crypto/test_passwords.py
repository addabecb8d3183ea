"""Passwords: hashed slowly, few at once, and no quicker for users that there are not."""

import asyncio
import threading

import pytest

from tocsin.crypto.passwords import Passwords
from tocsin.domain.errors import Unavailable

pytestmark = pytest.mark.anyio


def weak(**more: int) -> Passwords:
    return Passwords(time_cost=1, memory_kib=8, **more)


async def test_a_hash_is_of_its_password_and_no_other() -> None:
    async with weak() as passwords:
        first, second = await passwords.hash("pässword 1"), await passwords.hash("pässword 1")
        assert first != second
        assert first.startswith("$argon2id$")
        assert "pässword" not in first
        for stored in (first, second):
            assert await passwords.verify(stored, "pässword 1")
            assert not await passwords.verify(stored, "pässword 2")
        for nothing in (None, "", "no hash"):
            assert not await passwords.verify(nothing, "pässword 1")


async def test_the_hash_of_nobody_costs_what_a_real_one_costs() -> None:
    async with Passwords(time_cost=3, memory_kib=64) as passwords:
        real = (await passwords.hash("x")).split("$")
        nobodys = passwords._nobodys.split("$")
        assert nobodys[:4] == real[:4]
        assert [len(part) for part in nobodys] == [len(part) for part in real]
        assert not await passwords.verify(passwords._nobodys, "x")


async def test_two_at_once_some_wait_and_the_rest_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, running, most = threading.Event(), 0, 0
    lock = threading.Lock()

    def slow(stored: str, password: str) -> bool:
        nonlocal running, most
        del stored, password
        with lock:
            running += 1
            most = max(most, running)
        assert go.wait(60)
        with lock:
            running -= 1
        return True

    async with weak(hashes_max=2, waiting_max=3) as passwords:
        monkeypatch.setattr(passwords, "_verify", slow)
        tries = [asyncio.create_task(passwords.verify("x", "x")) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refused:
            await passwords.verify("x", "x")
        assert refused.value.retry_after_seconds > 0
        # Whoever hangs up leaves the work behind, and it still counts.
        tries[0].cancel()
        await asyncio.wait([tries[0]])
        with pytest.raises(Unavailable):
            await passwords.verify("x", "x")
        go.set()
        assert await asyncio.gather(*tries[1:]) == [True] * 4
        assert most == 2
        while True:  # the count is given back on the loop, a moment after the thread is done
            try:
                assert await passwords.verify("x", "x")
                break
            except Unavailable:
                await asyncio.sleep(0)

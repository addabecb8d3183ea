"""Waiting in rounds: a machine that was paused has not been waiting."""

import asyncio
import time

import pytest

from tocsin.domain.errors import Unavailable
from tocsin.engine.watchdog import in_rounds

pytestmark = pytest.mark.anyio

ROUND_SECONDS = 0.05


async def test_what_never_ends_is_given_up_and_cancelled() -> None:
    ends: list[BaseException] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            ends.append(error)
            raise

    with pytest.raises(TimeoutError):
        await in_rounds(never(), 0.2, round_seconds=ROUND_SECONDS)
    await asyncio.sleep(0)
    assert ends


async def test_its_own_error_is_raised() -> None:
    async def away() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await in_rounds(away(), 1, round_seconds=ROUND_SECONDS)


async def test_time_in_which_nothing_ran_is_no_waiting() -> None:
    """A stopped process finds all its timers due at once, and the answer not read yet."""
    answered = asyncio.Event()
    waiting = asyncio.ensure_future(
        in_rounds(_wait(answered), 20 * ROUND_SECONDS, round_seconds=ROUND_SECONDS)
    )
    await asyncio.sleep(ROUND_SECONDS)
    time.sleep(21 * ROUND_SECONDS)  # noqa: ASYNC251 - nothing on the loop runs
    await asyncio.sleep(ROUND_SECONDS)
    assert not waiting.done()
    answered.set()
    await waiting


async def _wait(answered: asyncio.Event) -> None:
    await answered.wait()

"""Trying a whole transaction again where that may help: for both planes, and nowhere else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tocsin.domain.errors import Unavailable
from tocsin.storage.postgres.partitions import MISSING_MAX, missing_day
from tocsin.storage.postgres.session import moved_on

T = TypeVar("T")

TRIES_MAX = 5
TRY_SECONDS = 0.02


class TryAgain(Exception):
    """The ground has moved under a statement: the whole transaction is tried again."""


async def again(
    transaction: Callable[[], Awaitable[T]],
    *,
    cause_of: Callable[[Exception], BaseException | None],
    make_day: Callable[[int], Awaitable[object]],
) -> T:
    """Run a transaction; again after a deadlock or the like, or where a partition was missing.

    `cause_of` gives what the driver itself has raised. Raises Unavailable when it is of no use.
    """
    tries = days = 0
    while True:
        try:
            return await transaction()
        except Exception as error:
            cause = cause_of(error)
            day = missing_day(cause)
            if day is not None and days < MISSING_MAX:
                days += 1
                await make_day(day)
                continue
            if cause is None or not (isinstance(cause, TryAgain) or moved_on(cause)):
                raise
            tries += 1
            if tries == TRIES_MAX:
                raise Unavailable("The database is too busy.") from error
            await asyncio.sleep(TRY_SECONDS * tries)

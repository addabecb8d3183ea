"""Passwords: hashed with argon2id, few at once, and in the same time whether there is a user.

A hash takes memory and tens of milliseconds of a core on purpose, so strangers must not be able
to ask for many: two run at a time, some wait, the rest are refused at once.
"""

import asyncio
import contextlib
import functools
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from tocsin.domain.errors import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

T = TypeVar("T")

HASHES_MAX = 2
WAITING_MAX = 20
RETRY_SECONDS = 2

TIME_COST = 2
MEMORY_KIB = 19_456
_SALT_BYTES = 16
_HASH_BYTES = 32


class Passwords:
    """Hashes and checks passwords in threads of its own. The costs are OWASP's for argon2id.

    Both calls raise Unavailable when too many are waiting. Leaving `async with` ends the threads.
    """

    def __init__(
        self,
        *,
        time_cost: int = TIME_COST,
        memory_kib: int = MEMORY_KIB,
        hashes_max: int = HASHES_MAX,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        self._time_cost = time_cost
        self._memory_kib = memory_kib
        self._room = hashes_max + waiting_max
        self._threads = ThreadPoolExecutor(hashes_max, thread_name_prefix="tocsin-password")
        # A hash that no password has, with the costs of a real one: for users there are not.
        self._nobodys = (
            f"$argon2id$v=19$m={memory_kib},t={time_cost},p=1"
            f"${_text(secrets.token_bytes(_SALT_BYTES))}${_text(secrets.token_bytes(_HASH_BYTES))}"
        )

    @functools.cached_property
    def _hasher(self) -> "PasswordHasher":
        # Imported with the first password: a server that nobody signs in to does without.
        from argon2 import PasswordHasher

        return PasswordHasher(
            time_cost=self._time_cost,
            memory_cost=self._memory_kib,
            parallelism=1,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )

    async def __aenter__(self) -> "Passwords":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """What is stored of a password."""
        return await self._run(self._hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password; without a hash it is not, after the same time."""
        return await self._run(self._verify, password_hash or self._nobodys, password)

    async def _run(self, work: Callable[..., T], *arguments: str) -> T:
        if self._room <= 0:
            raise Unavailable("Too many people are signing in.", RETRY_SECONDS)
        self._room -= 1
        loop = asyncio.get_running_loop()
        running = self._threads.submit(work, *arguments)
        # Counted until the thread has done it: whoever hangs up leaves the work behind.
        running.add_done_callback(lambda _: _tell(loop, self._left))
        return await asyncio.wrap_future(running)

    def _left(self) -> None:
        self._room += 1

    def _hash(self, password: str) -> str:
        return self._hasher.hash(password)

    def _verify(self, password_hash: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def _tell(loop: asyncio.AbstractEventLoop, done: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
        loop.call_soon_threadsafe(done)


def _text(raw: bytes) -> str:
    return b64encode(raw).decode().rstrip("=")

"""Guessing passwords: how often it may be tried, and who is told of it afterwards."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from tocsin.domain.errors import RateLimited, Unavailable
from tocsin.domain.people import UserId, Visitor
from tocsin.domain.permissions import Caller
from tocsin.limits import Failures
from tocsin.service.changes import Changes, Target
from tocsin.storage.control import Connection

ACCOUNT_FAILURES_MAX = 10
ADDRESS_FAILURES_MAX = 30
WINDOW_SECONDS = 900.0
NOTED_MAX = 1_000
NOTED_PER_WRITE_MAX = 100


class _Noted(Struct):
    """Failures of one account from one network that are not written yet."""

    caller: Caller
    count: int


class Guesses:
    """Counts tries by account and by network, whether there is such an account or not.

    Networks from which the person has signed in before have a count of their own: strangers can't
    lock somebody out of their own devices. Failures reach the audit log a little later, so that
    the time of an answer does not tell whether there was an account to note them for.
    """

    def __init__(
        self,
        *,
        changes: Changes,
        account_failures_max: int = ACCOUNT_FAILURES_MAX,
        address_failures_max: int = ADDRESS_FAILURES_MAX,
    ) -> None:
        self._changes = changes
        monotonic = changes.clock.monotonic
        self._accounts = Failures(account_failures_max, WINDOW_SECONDS, monotonic)
        self._addresses = Failures(address_failures_max, WINDOW_SECONDS, monotonic)
        self._noted: dict[tuple[UserId, str], _Noted] = {}

    async def check(
        self,
        email: str,
        visitor: Visitor,
        verify: Callable[[], Awaitable[bool]],
        *,
        known_place: bool,
    ) -> bool:
        """Whether `verify` finds the password right; raises RateLimited without asking it after
        too many failures."""
        account = f"{email} {visitor.bucket}" if known_place else email
        wait = max(self._accounts.wait(account), self._addresses.wait(visitor.bucket))
        if wait:
            raise RateLimited("Too many tries to sign in.", wait)
        # Counted as failed until it is decided: many at once are no way around the limit.
        self._accounts.begin(account)
        self._addresses.begin(visitor.bucket)
        try:
            right = await verify()
        except Unavailable:
            self._accounts.succeeded(account)
            self._addresses.succeeded(visitor.bucket)
            raise
        if right:
            self._accounts.succeeded(account, wholly=True)
            self._addresses.succeeded(visitor.bucket)
        return right

    def failed(self, caller: Caller, user_id: UserId, visitor: Visitor) -> None:
        """Note it for the audit; what is too much for the notes is in their counts, or lost."""
        place = (user_id, visitor.bucket)
        noted = self._noted.get(place)
        if noted is not None:
            noted.count += 1
        elif len(self._noted) < NOTED_MAX:
            self._noted[place] = _Noted(caller, 1)

    async def flush(self) -> None:
        """Write what was noted: an entry per account and network, however often it was."""
        places = list(self._noted)[:NOTED_PER_WRITE_MAX]
        taken = [(user_id, self._noted.pop((user_id, bucket))) for user_id, bucket in places]
        if not taken:
            return

        def write(connection: Connection) -> None:
            self._write(connection, taken)

        try:
            await self._changes.store.write(write)
        except BaseException:
            for place, (_, noted) in zip(places, taken, strict=True):
                self._noted.setdefault(place, noted)
            raise

    def _write(self, connection: Connection, taken: Sequence[tuple[UserId, _Noted]]) -> None:
        for user_id, noted in taken:
            self._changes.note_user(
                connection,
                noted.caller,
                user_id,
                "user.sign_in_failed",
                Target("user", user_id),
                {"tries": noted.count},
            )

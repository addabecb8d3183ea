"""Names to addresses: bounded in time and number, fair between organizations, cached."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType

from msgspec import Struct

from tocsin.net.errors import NameNotResolved
from tocsin.net.lookup import Lookup, system_lookup
from tocsin.net.slots import FairSlots
from tocsin.telemetry.families import NAME_LOOKUPS
from tocsin.telemetry.instruments import Tally

LOCALHOST = ("127.0.0.1",)
NAMES_MAX = 10_000


class _Answer(Struct, frozen=True):
    addresses: tuple[str, ...]  # none: the name did not resolve
    expires: float


class Resolver:
    """Resolves each name once at a time, however many wait for it. An async context manager.

    One resolution ends within `seconds_max`, its waiting included, and the organization that
    began it pays for it with a slot. Answers stay for `ttl_seconds`, failures for
    `failure_ttl_seconds`. `localhost` is always 127.0.0.1 (RFC 6761), so that allowing
    127.0.0.0/8 is enough to use it.
    """

    def __init__(
        self,
        lookup: Lookup | None = None,
        *,
        seconds_max: float = 3.0,
        slots: int = 32,
        ttl_seconds: float = 30.0,
        failure_ttl_seconds: float = 5.0,
    ) -> None:
        self._lookup = lookup
        self._seconds_max = seconds_max
        self._slots_max = slots
        self._slots = FairSlots(slots)
        self._ttl_seconds = ttl_seconds
        self._failure_ttl_seconds = failure_ttl_seconds
        self._answers: dict[str, _Answer] = {}
        self._flights: dict[str, asyncio.Task[_Answer]] = {}
        self._scope = AsyncExitStack()
        self.lookups = Tally(NAME_LOOKUPS)

    async def __aenter__(self) -> "Resolver":
        self._loop = asyncio.get_running_loop()
        if self._lookup is None:
            self._lookup = await self._scope.enter_async_context(system_lookup(self._slots_max))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._scope.aclose()

    def cached(self, host: str) -> tuple[str, ...] | None:
        """The addresses if they are known now; raises `NameNotResolved` for a known failure."""
        answer = self._answers.get(host)
        if answer is None or answer.expires <= self._loop.time():
            return LOCALHOST if host == "localhost" or host.endswith(".localhost") else None
        if not answer.addresses:
            raise NameNotResolved
        return answer.addresses

    async def resolve(
        self, host: str, *, organization: str, timeout_seconds: float | None = None
    ) -> tuple[str, ...]:
        """All addresses of a name, best first; raises `NameNotResolved`, also when it takes long.

        `timeout_seconds` shortens this caller's own waiting; the resolution goes on for others.
        """
        known = self.cached(host)
        if known is not None:
            return known
        seconds = self._seconds_max
        if timeout_seconds is not None:
            seconds = min(seconds, timeout_seconds)
        try:
            async with asyncio.timeout(seconds):
                answer = await self._answer(host, organization)
        except TimeoutError:
            raise NameNotResolved("The target's name was not resolved in time.") from None
        if not answer.addresses:
            raise NameNotResolved
        return answer.addresses

    async def _answer(self, host: str, organization: str) -> _Answer:
        """Join the running flight or start one; only who starts one waits for a slot.

        Whoever queues for a slot is not joined: one organization's queue delays no other's name.
        """
        flight = self._flights.get(host)
        if flight is None:
            await self._slots.acquire(organization)
            answer = self._answers.get(host)
            if answer is not None and answer.expires > self._loop.time():
                self._slots.release(organization)
                return answer
            flight = self._flights.get(host)
            if flight is None:
                flight = self._loop.create_task(self._fly(host, organization))
                self._flights[host] = flight
                flight.add_done_callback(lambda _: self._land(host, organization))
            else:
                self._slots.release(organization)
        return await asyncio.shield(flight)

    async def _fly(self, host: str, organization: str) -> _Answer:
        """Ask, and keep what came back; a failure is an answer too, so this raises nothing."""
        assert self._lookup is not None, "the resolver has not been started"
        addresses: tuple[str, ...] = ()
        try:
            async with asyncio.timeout(self._seconds_max):
                addresses = tuple(dict.fromkeys(await self._lookup(host)))
        except Exception:  # whatever a resolver library may raise, the name has no address
            ttl_seconds = self._failure_ttl_seconds
        else:
            ttl_seconds = self._ttl_seconds if addresses else self._failure_ttl_seconds
        self.lookups["answered" if addresses else "failed",] += 1
        answer = _Answer(addresses, self._loop.time() + ttl_seconds)
        self._answers.pop(host, None)
        while len(self._answers) >= NAMES_MAX:
            del self._answers[next(iter(self._answers))]
        self._answers[host] = answer
        return answer

    def _land(self, host: str, organization: str) -> None:
        del self._flights[host]
        self._slots.release(organization)

"""The outbound HTTP/1.1 client: one vetted address, one connection, one request, one reply.

No redirects, no cookies, no proxies from the environment, no decoding: a delivery is one POST
whose bytes are signed, and what counts of its reply is the head.
"""

import asyncio
from collections.abc import Callable
from functools import lru_cache
from types import TracebackType
from typing import NoReturn

from tocsin.domain.exchange import Identity, Reply, Request
from tocsin.domain.outcome import Reason
from tocsin.net.connection import (
    READ_LIMITS,
    ClosedIdle,
    Connection,
    ReadLimits,
    Waiter,
)
from tocsin.net.dial import PHASE_LIMITS, Dialer, Learn, PhaseLimits
from tocsin.net.errors import (
    AddressRefused,
    NameNotResolved,
    NotSent,
    SendFailed,
    TargetInvalid,
)
from tocsin.net.guard import Guard
from tocsin.net.pool import TICK_SECONDS, Pool
from tocsin.net.proxy import Proxy
from tocsin.net.resolver import Resolver
from tocsin.net.target import Target
from tocsin.net.tls import MakeContext, default_ssl_context
from tocsin.net.wire import RequestInvalid, request_head

Gate = Callable[[], Request | None]
"""Called after connect and TLS, directly before the first byte: the final request, or None to
send nothing. It may be called twice, when a reused connection turns out to be closed."""

TARGETS_KEPT_MAX = 4096


class Client:
    """Sends requests; an async context manager that leaves no connection behind.

    Connections are kept for `idle_seconds` and never shared between organizations. The resolver is
    the caller's to start and to close. `make_context` replaces what verifies targets of https.
    Everything goes through the `proxy` if there is one; nothing is read from the environment.
    """

    def __init__(
        self,
        resolver: Resolver,
        guard: Guard,
        *,
        proxy: Proxy | None = None,
        make_context: MakeContext = default_ssl_context,
        phase_limits: PhaseLimits = PHASE_LIMITS,
        idle_seconds: float = 30.0,
        idle_max: int = 256,
        idle_per_key_max: int = 64,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._resolver = resolver
        self._guard = guard
        self._target = lru_cache(TARGETS_KEPT_MAX)(guard.target)
        self.pool = Pool(
            idle_seconds=idle_seconds,
            idle_max=idle_max,
            idle_per_key_max=idle_per_key_max,
            tick_seconds=tick_seconds,
        )
        self._dialer = Dialer(
            self.pool, resolver, proxy=proxy, make_context=make_context, limits=phase_limits
        )

    async def __aenter__(self) -> "Client":
        self._loop = asyncio.get_running_loop()
        self.pool.start(self._loop)
        self._dialer.start(self._loop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.pool.close()

    async def send(
        self,
        request: Request,
        *,
        organization: str,
        timeout_seconds: float,
        gate: Gate | None = None,
        limits: ReadLimits = READ_LIMITS,
        resent: bool = False,
    ) -> Reply:
        """One attempt, name to reply within `timeout_seconds`; raises `SendFailed` or `NotSent`.

        With a gate, `request` only says where to connect and the gate's answer is what is written;
        it must have the same origin and identity. Whatever the gate raises goes through, with
        nothing sent. `resent` takes a connection of its own, after `begin` ended with a reused one
        closed.
        """
        deadline = self._loop.time() + timeout_seconds
        try:
            target = self._target(request.url)
            addresses = (
                target.addresses
                or self._resolver.cached(target.host)
                or await self._resolver.resolve(
                    target.host, organization=organization, timeout_seconds=timeout_seconds
                )
            )
            self._guard.check_all(addresses)
        except (TargetInvalid, AddressRefused, NameNotResolved) as error:
            _refuse(error)
        while True:
            identity = request.identity
            connection = None if resent else self._idle(organization, target, addresses, identity)
            learn: Learn | None = None
            if connection is None:
                connection, learn = await self._dialer.open(
                    organization, target, addresses, identity, deadline=deadline
                )
            try:
                head, body = self._final(request, target, gate)
            except BaseException:
                self.pool.put(connection)
                raise
            waiting = _Waiting(self._loop)
            connection.exchange(
                head, body, waiting, deadline=deadline, limits=limits, resent=resent
            )
            try:
                reply = await waiting.future
            except ClosedIdle:
                resent = True
            except asyncio.CancelledError:
                connection.drop(waiting)
                raise
            else:
                if learn is not None:
                    learn()
                return reply

    def begin(
        self,
        request: Request,
        waiter: Waiter,
        *,
        organization: str,
        timeout_seconds: float,
        gate: Gate,
    ) -> Connection | None:
        """The same at once, if nothing needs to be waited for; None when something does.

        That is the usual case: the name is known and a connection is idle. The waiter is told the
        end; a `ClosedIdle` asks it to call `send` with `resent`. Raises what `send` raises.
        """
        try:
            target = self._target(request.url)
            addresses = target.addresses or self._resolver.cached(target.host)
            if not addresses:
                return None
            self._guard.check_all(addresses)
        except (TargetInvalid, AddressRefused, NameNotResolved) as error:
            _refuse(error)
        connection = self._idle(organization, target, addresses, request.identity)
        if connection is None:
            return None
        try:
            head, body = self._final(request, target, gate)
        except BaseException:
            self.pool.put(connection)
            raise
        connection.exchange(head, body, waiter, deadline=self._loop.time() + timeout_seconds)
        return connection

    async def vet(self, url: str, *, organization: str, timeout_seconds: float = 2.0) -> None:
        """Judge a URL that is about to be saved; raises `TargetInvalid` or `AddressRefused`.

        A name that does not resolve in time is accepted: every send judges again.
        """
        target = self._guard.target(url)
        addresses = target.addresses
        if not addresses:
            try:
                addresses = await self._resolver.resolve(
                    target.host, organization=organization, timeout_seconds=timeout_seconds
                )
            except NameNotResolved:
                return
        self._guard.check_all(addresses)

    def _idle(
        self,
        organization: str,
        target: Target,
        addresses: tuple[str, ...],
        identity: Identity | None,
    ) -> Connection | None:
        for address in addresses:
            key = self._dialer.key(organization, target, address, identity)
            connection = self.pool.take(key)
            if connection is not None:
                return connection
        return None

    def _final(self, request: Request, target: Target, gate: Gate | None) -> tuple[bytes, bytes]:
        """Head and body of what the gate wants sent; raises `NotSent` when it wants nothing."""
        if gate is not None:
            final = gate()
            if final is None:
                raise NotSent
            if final.url != request.url:
                target = self._elsewhere(final.url, target)
            if final.identity != request.identity:
                raise SendFailed(Reason.INTERNAL_ERROR, "the request changed its identity")
            request = final
        try:
            return request_head(target, request), request.body
        except RequestInvalid as error:
            raise SendFailed(Reason.INTERNAL_ERROR, str(error)) from None

    def _elsewhere(self, url: str, target: Target) -> Target:
        """Another path of the same origin: the connection is there already."""
        try:
            changed = self._target(url)
        except TargetInvalid as error:
            raise SendFailed(Reason.INTERNAL_ERROR, error.message) from None
        if changed.origin != target.origin:
            raise SendFailed(Reason.INTERNAL_ERROR, "the request changed its origin")
        return changed


class _Waiting:
    """The waiter of an exchange that is awaited."""

    __slots__ = ("future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[Reply] = loop.create_future()

    def ended(self, result: Reply | SendFailed | ClosedIdle) -> None:
        if self.future.done():
            return
        if isinstance(result, Reply):
            self.future.set_result(result)
        else:
            self.future.set_exception(result)


def _refuse(error: TargetInvalid | AddressRefused | NameNotResolved) -> NoReturn:
    """A target that can't or may not be called, as the failure of an attempt."""
    unknown = isinstance(error, NameNotResolved)
    reason = Reason.NAME_NOT_RESOLVED if unknown else Reason.ADDRESS_REFUSED
    raise SendFailed(reason, error.message) from None

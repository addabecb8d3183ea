"""Dialing: from a vetted address to a connection that is ready for its first request.

One phase after the other (connect, proxy, TLS), each with its own limit inside the attempt's, so
that a failure says where it happened.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import cast

from msgspec import Struct

from tocsin.domain.exchange import Identity
from tocsin.domain.outcome import Reason
from tocsin.net.connection import Connection, Keeper, PoolKey, failure
from tocsin.net.errors import NameNotResolved, SendFailed
from tocsin.net.proxy import Proxy, tunnel
from tocsin.net.resolver import Resolver
from tocsin.net.target import Target
from tocsin.net.tls import Contexts, MakeContext, Sessions, default_ssl_context

ADDRESSES_TRIED_MAX = 4

Learn = Callable[[], None]
"""To be called after a connection's first reply: by then the target has sent what resumes TLS."""


class PhaseLimits(Struct, frozen=True, kw_only=True):
    """How long each phase of one connection may take, should the attempt have so much time."""

    connect_seconds: float = 10.0
    proxy_seconds: float = 10.0
    tls_seconds: float = 10.0


PHASE_LIMITS = PhaseLimits()


class Dialer:
    """Opens connections, through the proxy if there is one."""

    def __init__(
        self,
        keeper: Keeper,
        resolver: Resolver,
        *,
        proxy: Proxy | None = None,
        make_context: MakeContext = default_ssl_context,
        limits: PhaseLimits = PHASE_LIMITS,
    ) -> None:
        self._keeper = keeper
        self._resolver = resolver
        self._proxy = proxy
        self._via = None if proxy is None else proxy.name
        self._limits = limits
        self._contexts = Contexts(make_context)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind to the running loop."""
        self._loop = loop
        self._sessions = Sessions(loop.time)

    def key(
        self, organization: str, target: Target, address: str, identity: Identity | None
    ) -> PoolKey:
        """What a connection must have been opened for to be used for this."""
        name = None if identity is None else identity.name
        return organization, target.origin, address, name, self._via

    async def open(
        self,
        organization: str,
        target: Target,
        addresses: tuple[str, ...],
        identity: Identity | None,
        *,
        deadline: float,
    ) -> tuple[Connection, Learn | None]:
        """Try the vetted addresses in order; each but the last gets its share of the time left.

        Raises `SendFailed` with what befell the last one.
        """
        tried = addresses[:ADDRESSES_TRIED_MAX]
        failed = SendFailed(Reason.CONNECTION_FAILED, "the connection failed")
        for position, address in enumerate(tried):
            now = self._loop.time()
            until = now + (deadline - now) / (len(tried) - position)
            key = self.key(organization, target, address, identity)
            try:
                return await self._open(target, address, key, identity, until)
            except SendFailed as error:
                failed = error
        raise failed

    async def _open(
        self, target: Target, address: str, key: PoolKey, identity: Identity | None, until: float
    ) -> tuple[Connection, Learn | None]:
        if self._proxy is None:
            sock = await self._reach(address, target.port, until)
        else:
            sock = await self._tunnel(self._proxy, address, target.port, until)
        make = partial(Connection, self._keeper, key, self._loop)
        try:
            if target.scheme != "https":
                _, plain = await self._loop.create_connection(make, sock=sock)
                return plain, None
            async with self._phase(until, self._limits.tls_seconds, "no TLS handshake in time"):
                resuming = self._sessions.resuming(key, await self._contexts.get(identity))
                transport, connection = await self._loop.create_connection(
                    make,
                    sock=sock,
                    ssl=cast(ssl.SSLContext, resuming),
                    server_hostname=target.server_name,
                )
        except BaseException as error:
            self._sessions.forget(key)
            sock.close()  # also when the event loop has closed it: a second time does nothing
            if isinstance(error, OSError):
                raise SendFailed(*failure(error)) from None
            raise
        made: ssl.SSLObject = transport.get_extra_info("ssl_object")
        return connection, partial(self._sessions.keep, key, resuming, made)

    async def _reach(self, address: str, port: int, until: float) -> socket.socket:
        """A TCP connection to this very address."""
        try:
            async with self._phase(until, self._limits.connect_seconds, "no connection in time"):
                sock = await self._connect(address, port)
        except OSError as error:
            raise SendFailed(*failure(error)) from None
        try:
            if ip_address(sock.getpeername()[0]) != ip_address(address):
                raise SendFailed(Reason.ADDRESS_REFUSED, "connected elsewhere")
        except OSError:  # reset already: it has no peer any more
            sock.close()
            raise SendFailed(Reason.CONNECTION_RESET, "connection reset") from None
        except BaseException:
            sock.close()
            raise
        return sock

    async def _tunnel(self, proxy: Proxy, address: str, port: int, until: float) -> socket.socket:
        """A connection to this very address through the proxy."""
        slow = "no connection through the proxy in time"
        async with self._phase(until, self._limits.proxy_seconds, slow, Reason.PROXY_FAILED):
            sock = await self._reach_proxy(proxy)
            try:
                await tunnel(sock, proxy, address, port)
            except BaseException:
                sock.close()
                raise
        return sock

    async def _reach_proxy(self, proxy: Proxy) -> socket.socket:
        places: tuple[str, ...] = (proxy.host,)
        if not proxy.literal:
            try:
                places = await self._resolver.resolve(proxy.host, organization="")
            except NameNotResolved:
                words = "the proxy's name could not be resolved"
                raise SendFailed(Reason.PROXY_FAILED, words) from None
        for place in places[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._connect(place, proxy.port)
            except OSError:
                continue
        raise SendFailed(Reason.PROXY_FAILED, "the proxy could not be reached")

    async def _connect(self, address: str, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(sock, (address, port))
        except BaseException:
            sock.close()
            raise
        return sock

    @asynccontextmanager
    async def _phase(
        self, until: float, seconds: float, words: str, reason: Reason = Reason.TIMEOUT
    ) -> AsyncIterator[None]:
        """A time limit that says which phase has reached it."""
        limit = asyncio.timeout_at(min(until, self._loop.time() + seconds))
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise SendFailed(reason, words) from None

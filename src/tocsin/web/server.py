"""The HTTP server inside the process: uvicorn, with bounds on what a stranger may hold open."""

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tocsin.config import Settings
from tocsin.web.address import Addresses, is_loopback
from tocsin.web.front import Front

HEAD_BYTES_MAX = 32_768
HEAD_FIELDS_MAX = 100
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
IDLE_SECONDS = 75
LINGER_SECONDS = 2.0
SHUTDOWN_SECONDS = 10
BACKLOG = 2048

_REASONS = {
    408: (b"Request Timeout", b"The request did not arrive in time."),
    431: (b"Request Header Fields Too Large", b"The request head is too large or too slow."),
    503: (b"Service Unavailable", b"Too many connections."),
}
_CODES = {408: b"request_timeout", 431: b"head_too_large", 503: b"unavailable"}


class Bounds:
    """Limits that all connections share, and who holds how many."""

    def __init__(
        self,
        settings: Settings,
        *,
        head_seconds: float = HEAD_SECONDS,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.head_seconds = head_seconds
        self.body_seconds = body_seconds
        self._connections_max = settings.connections_max
        self._per_address_max = settings.connections_per_address_max
        self._addresses = Addresses(settings.trusted_proxies)
        self._total = 0
        self._by_address: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a connection; false when it is one too many."""
        self._total += 1
        self._by_address[address] += 1
        if self._total > self._connections_max:
            return False
        if self._by_address[address] <= self._per_address_max:
            return True
        return is_loopback(address) or self._addresses.trusts(address)

    def leave(self, address: str) -> None:
        """A connection has ended."""
        self._total -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]


class LingeringTransport:
    """A transport that, closed while its client is still sending, lets it read the reply first.

    Closing a socket with unread bytes resets the connection, and the reset may overtake the
    reply. So only our half is closed, and what still comes is thrown away for a moment.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.unread = False
        self.lingering = False
        self.write = transport.write
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close when what was written is sent."""
        if self.lingering or self._transport.is_closing():
            return
        if self.unread and self._transport.can_write_eof():
            self.lingering = True
            self._transport.resume_reading()
            self._transport.write_eof()
            self._timer = self._loop.call_later(LINGER_SECONDS, self._transport.abort)
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    def lost(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with limits on the size and time of heads and on the time of bodies."""

    bounds: Bounds
    _linger: LingeringTransport | None = None
    _timer: asyncio.TimerHandle | None = None
    _waiting_for = "head"
    _address = ""
    _begun = False
    _completed = False
    _head_bytes = 0
    _fields = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection and start the clock for its first head."""
        self._linger = LingeringTransport(transport, self.loop)
        super().connection_made(self._linger)  # type: ignore[arg-type]
        self._address = self.client[0] if self.client else ""
        if not self.bounds.enter(self._address):
            self._refuse(503)
            return
        self._wait("head", self.bounds.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self.bounds.leave(self._address)
        if self._linger is not None:
            self._linger.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and see whether a head or a body is still under way."""
        if self.transport.is_closing():
            return
        within_head = self._begun
        self._completed = False
        self._linger.unread = True  # type: ignore[union-attr]
        super().data_received(data)
        if self._refused:
            return
        if self._begun:
            if within_head or not self._completed:
                # Else a part of these bytes, nobody knows which, is another request's.
                self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(431)
            else:
                self._wait("head", self.bounds.head_seconds)
        elif (cycle := self._current()) is not None and cycle.more_body:
            self._wait("body", self.bounds.body_seconds)
        else:
            self._linger.unread = False  # type: ignore[union-attr]
            self._stop_waiting()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._begun = True
        self._head_bytes = self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head (or of a trailer, which nobody reads)."""
        if not self._begun:
            return
        self._fields += 1
        self._head_bytes += len(name) + len(value) + 4
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: within its limits the request begins."""
        self._begun = False
        if self._refused or self.transport.is_closing():
            self._refused = True
        elif self._fields > HEAD_FIELDS_MAX or self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431)
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._completed = True
        if not self._refused:
            # Also when the reply came first: what follows is not this request's any more.
            self.cycle.more_body = False
            super().on_message_complete()

    def _wait(self, what: str, seconds: float) -> None:
        if self._timer is None or self._waiting_for != what:
            self._stop_waiting()
            self._waiting_for = what
            self._timer = self.loop.call_later(seconds, self._too_late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if self._waiting_for == "head":
            if self._begun:
                self._refuse(431)
            else:
                self.transport.close()
        elif (cycle := self._current()) is not None and cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(408)

    def _current(self) -> RequestResponseCycle | None:
        return self.cycle  # None until the first request, whatever its annotation says

    def _refuse(self, status: int) -> None:
        """Answer in place of the application, and close."""
        self._refused = True
        self._stop_waiting()
        cycle = self._current()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
        if self.transport.is_closing():
            return
        reason, text = _REASONS[status]
        body = b'{"type":"about:blank","title":"%s","status":%d,"detail":"%s","code":"%s"}' % (
            reason,
            status,
            text,
            _CODES[status],
        )
        retry = b"retry-after: 1\r\n" if status == 503 else b""
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\n%sconnection: close\r\n\r\n%s"
            % (status, reason, len(body), retry, body)
        )
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals belong to the process, not to its server."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        second = 0
        while not await self.on_tick(second * 10):
            second += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), 1.0)


class HttpServer:
    """Serves the application from `async with` on; leaving it finishes requests under way.

    With `listener` given it is used (and closed) in place of `settings.host` and `.port`; binding
    raises OSError on entering. `finished` ends when the server does, whatever the reason.
    """

    def __init__(
        self,
        app: Front,
        settings: Settings,
        *,
        listener: socket.socket | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._app = app
        self._settings = settings
        self._listener = listener
        self._bounds = bounds or Bounds(settings)
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._address = ("", 0)

    @property
    def address(self) -> tuple[str, int]:
        """The address and port that are bound."""
        return self._address

    async def __aenter__(self) -> "HttpServer":
        listener = self._listener or _bind(self._settings.host, self._settings.port)
        self._address = listener.getsockname()[:2]
        protocol = type("BoundedHttp", (BoundedHttp,), {"bounds": self._bounds})
        config = uvicorn.Config(
            self._app,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._serve(server, listener))
        listening = asyncio.ensure_future(server.listening.wait())
        await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def finished(self) -> None:
        """Wait until the server has ended."""
        if self._task is not None:
            await asyncio.shield(self._task)

    async def stop(self) -> None:
        """Take no new connection, finish what is under way; safe to call twice."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        self._server.leaving.set()
        await asyncio.wait({self._task})
        self._server = None

    async def _serve(self, server: _Server, listener: socket.socket) -> None:
        # The framework's lifespan must be left by the task that entered it.
        async with self._app.lifespan():
            await server.serve([listener])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)

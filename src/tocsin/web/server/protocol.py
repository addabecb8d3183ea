"""uvicorn's HTTP/1.1 protocol, with bounds on what a stranger may send and how slowly."""

import asyncio
import math

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tocsin.web.publish import PublishHandler
from tocsin.web.server.bounds import HEAD_BYTES_MAX, HEAD_FIELDS_MAX, Bounds
from tocsin.web.server.express import ExpressRequest, header_lines
from tocsin.web.server.linger import LingeringTransport

NEVER = math.inf

_REASONS = {
    400: (b"Bad Request", b"This is not HTTP."),
    408: (b"Request Timeout", b"The request did not arrive in time."),
    431: (b"Request Header Fields Too Large", b"The request head is too large or too slow."),
    503: (b"Service Unavailable", b"Too many connections."),
}
_CODES = {400: b"bad_request", 408: b"request_timeout", 431: b"head_too_large", 503: b"unavailable"}

_CODE_TEXTS = {status: code.decode() for status, code in _CODES.items()}


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol with limits on the size and time of heads and on the time of bodies.

    A publish that is as usual goes to `publish` without the application: see `ExpressRequest`.
    """

    bounds: Bounds
    publish: PublishHandler | None = None
    _dates_of: list[tuple[bytes, bytes]] | None = None
    _dates = b""
    _express: ExpressRequest | None = None
    _idle_since = NEVER
    _linger: LingeringTransport | None = None
    _timer: asyncio.TimerHandle | None = None
    _waiting_for = "head"
    _address = ""
    _begun = False
    _completed = False
    _head_bytes = 0
    _fields = 0
    _refused = False
    _offered = False
    _muted = False

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
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
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
        self._feed(data)
        if self._refused:
            return
        if self._completed:
            self._stop_waiting()
        if self._begun:
            if within_head or not self._completed:
                # Else a part of these bytes, nobody knows which, is another request's.
                self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(431)
            else:
                self._wait("head", self.bounds.head_seconds)
        elif (cycle := self._current()) is not None and cycle.more_body:
            if cycle.response_complete:
                self._wait("rest", self.bounds.rest_seconds)
            else:
                self._wait("body", self.bounds.body_seconds)
        else:
            self._linger.unread = False  # type: ignore[union-attr]
            self._stop_waiting()

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._stay()
            except httptools.HttpParserError:
                self.send_400_response("")
                return

    def _stay(self) -> None:
        """Go on in HTTP/1.1 after a request that offered another protocol, as h2c clients do.

        The parser takes what follows such a head for the other protocol. A fresh one that is
        told of the body alone reads it as what it is.
        """
        self.parser = httptools.HttpRequestParser(self)
        framing = [
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding")
        ]
        self._offered, self._muted = False, True
        try:
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        except httptools.HttpParserError:
            self.send_400_response("")
        finally:
            self._muted = False

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._muted:
            return
        self._begun = True
        self._head_bytes = self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        if self._muted:
            return
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
        if self._muted:
            return
        self._begun = False
        self._offered = self.parser.should_upgrade()
        if self._refused or self.transport.is_closing():
            self._refused = True
        elif self._fields > HEAD_FIELDS_MAX or self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431)
        elif not self._goes_express():
            super().on_headers_complete()

    def _goes_express(self) -> bool:
        before, self._express = self._current(), None
        if (
            self.publish is None
            or (before is not None and not before.response_complete)
            or self.parser.get_method() != b"POST"
            or self._offered
            or self.parser.get_http_version() != "1.1"
        ):
            return False
        known = self.publish.known(self.url, self.headers, self._address or None)
        if known is None:
            return False
        self._express = ExpressRequest(self.publish, known, self.parser.should_keep_alive())
        self.cycle = self._express  # type: ignore[assignment]
        return True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        if self._express is not None:
            self._express.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._offered:
            return  # only its head is: see `_stay`
        self._completed = True
        if not self._refused:
            # Also when the reply came first: what follows is not this request's any more.
            self.cycle.more_body = False
            if self._express is not None:
                task = self.loop.create_task(self._answer(self._express))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            else:
                super().on_message_complete()

    async def _answer(self, request: ExpressRequest) -> None:
        headers = self.server_state.default_headers
        if headers is not self._dates_of:
            self._dates_of, self._dates = headers, header_lines(headers)
        reply = await request.reply(self._dates)
        if self.flow.write_paused and not request.disconnected:
            await self.flow.drain()
        if request.disconnected or self.transport.is_closing():
            return
        request.response_started = request.response_complete = True
        self._linger.write_now(reply)  # type: ignore[union-attr]
        if not request.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """A reply is written; one that did not need the body waits for the rest only briefly."""
        cycle = self._current()
        if cycle is not None and cycle.response_complete and cycle.more_body:
            self._wait("rest", self.bounds.rest_seconds)
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._stay_open(self.timeout_keep_alive)

    def _stay_open(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _unset_keepalive_if_required(self) -> None:
        """Not idle any more. The timer stays: one for every request would cost more than all
        looks of one that finds the connection busy."""
        self._idle_since = NEVER

    def timeout_keep_alive_handler(self) -> None:
        """Close what was idle for so long, or look again when it might have been."""
        self.timeout_keep_alive_task = None
        if self._idle_since == NEVER:
            return  # the end of the request sets the next timer
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._stay_open(left)
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; a request before it that is whole is still answered."""
        cycle = self._current()
        if cycle is None or cycle.response_complete or cycle.more_body:
            self._refuse(400)
        else:
            self._refused = True
            self._stop_waiting()
            cycle.keep_alive = False

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
        elif self._waiting_for == "rest":
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
        self.bounds.refused[_CODE_TEXTS[status],] += 1
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

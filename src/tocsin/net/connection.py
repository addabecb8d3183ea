"""One HTTP/1.1 connection to one target: one request at a time, one reply to each.

The parser (llhttp) has no limits and reports interim and surplus replies like any other, so the
counting is done here. A complete head decides; whatever is wrong after it is a note on the reply.
"""

import asyncio
import math
import ssl
from typing import Protocol, cast

import httptools
from msgspec import Struct

from tocsin.domain.exchange import BODY_KEPT_BYTES_MAX, Reply
from tocsin.domain.outcome import Reason
from tocsin.net.errors import SendFailed

INTERIM_REPLIES_MAX = 8
JOINED_BYTES_MAX = 64 * 1024
NAMES_KEPT_MAX = 1024
NEVER = math.inf

END_OF_HEAD = b"\r\n\r\n"

# What was wrong with the body of a reply that counts all the same.
TRUNCATED = "truncated"  # longer than we read
CUT = "cut"  # closed before its end
RESET = "reset"
MALFORMED = "malformed"
STALLED = "stalled"


class ReadLimits(Struct, frozen=True, kw_only=True):
    """How much of one reply is read, and how much of its body is kept."""

    head_bytes_max: int = 32 * 1024
    headers_max: int = 100
    body_bytes_max: int = 64 * 1024
    body_kept_bytes_max: int = BODY_KEPT_BYTES_MAX


READ_LIMITS = ReadLimits()

PoolKey = tuple[str, str, str, str | None, str | None]
"""Organization, origin, vetted address, TLS identity, proxy: all that must agree to share one."""


class Keeper(Protocol):
    """Who keeps idle connections; told by each connection what becomes of it."""

    def opened(self, connection: "Connection") -> None: ...

    def put(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...

    def gone(self, connection: "Connection") -> None: ...


class ClosedIdle(Exception):
    """A reused connection closed before any byte of a reply came."""


class Waiter(Protocol):
    """Who is told how an exchange ended, at once and from within the event loop's callback."""

    def ended(self, result: "Reply | SendFailed | ClosedIdle") -> None: ...


class _HeadRefused(Exception):
    """The reply's head breaks one of our rules."""


_names: dict[bytes, str] = {}


def _name(raw: bytes) -> str:
    """A header name in lower case; the usual ones are decoded once in a process's life."""
    name = raw.decode("latin-1").lower()
    if len(_names) < NAMES_KEPT_MAX:
        _names[raw] = name
    return name


class Connection(asyncio.Protocol):
    """The protocol of one connection; the parser calls its `on_…` methods."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_complete",
        "_head_done",
        "_headers",
        "_interims",
        "_keep_alive",
        "_keeper",
        "_large",
        "_limits",
        "_loop",
        "_parser",
        "_pending",
        "_received",
        "_resent",
        "_status",
        "_surplus",
        "_tail",
        "_transport",
        "_waiter",
        "deadline",
        "idle_since",
        "key",
        "reused",
        "usable",
    )

    def __init__(self, keeper: Keeper, key: PoolKey, loop: asyncio.AbstractEventLoop) -> None:
        self._keeper = keeper
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: Waiter | None = None
        self.reused = False
        self._complete = False
        self._surplus = False
        self.key = key
        self.deadline = NEVER
        self.idle_since = 0.0
        self.usable = False

    # What the client does with it.

    def peer(self) -> str:
        """The address at the other end, as the socket says."""
        assert self._transport is not None
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def exchange(
        self,
        head: bytes,
        body: bytes,
        waiter: Waiter,
        *,
        deadline: float,
        limits: ReadLimits = READ_LIMITS,
        resent: bool = False,
    ) -> None:
        """Write one request; the waiter is told its reply, `SendFailed` or `ClosedIdle`.

        `deadline` is the loop's time. The connection may be taken again when the waiter is told.
        """
        assert self._transport is not None
        assert self._waiter is None
        self._pending: bytearray | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = self._tail = b""
        self._body_bytes = 0
        self._interims = 0
        self._head_done = self._complete = self._received = False
        self._limits = limits
        self._resent = resent
        self.deadline = deadline
        self._waiter = waiter
        self._large = len(body) > JOINED_BYTES_MAX
        if self._large:
            self._transport.write(head)
            self._transport.write(body)
        else:
            self._transport.write(head + body)

    def drop(self, waiter: Waiter) -> None:
        """Give up an exchange whose waiter went away; one that is over already stays as it is."""
        if self._waiter is waiter:
            self._waiter = None
            self.deadline = NEVER
            self.abort()

    def expire(self) -> None:
        """The deadline has passed: a reply whose head came counts, anything else is a timeout."""
        if self._head_done:
            self._end(self._reply(STALLED))
        elif self._received:
            self._fail(Reason.TIMEOUT, "no complete head of a reply in time")
        elif self._unsent():
            self._fail(Reason.TIMEOUT, "the request was not taken in time")
        else:
            self._fail(Reason.TIMEOUT, "no reply in time")

    def abort(self) -> None:
        """Close at once; safe at any time and as often as one likes."""
        self.usable = False
        self._keeper.forget(self)
        if self._transport is not None:
            self._transport.abort()

    # What the event loop tells it.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True
        self._keeper.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # nothing was asked: such bytes would become the next request's reply
            return
        self._received = True
        head: bytes | bytearray = data
        if not self._head_done and self._pending is not None:
            self._pending += data
            head = self._pending
        head_was_done = self._head_done
        body_bytes = self._body_bytes
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Reason.BAD_REPLY, "the target switched protocols")
            return
        except httptools.HttpParserError as error:
            new = self._head_done and not head_was_done
            if new and self._head_bytes(head) > self._limits.head_bytes_max:
                self._fail(Reason.BAD_REPLY, "the reply's head is too large")
            else:
                self._broken(error)
            return
        if self._head_done:
            head_bytes = -body_bytes if head_was_done else self._head_bytes(head)
            if head_bytes > self._limits.head_bytes_max:
                self._fail(Reason.BAD_REPLY, "the reply's head is too large")
            elif self._complete:
                self._finish(data, len(head) == head_bytes + self._body_bytes)
            elif self._body_bytes > self._limits.body_bytes_max:
                self._end(self._reply(TRUNCATED))
            else:
                self._tail = (self._tail + data)[-4:]
        elif len(head) > self._limits.head_bytes_max:
            self._fail(Reason.BAD_REPLY, "the reply's head is too large")
        elif self._pending is None:
            self._pending = bytearray(data)

    def eof_received(self) -> None:
        self._closed(None)
        self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._keeper.forget(self)
        self._keeper.gone(self)
        self._closed(error)
        self._transport = None

    # What the parser tells it; after the end of the reply all of it is surplus.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        headers = self._headers
        headers.append((name, value))
        if len(headers) > self._limits.headers_max:
            raise _HeadRefused("the reply has too many headers")

    def on_headers_complete(self) -> None:
        if self._head_done:
            self._surplus = True
            return
        status = self._parser.get_status_code()
        if 200 <= status <= 599:
            self._status = status
            self._keep_alive = self._parser.should_keep_alive()
            self._head_done = True
        elif status == 101:
            raise _HeadRefused("the target switched protocols")
        elif 100 <= status < 200:
            self._interims += 1
            self._headers = []
            if self._interims > INTERIM_REPLIES_MAX:
                raise _HeadRefused("too many interim replies")
        else:
            raise _HeadRefused("the reply's status is out of range")

    def on_body(self, data: bytes) -> None:
        if self._complete:
            return
        self._body_bytes += len(data)
        room = self._limits.body_kept_bytes_max - len(self._body)
        if room > 0:
            self._body += data if len(data) <= room else data[:room]

    def on_message_complete(self) -> None:
        if self._head_done:
            self._complete = True

    # How an exchange ends.

    def _finish(self, data: bytes, counted: bool) -> None:
        """The reply is whole: keep the connection if it is clean, and answer.

        `counted` says that head and body together are as long as what was received.
        """
        waiter = self._waiter
        assert waiter is not None
        reply = self._whole()
        self._waiter = None
        self.deadline = NEVER
        if (
            self._keep_alive
            and not self._surplus
            and (counted or self._ends_after_chunks(data))
            and not (self._large and self._unsent())
        ):
            self._keeper.put(self)
        else:
            self.abort()
        waiter.ended(reply)

    def _ends_after_chunks(self, data: bytes) -> bool:
        """Whether a chunked reply's last byte was the last one received.

        The parser swallows surplus line ends and keeps half a surplus head to itself. Otherwise
        bytes are counted; the end of chunks must be exactly one empty line.
        """
        if self._framing() != "chunked":
            return False
        end = (self._tail + data)[-5:]
        return end.endswith(END_OF_HEAD) and not end.startswith(b"\n")

    def _unsent(self) -> bool:
        """Whether the target answered before it had read the whole request."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    def _broken(self, error: httptools.HttpParserError) -> None:
        """What came can't be parsed: after the head that is a note, after the body nothing."""
        if self._complete:
            self._end(self._whole())
        elif self._head_done:
            self._end(self._reply(MALFORMED))
        else:
            cause = error.__context__
            known = isinstance(cause, _HeadRefused)
            self._fail(Reason.BAD_REPLY, str(cause) if known else "the reply is not valid HTTP/1.1")

    def _closed(self, error: Exception | None) -> None:
        """The other side is gone, in good order or not."""
        if self._waiter is None:
            return
        if self._head_done:
            whole = error is None and self._framing() is None
            self._end(self._reply(None if whole else CUT if error is None else RESET))
        elif self.reused and not self._received:
            self._end(ClosedIdle())
        else:
            self._fail(*failure(error))

    def _fail(self, reason: Reason, detail: str) -> None:
        self._end(SendFailed(reason, detail))

    def _end(self, result: Reply | SendFailed | ClosedIdle) -> None:
        """Answer, and never use this connection again."""
        waiter, self._waiter = self._waiter, None
        self.deadline = NEVER
        self.abort()
        if waiter is not None:
            waiter.ended(result)

    def _whole(self) -> Reply:
        """The reply, all of which has come."""
        return self._reply(TRUNCATED if self._body_bytes > self._limits.body_bytes_max else None)

    def _reply(self, note: str | None) -> Reply:
        headers = [
            (_names.get(name) or _name(name), value.decode("latin-1").strip(" \t"))
            for name, value in self._headers
        ]
        return Reply(
            status=self._status,
            headers=tuple(headers),
            body=self._body,
            note=note,
            resent=self._resent,
        )

    def _head_bytes(self, head: bytes | bytearray) -> int:
        """How long the complete head in there is, interim replies included."""
        end = head.find(END_OF_HEAD) + 4
        if self._interims:
            for _ in range(self._interims):
                end = head.find(END_OF_HEAD, end) + 4
        return end

    def _framing(self) -> str | None:
        """How the body's end is known: by `length`, `chunked`, or (None) by the close."""
        framing = "length" if self._status in (204, 304) else None
        for name, value in self._headers:
            match name.lower():
                case b"content-length":
                    framing = "length"
                case b"transfer-encoding":
                    return "chunked" if value.lower().strip().endswith(b"chunked") else None
        return framing


def failure(error: BaseException | None) -> tuple[Reason, str]:
    """Reason and words for what befell a connection; the error's own text may tell too much."""
    match error:
        case None:
            return Reason.CONNECTION_RESET, "closed without a complete reply"
        case ssl.SSLCertVerificationError():
            return Reason.TLS_FAILED, _certificate(error)
        case ssl.SSLError():
            return Reason.TLS_FAILED, (error.reason or "handshake").replace("_", " ").lower()
        case ConnectionRefusedError():
            return Reason.CONNECTION_REFUSED, "connection refused"
        case ConnectionError():
            return Reason.CONNECTION_RESET, "connection reset"
        case TimeoutError():
            return Reason.TIMEOUT, "the connection timed out"
        case _:
            return Reason.CONNECTION_FAILED, "the connection failed"


_MISMATCH = {62, 63, 64}  # X509_V_ERR_HOSTNAME_, EMAIL_ and IP_ADDRESS_MISMATCH


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    """OpenSSL's fixed words, but for mismatches, whose text holds what was looked for."""
    if error.verify_code in _MISMATCH:
        return "the certificate is for another host"
    return str(error.verify_message)

"""Publishes that need nothing but their body: from the parser to their handler and back.

What there is most of is a publish with a key that is at hand, whole in one piece. It needs no
scope, no messages and no flow control; everything that is not such a publish goes to the
application the usual way.
"""

import asyncio
from http import HTTPStatus

from tocsin.web.dialects import Dialect, refuse
from tocsin.web.publish import Known, PublishHandler
from tocsin.web.replies import Pairs, Refusal


class _Quiet:
    """Stands where uvicorn's event for a waiting application is: nobody waits here."""

    def set(self) -> None:
        pass


_QUIET = _Quiet()


class ExpressRequest:
    """One such publish; what uvicorn's protocol asks of a request's cycle, it answers."""

    __slots__ = (
        "_handler",
        "_known",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
    )

    message_event = _QUIET
    waiting_for_100_continue = False

    def __init__(self, handler: PublishHandler, known: Known, keep_alive: bool) -> None:
        self._handler = handler
        self._known = known
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.disconnected = False

    def add(self, part: bytes) -> None:
        """A part of the body; nearly always all of it."""
        if not self.body:
            self.body = part
        else:
            if not isinstance(self.body, bytearray):
                self.body = bytearray(self.body)
            self.body += part

    async def reply(self, dates: bytes) -> bytes:
        """The whole reply, head and body; `dates` are header lines that every reply has."""
        handler = self._handler
        began = handler.began()
        try:
            body = await handler.answer(self._known, bytes(self.body))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            scope = {
                "method": "POST",
                "tocsin.path": "/api/v1/organizations",
                "tocsin.dialect": Dialect.NATIVE,
            }
            refusal = refuse(scope, error)
            handler.refused(began, refusal.status, error)
            return self._refusal(refusal, dates)
        handler.accepted(began)
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return (
            b"HTTP/1.1 202 Accepted\r\n%bcontent-type: application/json\r\n"
            b"content-length: %d\r\n%b\r\n%b" % (dates, len(body), close, body)
        )

    def _refusal(self, refusal: Refusal, dates: bytes) -> bytes:
        if (b"connection", b"close") in refusal.headers:
            self.keep_alive = False
        lines = [
            dates,
            b"content-type: %b\r\ncontent-length: %d\r\n"
            % (refusal.content_type, len(refusal.body)),
            *(b"%b: %b\r\n" % pair for pair in refusal.headers if pair[0] != b"connection"),
            b"" if self.keep_alive else b"connection: close\r\n",
        ]
        start = b"HTTP/1.1 %d %b\r\n" % (refusal.status, HTTPStatus(refusal.status).phrase.encode())
        return b"%b%b\r\n%b" % (start, b"".join(lines), refusal.body)


def header_lines(headers: Pairs) -> bytes:
    """Headers as they stand in a head."""
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])

"""Writing a reply in one piece, and closing a connection so that its last reply arrives."""

import asyncio
from typing import Any

LINGER_SECONDS = 2.0


class LingeringTransport:
    """A transport that, closed while its client is still sending, lets it read the reply first.

    Closing a socket with unread bytes resets the connection, and the reset may overtake the
    reply. So only our half is closed, and what still comes is thrown away for a moment.

    A reply is written as a head and a body; as both come in one turn of the loop, they leave
    together, because sending is the most expensive thing that is done for a request.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self.unread = False
        self.lingering = False
        self._pieces: list[bytes] = []
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.lingering or self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send with whatever else is written in this turn of the loop."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def write_now(self, data: bytes) -> None:
        """Send a whole reply."""
        if self._pieces:
            self._pieces.append(data)
            self._flush()
        else:
            self._transport.write(data)

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def close(self) -> None:
        """Close when what was written is sent."""
        if self.lingering or self._transport.is_closing():
            return
        self._flush()
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

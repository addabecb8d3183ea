"""Closing a connection so that its last reply arrives."""

import asyncio
from typing import Any

LINGER_SECONDS = 2.0


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

"""TLS: one context for each identity, and sessions that spare later handshakes.

asyncio and uvloop make the TLS object themselves, by the context's `wrap_bio`, and have no way to
give it a session. So they are given an object that has only this method.
"""

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable

from tocsin.domain.exchange import Identity
from tocsin.domain.outcome import Reason
from tocsin.net.connection import PoolKey
from tocsin.net.errors import SendFailed

IDENTITIES_KEPT_MAX = 64
SESSIONS_KEPT_MAX = 512
SESSION_SECONDS_MAX = 600.0
"""A resumed session shows no certificate again: so long may one outlast its own."""

MakeContext = Callable[[], ssl.SSLContext]


def default_ssl_context() -> ssl.SSLContext:
    """Verifies chain and host against the system's authorities; TLS 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Contexts:
    """The contexts in use, each made in a thread when it is first needed: it takes 50 ms and
    nearly 1 MiB. The one without identity stays, of the others those used last."""

    def __init__(self, make: MakeContext = default_ssl_context) -> None:
        self._make = make
        self._plain: asyncio.Future[ssl.SSLContext] | None = None
        self._with: OrderedDict[str, asyncio.Future[ssl.SSLContext]] = OrderedDict()

    async def get(self, identity: Identity | None) -> ssl.SSLContext:
        """The context that presents this identity; raises `SendFailed` if it can't."""
        if identity is None:
            plain = self._plain
            if plain is None or (plain.done() and plain.exception() is not None):
                plain = self._plain = self._start(None)
            return await asyncio.shield(plain)
        made = self._with.get(identity.name)
        if made is None:
            made = self._with[identity.name] = self._start(identity)
            if len(self._with) > IDENTITIES_KEPT_MAX:
                self._with.popitem(last=False)
        else:
            self._with.move_to_end(identity.name)
        try:
            return await asyncio.shield(made)
        except (OSError, ValueError):  # an SSLError is an OSError
            if self._with.get(identity.name) is made:
                del self._with[identity.name]
            words = "the client certificate can't be used"
            raise SendFailed(Reason.TLS_FAILED, words) from None

    def _start(self, identity: Identity | None) -> "asyncio.Future[ssl.SSLContext]":
        started = asyncio.get_running_loop().run_in_executor(None, self._new, identity)
        # Whoever waits has the error, too; there may be nobody any more.
        started.add_done_callback(lambda done: done.cancelled() or done.exception())
        return started

    def _new(self, identity: Identity | None) -> ssl.SSLContext:
        context = self._make()
        if identity is not None:
            _present(context, identity)
        return context


def _present(context: ssl.SSLContext, identity: Identity) -> None:
    """Load chain and key, which `ssl` takes from files only: from pipes, so that no key is ever
    written to a disk."""
    chain = _readable(identity.certificate)
    try:
        key = _readable(identity.private_key)
        try:
            context.load_cert_chain(f"/dev/fd/{chain}", f"/dev/fd/{key}", password=_no_password)
        finally:
            os.close(key)
    finally:
        os.close(chain)


def _no_password() -> str:
    """Instead of a question on the terminal, should the key be encrypted after all."""
    raise ValueError("the key is encrypted")


def _readable(text: str) -> int:
    """A descriptor from which the text can be read once; it fits into the pipe's buffer."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        data = text.encode()
        if os.write(writing, data) != len(data):
            raise ValueError("the text is too long")
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading


class Resuming:
    """What an event loop asks of a context, for one connection.

    `ends` is the time at which the session that it offers must be made anew.
    """

    __slots__ = ("_session", "context", "ends")

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None, ends: float):
        self.context = context
        self.ends = ends
        self._session = session

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        """As `ssl.SSLContext.wrap_bio`, with the session."""
        return self.context.wrap_bio(
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            session=self._session,
        )


class Sessions:
    """TLS sessions by pool key, so that one is used only where it was made."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: OrderedDict[PoolKey, tuple[ssl.SSLSession, ssl.SSLContext, float]]
        self._kept = OrderedDict()

    def resuming(self, key: PoolKey, context: ssl.SSLContext) -> Resuming:
        """The context for one connection, with a session if there is one for it."""
        now = self._now()
        session, made_with, ends = self._kept.get(key, (None, context, 0.0))
        # `ssl` refuses a session of another context, such as one that was made again.
        if session is not None and made_with is context and ends > now:
            self._kept.move_to_end(key)
            return Resuming(context, session, ends)
        self.forget(key)
        return Resuming(context, None, now + SESSION_SECONDS_MAX)

    def keep(self, key: PoolKey, resuming: Resuming, made: ssl.SSLObject) -> None:
        """Remember a connection's session; after its first reply, for the server sends it late."""
        session = made.session
        if session is None:
            return
        ends = resuming.ends if made.session_reused else self._now() + SESSION_SECONDS_MAX
        self._kept[key] = (session, resuming.context, ends)
        self._kept.move_to_end(key)
        if len(self._kept) > SESSIONS_KEPT_MAX:
            self._kept.popitem(last=False)

    def forget(self, key: PoolKey) -> None:
        """Begin anew: a handshake has failed."""
        self._kept.pop(key, None)

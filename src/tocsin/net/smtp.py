"""Mails out through the operator's mail server: a connection for each, few at once.

The guard's tables are not asked here. They keep tenants from choosing where this server connects
to; the mail server is chosen by the operator alone, like the database, and stands on a private
network more often than not. Nothing of a tenant's, and nothing the mail server says, has a part in
it: the name is resolved by our own resolver, and the connection goes to that very address.
"""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import aiosmtplib

from tocsin.domain.exchange import Reply
from tocsin.domain.mail import Mail, MailServer, Sender
from tocsin.domain.outcome import Reason
from tocsin.domain.text import bounded
from tocsin.net.connection import failure
from tocsin.net.errors import NameNotResolved, NotSent, SendFailed
from tocsin.net.mime import mime
from tocsin.net.resolver import Resolver
from tocsin.net.slots import FairSlots

CONNECTIONS_MAX = 10
CONNECTIONS_PER_ORGANIZATION_MAX = 5
ADDRESSES_TRIED_MAX = 4
SAID_BYTES_MAX = 500

_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\b", re.ASCII)
# Asked for a login, or told that it is not enough (RFC 4954).
_LOGIN_CODES = frozenset({530, 534, 535, 538})
_CLOSING = 421
_MAILBOX_NAME_REFUSED = 553

_log = logging.getLogger("tocsin.mail")


class Mailer:
    """Gives mails to one server. Bounded for the server's sake, and fair between organizations."""

    def __init__(
        self,
        server: MailServer,
        sender: Sender,
        resolver: Resolver,
        *,
        wall_ms: Callable[[], int],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._server = server
        self._sender = sender
        self._resolver = resolver
        self._wall_ms = wall_ms
        self._ssl_context = ssl_context
        self._slots = FairSlots(CONNECTIONS_MAX, share=CONNECTIONS_PER_ORGANIZATION_MAX)

    async def send(
        self,
        mail: Mail,
        *,
        organization: str,
        timeout_seconds: float,
        may_write: Callable[[], bool],
    ) -> Reply:
        """The server's answer to the mail, by its first refusal or its last word.

        Raises `SendFailed` where there is none, and also where the server refuses us and not the
        mail (greeting, TLS, login): that is for the operator to mend, and the mail is tried again.
        Raises `NotSent` when `may_write` declines, or no connection is free in half the time.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds / 2):
                await self._slots.acquire(organization)
        except TimeoutError:
            raise NotSent from None
        try:
            async with asyncio.timeout_at(deadline):
                return await self._send(mail, may_write, deadline)
        except aiosmtplib.SMTPResponseException as error:
            if error.code < 0:
                raise SendFailed(Reason.BAD_REPLY, "not SMTP") from None
            raise SendFailed(Reason.SMTP_REPLY, f"{_code(error)} at the greeting") from None
        except aiosmtplib.SMTPException as error:
            # Its "timeouts" are cut handshakes: it was given none.
            raise SendFailed(*failure(_cause(error))) from None
        except TimeoutError:
            raise SendFailed(Reason.TIMEOUT, "no answer in time") from None
        except OSError as error:
            raise SendFailed(*failure(error)) from None
        finally:
            self._slots.release(organization)

    async def _send(self, mail: Mail, may_write: Callable[[], bool], deadline: float) -> Reply:
        server = self._server
        tls = await self._tls()
        connected = await self._connect(deadline)
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            sock=connected,
            use_tls=server.implicit_tls,
            start_tls=False,
            tls_context=tls,
            local_hostname=_literal(connected.getsockname()[0]),
            timeout=None,
        )
        try:
            await smtp.connect()
            await self._prepare(smtp)
            reply = await self._give(smtp, mail, may_write)
            # The outcome is known: nobody waits for what a server says to this, or is still there.
            with suppress(aiosmtplib.SMTPException):
                if smtp.protocol is not None:
                    smtp.protocol.write(b"QUIT\r\n")
            return reply
        except BaseException:
            if smtp.transport is None:
                connected.close()
            else:
                cast(asyncio.WriteTransport, smtp.transport).abort()
            raise
        finally:
            smtp.close()

    async def _connect(self, deadline: float) -> socket.socket:
        """A socket to the first address that answers; each but the last gets its share of time."""
        host, port = self._server.host, self._server.port
        addresses: Sequence[str] = (host,)
        if not _is_address(host):
            try:
                addresses = await self._resolver.resolve(host, organization="")
            except NameNotResolved:
                raise SendFailed(
                    Reason.NAME_NOT_RESOLVED, "the mail server's name has no address"
                ) from None
        loop = asyncio.get_running_loop()
        error: OSError = ConnectionError()
        tried = addresses[:ADDRESSES_TRIED_MAX]
        for position, address in enumerate(tried):
            now = loop.time()
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connecting = socket.socket(family, socket.SOCK_STREAM)
            connecting.setblocking(False)
            try:
                async with asyncio.timeout_at(now + (deadline - now) / (len(tried) - position)):
                    await loop.sock_connect(connecting, (address, port))
            except OSError as refused:
                connecting.close()
                error = refused
            except BaseException:
                connecting.close()
                raise
            else:
                return connecting
        raise error

    async def _prepare(self, smtp: aiosmtplib.SMTP) -> None:
        """Greet, encrypt where it can be, log in where there is a login."""
        server = self._server
        await _greet(smtp)
        if not server.implicit_tls:
            if smtp.supports_extension("starttls"):
                try:
                    await smtp.starttls(server_hostname=server.host)
                except aiosmtplib.SMTPResponseException as error:
                    raise SendFailed(Reason.TLS_FAILED, f"{_code(error)} to STARTTLS") from None
                await _greet(smtp)
            elif server.username is not None:
                # Somebody in between may have taken the offer out; then this is what they want.
                raise SendFailed(
                    Reason.TLS_FAILED,
                    "the mail server offers no STARTTLS, without which no password is sent",
                )
        if server.username is None:
            return
        try:
            await smtp.login(server.username, server.password)
        except aiosmtplib.SMTPAuthenticationError as error:
            raise SendFailed(Reason.SMTP_LOGIN_FAILED, _code(error)) from None
        except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPTimeoutError):
            raise
        except aiosmtplib.SMTPException:
            raise SendFailed(
                Reason.SMTP_LOGIN_FAILED, "the mail server offers no way to log in"
            ) from None

    async def _give(
        self, smtp: aiosmtplib.SMTP, mail: Mail, may_write: Callable[[], bool]
    ) -> Reply:
        """Sender, recipients, message. It is delivered if the server took it for one recipient."""
        utf8 = not (self._sender.address.ascii and all(address.ascii for address in mail.to))
        if utf8 and not smtp.supports_extension("smtputf8"):
            note = "the mail server takes no address with other than ASCII characters"
            return Reply(status=_MAILBOX_NAME_REFUSED, headers=(), body=b"5.6.7", note=note)
        encoding = "utf-8" if utf8 else "ascii"
        message = mime(mail, self._sender, now_ms=self._wall_ms(), utf8=utf8)
        if not may_write():
            raise NotSent
        refusals: list[aiosmtplib.SMTPResponseException] = []
        try:
            options = ["SMTPUTF8", "BODY=8BITMIME"] if utf8 else None
            await smtp.mail(str(self._sender.address), options=options, encoding=encoding)
            for address in mail.to:
                try:
                    await smtp.rcpt(str(address), encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused as error:
                    _noted(error)
                    refusals.append(error)
                    if error.code == _CLOSING:
                        return _reply(error)
            if len(refusals) == len(mail.to):
                # One that may work later is worth another try for all.
                return _reply(min(refusals, key=lambda one: one.code // 100))
            taken = await smtp.data(message)
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            _noted(error)
            if error.code in _LOGIN_CODES:
                raise SendFailed(Reason.SMTP_LOGIN_FAILED, _code(error)) from None
            return _reply(error)
        body = f"{taken.code}"
        if refusals:
            body = f"{len(refusals)} of {len(mail.to)} recipients refused: {_code(refusals[0])}"
        return Reply(status=taken.code, headers=(), body=body.encode())

    async def _tls(self) -> ssl.SSLContext:
        """Made in a thread with the first mail: it takes 50 ms."""
        if self._ssl_context is None:
            loop = asyncio.get_running_loop()
            self._ssl_context = await loop.run_in_executor(None, _context)
        return self._ssl_context


def _context() -> ssl.SSLContext:
    """Verifies chain and host against the system's authorities; TLS 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def _greet(smtp: aiosmtplib.SMTP) -> None:
    try:
        await smtp.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code == _CLOSING or not smtp.is_connected:
            raise
        await smtp.helo()


def _reply(error: aiosmtplib.SMTPResponseException) -> Reply:
    return Reply(status=error.code, headers=(), body=_code(error).encode())


def _code(error: aiosmtplib.SMTPResponseException) -> str:
    """The code and the enhanced code; the words after them may tell too much."""
    enhanced = _ENHANCED.match(error.message)
    return f"{error.code} {enhanced[0]}" if enhanced else str(error.code)


def _noted(error: aiosmtplib.SMTPResponseException) -> None:
    """The server's own words, for the operator."""
    _log.info("the mail server said %d %s", error.code, bounded(error.message, SAID_BYTES_MAX))


def _cause(error: BaseException) -> BaseException:
    """What lies beneath the library's errors: it is what `failure` has words for."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _literal(address: str) -> str:
    """Our own address, for the greeting: a machine needs no name to send mail (RFC 5321, 4.1.3)."""
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"

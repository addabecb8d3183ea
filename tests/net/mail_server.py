"""A real SMTP server (aiosmtpd) in a thread of its own, which keeps what it was given."""

import asyncio
import ssl
import threading
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from msgspec import Struct

START_SECONDS_MAX = 30.0


class Receipt(Struct, frozen=True, kw_only=True):
    """One mail that was given whole; `taken` says whether the server said yes to it."""

    sender: str
    to: tuple[str, ...]
    content: bytes
    secure: bool
    login: str | None
    taken: bool
    options: tuple[str, ...]

    @property
    def message(self) -> EmailMessage:
        """The mail as a program reads it."""
        found = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def part(self, subtype: str) -> str:
        """The text or HTML of it."""
        (found,) = (p for p in self.message.walk() if p.get_content_type() == f"text/{subtype}")
        assert isinstance(found, EmailMessage)
        text: str = found.get_content()
        return text.replace("\r\n", "\n")


class MailServer:
    """Listens on 127.0.0.1 from entering to leaving.

    `answers` are replies to `MAIL`, `DATA`, or a recipient's address, in place of yes. With `tls`
    STARTTLS is offered, or with `implicit` spoken from the first byte. `login` is user and
    password, which are then required.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        utf8: bool = True,
        login: tuple[str, str] | None = None,
        answers: Mapping[str, str] | None = None,
    ) -> None:
        self.answers = dict(answers or {})
        self.receipts: list[Receipt] = []
        self.sessions = 0
        self.open: set[_Session] = set()
        self.port = 0
        self._tls = tls
        self._implicit = implicit
        self._utf8 = utf8
        self._login = login
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mail server", daemon=True)

    def __enter__(self) -> "MailServer":
        self._thread.start()
        assert self._ready.wait(START_SECONDS_MAX)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS_MAX)
        assert not self._thread.is_alive()

    def url(self, login: str = "", host: str = "localhost") -> str:
        """What TOCSIN_SMTP_URL is for it."""
        scheme = "smtps" if self._implicit else "smtp"
        return f"{scheme}://{f'{login}@' if login else ''}{host}:{self.port}"

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(
            self._session, "127.0.0.1", 0, ssl=self._tls if self._implicit else None
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for session in tuple(self.open):
            session.cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _session(self) -> SMTP:
        self.sessions += 1
        return _Session(
            self,
            hostname="mail.test",
            enable_SMTPUTF8=self._utf8,
            tls_context=None if self._implicit else self._tls,
            # It does not see that TLS is below it, and would warn.
            auth_required=self._login is not None and not self._implicit,
            auth_require_tls=not self._implicit,
            authenticator=self._authenticate,
            loop=self._loop,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode()) if data else None
        assert data is None or isinstance(data, LoginPassword)
        return AuthResult(success=given == self._login, handled=False, auth_data=given and given[0])

    # What aiosmtpd asks its handler

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get("MAIL")
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.answers.get(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        answer = self.answers.get("DATA")
        assert isinstance(envelope.content, bytes)
        self.receipts.append(
            Receipt(
                sender=str(envelope.mail_from),
                to=_texts(envelope.rcpt_tos),
                content=envelope.content,
                secure=session.ssl is not None or self._implicit,
                login=session.auth_data,
                taken=answer is None,
                options=_texts(envelope.mail_options),
            )
        )
        return answer or "250 2.0.0 OK, queued as 4711"


class _Session(SMTP):
    def __init__(self, owner: MailServer, **options: Any) -> None:
        super().__init__(owner, **options)
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._owner.open.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.open.discard(self)
        super().connection_lost(error)

    def cut(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, values))

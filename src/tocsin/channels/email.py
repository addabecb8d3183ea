"""E-mail: each event as a mail with a text and an HTML form, through the operator's mail server.

A reply is SMTP's here: `status` is its three digits (RFC 5321), the body begins with the enhanced
code where the server gives one (RFC 3463). The server's own words are left out: they name hosts
and addresses that are the operator's business.
"""

import re
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from tocsin.channels.base import ChannelType, MailTransport, Sending, Transports
from tocsin.channels.fields import Settings, field
from tocsin.channels.people import message_for
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Reply
from tocsin.domain.mail import ADDRESS_CHARS_MAX, Mail, parse_address
from tocsin.domain.outcome import Delivered, Outcome, Reason, Rejected, Retry
from tocsin.domain.text import iso, shortened, visible

RECIPIENTS_MAX = 10
SUBJECT_CHARS_MAX = 150

NOT_CONFIGURED = (
    "This server has no mail server: set TOCSIN_SMTP_URL (smtp://user:password@host:587) "
    "and TOCSIN_SMTP_FROM."
)

_ENHANCED = re.compile(rb"[245]\.([0-9]{1,3})\.[0-9]{1,3}\b")

_MEANINGS = {
    b"1": "the address does not exist or is not accepted",
    b"2": "the mailbox takes no mail now",
    b"3": "the mail system can't take it",
    b"4": "it can't be passed on",
    b"6": "its form is not accepted",
    b"7": "the mail server's rules forbid it",
}
"""What the second digit of an enhanced code is about."""


class EmailSettings(Settings, frozen=True):
    """Who gets the mails; all of them see each other."""

    to: Annotated[
        list[Annotated[str, Meta(min_length=3, max_length=ADDRESS_CHARS_MAX)]],
        field(
            "Recipients",
            f"Up to {RECIPIENTS_MAX} e-mail addresses; they see each other.",
            min_length=1,
            max_length=RECIPIENTS_MAX,
        ),
    ]


class Email(ChannelType[EmailSettings]):
    """Mails through the one mail server that the operator has set."""

    name = "email"
    title = "E-mail"
    speaks_http = False
    settings_type = EmailSettings

    def __init__(self, transport: MailTransport | None = None) -> None:
        self._transport = transport
        self.available = transport is not None
        self.install = None if self.available else NOT_CONFIGURED

    def equipped(self, transports: Transports) -> "Email":
        return Email(transports.mail)

    def check(self, settings: EmailSettings) -> None:
        for index, address in enumerate(settings.to):
            try:
                parse_address(address)
            except ValueError as error:
                raise Invalid(f"settings.to[{index}]", str(error)) from None

    def compose(self, sending: Sending, settings: EmailSettings) -> Mail:
        """The mail of a delivery, the same on every retry. Pure, like `build` of other types."""
        # Jinja2 and the templates are loaded with the first mail.
        from tocsin.render import mail

        _, message = message_for(sending)
        moment = iso(sending.event.occurred_at)
        letter = mail.Letter(
            message=message,
            event_type=sending.event.type,
            moment=f"{moment[:10]} {moment[11:16]} UTC",
            channel=visible(sending.channel.name),
        )
        urgent = f"[{letter.severity}] " if message.severity != "info" else ""
        return Mail(
            id=sending.delivery_id,
            to=tuple(dict.fromkeys(map(parse_address, settings.to))),
            subject=shortened(f"{urgent}{visible(message.title)}", SUBJECT_CHARS_MAX),
            text=mail.text(letter),
            html=mail.html(letter),
        )

    async def send(
        self, sending: Sending, settings: EmailSettings, may_write: Callable[[], bool]
    ) -> Reply | Outcome:
        if self._transport is None:
            return Retry(Reason.SMTP_NOT_CONFIGURED)
        return await self._transport.send(
            self.compose(sending, settings),
            organization=sending.event.organization_id,
            timeout_seconds=sending.channel.timeout_seconds,
            may_write=may_write,
        )

    def judge(self, reply: Reply, settings: EmailSettings, now_ms: int) -> Outcome:
        """2xx was taken; 4xx is SMTP's "not now", 5xx its "never"; nothing else ends a mail."""
        status = reply.status
        if 200 <= status < 300:
            return Delivered()
        code = _ENHANCED.search(reply.body)
        meaning = _MEANINGS.get(code[1]) if code else None
        detail = f"{status} {code[0].decode()}" if code else str(status)
        if meaning is not None:
            detail = f"{detail}: {meaning}"
        return (Rejected if 500 <= status < 600 else Retry)(Reason.SMTP_REPLY, detail)


EMAIL = Email()

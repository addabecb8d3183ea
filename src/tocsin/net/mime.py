"""A mail as the bytes that go over the wire (RFC 5322, MIME)."""

from datetime import UTC, datetime
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from tocsin.domain.mail import Address, Mail, Sender


def message_id(mail: Mail, sender: Sender) -> str:
    """The same on every retry, so that mail programs show what came twice only once."""
    return f"<{mail.id}@{sender.address.domain}>"


def mime(mail: Mail, sender: Sender, *, now_ms: int, utf8: bool) -> bytes:
    """The message: headers, then the text, then the HTML that says the same.

    7-bit, but for header fields where `utf8` (SMTPUTF8) lets addresses stand as they are. A line
    break in a header is refused by the library, whatever came this far.
    """
    message = EmailMessage(policy=SMTPUTF8 if utf8 else SMTP)
    message["From"] = _header(sender.address, sender.name)
    message["To"] = [_header(address) for address in mail.to]
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(now_ms // 1000, UTC))
    message["Message-ID"] = message_id(mail, sender)
    # Nobody's absence note shall answer (RFC 3834; the second is Exchange's word for it).
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    # In quoted-printable the boundary, which has "=_" in it, can't occur.
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    message.set_boundary(f"=_{mail.id}")
    return message.as_bytes()


def _header(address: Address, name: str = "") -> HeaderAddress:
    return HeaderAddress(display_name=name, username=address.local, domain=address.domain)

"""E-mail as values: a mail to be sent, who sends it, the server it goes through, and addresses.

Addresses are judged by a rule of our own, narrower than RFC 5321: whatever two mail programs could
read differently (quotes, comments, routes, address literals) is refused instead of being repaired.
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from msgspec import Struct

ADDRESS_CHARS_MAX = 254
LOCAL_BYTES_MAX = 64
DOMAIN_CHARS_MAX = 253
SENDER_NAME_CHARS_MAX = 128
PORTS = {"smtp": 587, "smtps": 465}

# Not % and !, which old relays took for a way past their rules; not quotes, brackets or spaces.
_ATOM = re.compile(r"[A-Za-z0-9_+'=&#$*?^{}~/-]+", re.ASCII)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# IDNA 2003 and 2008 send a name with one of these to two different owners; the last is a dot to
# one of them.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d\u3002]")
_SENDER = re.compile(r"(?:([^<>\"\\\x00-\x1f\x7f]*?)[ ]*<([^<>]*)>|([^<>]*))")
_SERVER = re.compile(
    r"(smtps?)://(?:([^@/?#\x00-\x20\x7f]*)@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"
    r"(?::([0-9]{1,5}))?/?",
    re.IGNORECASE | re.ASCII,
)
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f]")


class Address(Struct, frozen=True):
    """A mailbox: `domain` is lower-case ASCII (A-labels); `local` may need SMTPUTF8."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def ascii(self) -> bool:
        """Whether every mail server understands it."""
        return self.local.isascii()


class Sender(Struct, frozen=True):
    """Who mails come from; `name` may be empty."""

    address: Address
    name: str = ""


class Mail(Struct, frozen=True, kw_only=True):
    """One mail but for what its transport adds: From, Date, and how it is encoded.

    `id` is the same on every retry, and becomes the Message-ID. `subject` is one line. `text` and
    `html` say the same.
    """

    id: str
    to: tuple[Address, ...]
    subject: str
    text: str
    html: str


class MailServer(Struct, frozen=True, kw_only=True):
    """Where the operator's mail goes out. `implicit_tls` is TLS from the first byte; otherwise
    STARTTLS is used where it is offered, and must be where there is a password."""

    host: str
    port: int
    implicit_tls: bool
    username: str | None = None
    password: str = ""

    def __repr__(self) -> str:
        return f"<SMTP server {self.host}:{self.port}>"


def parse_address(text: str) -> Address:
    """An address by the narrow rule; raises ValueError, whose text never repeats the address."""
    local, at, domain = text.rpartition("@")
    if not at or "@" in local:
        raise ValueError("must be one e-mail address, like name@example.com")
    if len(text) > ADDRESS_CHARS_MAX or len(local.encode(errors="replace")) > LOCAL_BYTES_MAX:
        raise ValueError("is too long for an e-mail address")
    if not all(map(_atom_valid, local.split("."))):
        raise ValueError("has characters before the @ that are not accepted in an e-mail address")
    return Address(local, _domain(domain))


def parse_sender(text: str) -> Sender:
    """`Name <address>`, or an address alone; raises ValueError."""
    found = _SENDER.fullmatch(text.strip(" "))
    if found is None:
        raise ValueError("must be an e-mail address, or Name <address>")
    name = (found[1] or "").strip()
    if len(name) > SENDER_NAME_CHARS_MAX or not (name.isprintable() or not name):
        raise ValueError("has a name that is too long, or has characters that are not printed")
    return Sender(parse_address(found[2] if found[2] is not None else found[3]), name)


def parse_mail_server(url: str) -> MailServer:
    """`smtp://user:password@host:port` or `smtps://…`; raises ValueError that repeats nothing."""
    found = _SERVER.fullmatch(url)
    if found is None:
        raise ValueError("must look like smtp://user:password@host:587 or smtps://host")
    scheme, login, host, port_text = found[1].lower(), found[2], found[3].lower(), found[4]
    port = int(port_text) if port_text else PORTS[scheme]
    if not 0 < port < 65536:
        raise ValueError("has a port that does not exist")
    username, password = None, ""
    if login is not None:
        name, _, word = login.partition(":")
        username, password = _decoded(name), _decoded(word)
        if not username or not password:
            raise ValueError("needs both a user and a password before the @, or neither")
    return MailServer(
        host=host.strip("[]"),
        port=port,
        implicit_tls=scheme == "smtps",
        username=username,
        password=password,
    )


def _atom_valid(atom: str) -> bool:
    """ASCII as listed; beyond it letters, marks and digits in their normal form."""
    if _ATOM.fullmatch(atom):
        return True
    if not atom or unicodedata.normalize("NFKC", atom) != atom:
        return False
    return all(
        _ATOM.fullmatch(char) if char.isascii() else unicodedata.category(char)[0] in "LMN"
        for char in atom
    )


def _domain(domain: str) -> str:
    if not domain.isascii():
        if _DEVIATIONS.search(domain) or unicodedata.normalize("NFKC", domain) != domain:
            raise ValueError("has an ambiguous domain; give it in its xn-- form")
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("has no valid domain after the @") from None
    domain = domain.lower()
    labels = domain.split(".")
    if (
        len(domain) > DOMAIN_CHARS_MAX
        or not all(_LABEL.fullmatch(label) for label in labels)
        or labels[-1].isdecimal()
    ):
        raise ValueError("has no valid domain after the @")
    return domain


def _decoded(text: str) -> str:
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("has a user or password that is not UTF-8, percent-encoded") from None
    if _NOT_PRINTED.search(decoded):
        raise ValueError("has a user or password with control characters")
    return decoded

"""Where a URL points, parsed once and strictly; everything later uses the result, never the URL.

Parsers that disagree about one URL are how guards are walked around, so whatever two of them
could read differently is refused here instead of being repaired.
"""

import re
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

from msgspec import Struct

from tocsin.net.errors import TargetInvalid

URL_CHARS_MAX = 8192
HOST_CHARS_MAX = 253
PORTS = {"http": 80, "https": 443}

_REFUSED_CHARACTER = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
# IDNA 2003 and 2008 send a name with one of these to two different owners.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")


class Target(Struct, frozen=True):
    """`host` is lower-case ASCII, an IPv6 literal in brackets; `path` is ASCII with the query.

    `origin` tells targets apart that may share a connection. `addresses` holds the address when
    the host is a literal, so that no name has to be resolved.
    """

    scheme: str
    host: str
    port: int
    path: str
    origin: str
    authority: str
    addresses: tuple[str, ...] = ()

    @property
    def server_name(self) -> str:
        """What the server's certificate must be for."""
        return self.addresses[0] if self.addresses else self.host


def parse_target(url: str) -> Target:
    """The one parser of target URLs; raises `TargetInvalid`. The fragment is dropped."""
    if len(url) > URL_CHARS_MAX:
        raise TargetInvalid("the URL is too long")
    if _REFUSED_CHARACTER.search(url):
        raise TargetInvalid("the URL holds a space, a control character or a backslash")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise TargetInvalid("the URL must begin with http:// or https://")
    rest = rest.partition("#")[0]
    end = re.search(r"[/?]|$", rest)
    cut = end.start() if end else len(rest)
    host, port_text, address = _split_authority(rest[:cut])
    port = PORTS[scheme] if port_text is None else _port(port_text)
    authority = host if port == PORTS[scheme] else f"{host}:{port}"
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        path=_path(rest[cut:]),
        origin=f"{scheme}://{authority}",
        authority=authority,
        addresses=(address,) if address else (),
    )


def _split_authority(authority: str) -> tuple[str, str | None, str | None]:
    """Host, port text and the address when the host is a literal."""
    if "@" in authority:
        raise TargetInvalid("the URL must not hold a user name or password")
    if "%" in authority:
        raise TargetInvalid("the URL's host must not be percent-encoded or hold a zone")
    if authority.startswith("["):
        literal, bracket, tail = authority[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise TargetInvalid("the URL's host is not valid")
        try:
            address = str(IPv6Address(literal))
        except AddressValueError:
            raise TargetInvalid("the URL's host is not a valid IPv6 address") from None
        return f"[{address}]", tail[1:] if tail else None, address
    host, colon, port = authority.partition(":")
    name = _host(host)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        # Whatever ends in a number is an IPv4 address to somebody: only one spelling is taken.
        try:
            address = str(IPv4Address(host))
        except AddressValueError:
            raise TargetInvalid("the URL's host is not a valid IPv4 address") from None
        return address, port if colon else None, address
    return name, port if colon else None, None


def _host(host: str) -> str:
    """The name as it is asked for in DNS; one trailing dot is dropped."""
    if not host or len(host) > HOST_CHARS_MAX + 1:
        raise TargetInvalid("the URL has no host" if not host else "the URL's host is too long")
    if not host.isascii():
        if _DEVIATIONS.search(host):
            raise TargetInvalid("the URL's host is ambiguous; give it in its xn-- form")
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise TargetInvalid("the URL's host is not a valid internationalised name") from None
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > HOST_CHARS_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetInvalid("the URL's host is not a valid name")
    if not all(_punycode_holds(label[4:]) for label in labels if label.startswith("xn--")):
        raise TargetInvalid("the URL's host is not a valid internationalised name")
    return name


def _punycode_holds(encoded: str) -> bool:
    """Whether an xn-- label decodes to a normalised name of letters and signs, and back."""
    try:
        name = encoded.encode("ascii").decode("punycode")
        if name.isascii() or name.encode("punycode").decode("ascii") != encoded:
            return False
    except (UnicodeError, OverflowError):
        return False
    if unicodedata.normalize("NFKC", name) != name:
        return False
    return not any(unicodedata.category(c)[0] in "CZ" and c not in "\u200c\u200d" for c in name)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise TargetInvalid("the URL's port is not valid")
    return int(text)


def _path(path: str) -> str:
    """ASCII for the request line: other characters become percent-encoded UTF-8."""
    if not path.startswith("/"):
        path = "/" + path
    if path.isascii():
        return path
    try:
        return "".join(c if c.isascii() else quote(c) for c in path)
    except UnicodeError:
        raise TargetInvalid("the URL is not valid Unicode") from None

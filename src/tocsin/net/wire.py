"""The head of a request as bytes; nothing a tenant can set may break out of its line."""

from tocsin.domain.exchange import Request
from tocsin.net.target import Target

METHODS = frozenset({"DELETE", "GET", "PATCH", "POST", "PUT"})
BODILESS = frozenset({"DELETE", "GET"})

# The connection is ours, and so is the end of the message.
OWNED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NAMES_KEPT_MAX = 4096

_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")

# "\r\n" + name + ": " of every name that has passed; the same few names come again and again.
_starts: dict[str, str] = {}


class RequestInvalid(Exception):
    """The request can't be written as HTTP/1.1; a channel type let something through."""


def request_head(target: Target, request: Request) -> bytes:
    """Request line and headers with the empty line; values are written as UTF-8."""
    headers = request.headers
    try:
        lines = "".join([_starts[name] + value for name, value in headers])
    except KeyError:
        lines = "".join([_start(name) + value for name, value in headers])
    # One "\r\n" for each header and no other: a line break in a value would make a new header.
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise RequestInvalid("a header value holds a line break")
    method = request.method
    if method not in METHODS:
        raise RequestInvalid("the method is not supported")
    length = len(request.body)
    framing = f"\r\ncontent-length: {length}" if length or method not in BODILESS else ""
    try:
        return (
            f"{method} {target.path} HTTP/1.1\r\nhost: {target.authority}{lines}{framing}\r\n\r\n"
        ).encode()
    except UnicodeEncodeError:
        raise RequestInvalid("a header value is not valid Unicode") from None


def _start(name: str) -> str:
    """What stands before the value; the name must be a lower-case token that is not ours."""
    if not name or not _TOKEN.issuperset(name):
        raise RequestInvalid("a header name is not a lower-case token")
    if name in OWNED_HEADERS:
        raise RequestInvalid(f"the header {name} is the client's own")
    start = f"\r\n{name}: "
    if len(_starts) < NAMES_KEPT_MAX:
        _starts[name] = start
    return start

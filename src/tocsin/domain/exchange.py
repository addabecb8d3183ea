"""What goes over the wire in one attempt: a request out, a reply back."""

from msgspec import Struct

BODY_KEPT_BYTES_MAX = 4096


class Identity(Struct, frozen=True, kw_only=True):
    """Who we are to a target that asks for a client certificate: chain and private key as PEM.

    `name` tells one identity from another and gives nothing away. Written out, it shows no key.
    """

    name: str
    certificate: str
    private_key: str

    def __repr__(self) -> str:
        return f"Identity({self.name[:16]})"


class Request(Struct, frozen=True, kw_only=True):
    """One HTTP request, complete but for its framing (the client adds host and content-length).

    `url` is absolute http(s). Header names are lower-case; the order is kept. `body` is sent byte
    for byte, because signatures cover it. `identity` is the client certificate of https targets.
    """

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    method: str = "POST"
    identity: Identity | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """What came back: the head decides the outcome, everything after it is only a note.

    Header names are lower-case. `body` holds at most `BODY_KEPT_BYTES_MAX` bytes as they came,
    never decoded. `note` says what was wrong with the body (`truncated`, `reset`, …), or nothing.
    `resent` is true when a reused idle connection had closed before any byte came back and the
    request was sent once more.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    note: str | None = None
    resent: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header, given in lower case."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

"""What a target may do to a reply, and what the reply must then count as.

The model reads a whole stream of bytes at once and knows nothing of the client or its parser: a
complete status line and head decides, what comes after it is only a note.
"""

import re
from itertools import pairwise
from typing import Literal

from hypothesis import strategies as st
from msgspec import Struct

HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
BODY_BYTES_MAX = 64 * 1024
KEPT_BYTES_MAX = 4096
INTERIMS_MAX = 8

Ending = Literal["close", "reset", "stall"]
"""What the target does after its last byte; a stall lasts until the attempt's time is over."""

BAD = "bad_reply"
BROKEN: dict[Ending, str] = {"close": "connection_reset", "reset": "connection_reset"}
BROKEN["stall"] = "timeout"
CUT: dict[Ending, str] = {"close": "cut", "reset": "reset", "stall": "stalled"}


class Play(Struct, frozen=True):
    """A reply as it is sent: in `pieces`, then the end. A sane one breaks no rule of HTTP, though
    it may be cut anywhere."""

    stream: bytes
    pieces: tuple[int, ...]
    ending: Ending
    sane: bool

    def __repr__(self) -> str:
        """Short enough to be read; long runs are seldom of interest."""
        stream, pieces = self.stream[:500], self.pieces[:20]
        return f"Play({stream!r}, {pieces}, {self.ending!r}, {self.sane})"


class Verdict(Struct, frozen=True):
    """Either the reasons that may be given, or a status with the body and what is wrong with it;
    `clean` says that the connection is as good as new."""

    reasons: tuple[str, ...] = ()
    status: int = 0
    body: bytes = b""
    note: str | None = None
    clean: bool = False


_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n\0]*)?", re.ASCII)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[^\r\n]*)?\r\n")


class _Head(Struct):
    status: int
    fields: list[tuple[bytes, bytes]]
    old: bool


def verdict(play: Play) -> Verdict:
    """What the client must make of this play."""
    stream, position, interims = play.stream, 0, 0
    broken = BROKEN[play.ending]
    while True:
        end = stream.find(b"\r\n\r\n", position)
        if end < 0:
            if len(stream) > HEAD_BYTES_MAX:
                return Verdict((BAD,))
            return Verdict((broken,) if play.sane else (BAD, broken))
        head = _head(stream[position:end])
        position = end + 4
        if head is None:
            return Verdict((BAD,))
        if head.status >= 200:
            break
        interims += 1
        if interims > INTERIMS_MAX or head.status == 101:
            return Verdict((BAD,))
    if position > HEAD_BYTES_MAX:
        return Verdict((BAD,))
    return _body(head, stream[position:], play.ending)


def _head(text: bytes) -> _Head | None:
    """The head, or None if it breaks a rule."""
    lines = text.split(b"\r\n")
    status = _STATUS.fullmatch(lines[0])
    fields = [_FIELD.fullmatch(line) for line in lines[1:]]
    if status is None or len(fields) > HEADERS_MAX:
        return None
    found = [(match[1].lower(), match[2]) for match in fields if match]
    lengths = [value for name, value in found if name == b"content-length"]
    codings = [value for name, value in found if name == b"transfer-encoding"]
    wrong = len(found) != len(fields) or len(lengths) > 1 or (lengths and codings)
    if wrong or not all(value.isdigit() for value in lengths):
        return None
    return _Head(int(status[2]), found, status[1] == b"0")


def _body(head: _Head, data: bytes, ending: Ending) -> Verdict:
    fields = dict(head.fields)
    said = fields.get(b"connection", b"").lower()
    keep = said == b"keep-alive" if head.old else said != b"close"
    keep = keep and ending == "stall"
    if head.status in (204, 304):
        return _reply(head, b"", None, keep and not data)
    coding = fields.get(b"transfer-encoding")
    if coding == b"chunked":
        body, note, rest = _chunks(data, ending)
        return _reply(head, body, note, keep and note is None and not rest)
    if b"content-length" in fields:
        length = int(fields[b"content-length"])
        if len(data) >= length:
            return _reply(head, data[:length], None, keep and len(data) == length)
        return _reply(head, data, CUT[ending], clean=False)
    return _reply(head, data, None if ending == "close" else CUT[ending], clean=False)


def _chunks(data: bytes, ending: Ending) -> tuple[bytes, str | None, bytes]:
    """Body, note, and what comes after the end."""
    body, position = b"", 0
    while True:
        size = _SIZE.match(data, position)
        if size is None:
            wrong = data[position : position + 1] not in b"0123456789abcdefABCDEF"
            return body, "malformed" if wrong else CUT[ending], b""
        length, position = int(size[1], 16), size.end()
        if length == 0:
            end = data.find(b"\r\n", position)
            if end < 0:
                return body, CUT[ending], b""
            return body, None, data[end + 2 :]
        body += data[position : position + length]
        position += length
        after = data[position : position + 2]
        if after != b"\r\n":
            return body, CUT[ending] if b"\r\n".startswith(after) else "malformed", b""
        position += 2


def _reply(head: _Head, body: bytes, note: str | None, clean: bool) -> Verdict:
    if len(body) > BODY_BYTES_MAX:
        note, clean = "truncated", False
    return Verdict((), head.status, body[:KEPT_BYTES_MAX], note, clean)


# What is played

_TOKEN = "!#$%&'*+.^_`|~-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAMES = st.text(_TOKEN, max_size=8).map(lambda name: f"X-{name}".encode())
_VALUES = st.binary(max_size=20).map(
    lambda raw: bytes(b for b in raw if b >= 0x20 and b != 0x7F).strip(b" ")
)
_FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5)
_MANY = st.integers(90, 110).map(lambda count: [(b"X", b"y")] * count)
_LONG = st.integers(31_000, 34_000).map(lambda size: [(b"X", b"y" * size)])
_LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 202 ", b"HTTP/1.0 200 OK"]
    + [b"HTTP/1.1 %d Some words" % status for status in (201, 204, 302, 304, 404, 410, 429, 503)]
)
_INTERIM = st.sampled_from(
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"]
)
_BAD_LINES = st.sampled_from(
    [
        b"HTTP/1.1 20x OK",
        b"HTTP/1.1 600 Odd",
        b"HTTP/1.1 999 Odd",
        b"HTTP/1.1 099 Odd",
        b"SSH-2.0-x",
        b"HTTP/1.1 101 Switching Protocols",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1  200 OK",
    ]
)
_BAD_FIELDS = st.sampled_from(
    [
        b"no colon",
        b"x : y",
        b" folded",
        b"x: a\0b",
        b"x: a\nb",
        b": empty",
        b"content-length: -1",
        b"content-length: x",
        b"content-length: 1\r\ncontent-length: 1",
        b"content-length: 1\r\ntransfer-encoding: chunked",
    ]
)
_BODIES = st.binary(max_size=60) | st.integers(4000, 4200).map(lambda size: b"a" * size)


@st.composite
def _framed(draw: st.DrawFn) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """A framing, and a body that keeps to it or doesn't."""
    body = draw(_BODIES)
    match draw(st.sampled_from(["length", "length", "chunked", "chunked", "none", "gzip", "huge"])):
        case "length":
            lie = draw(st.sampled_from([0, 0, 0, 7, -1]))
            length = max(0, len(body) + lie)
            return [(b"Content-Length", b"%d" % length)], body
        case "chunked":
            data = b"".join(_chunk(part) for part in draw(st.lists(_BODIES, max_size=4)) if part)
            end = draw(
                st.sampled_from([b"0\r\n\r\n"] * 4 + [b"0;x=y\r\n\r\n", b"zz\r\n", b"-1\r\n"])
            )
            if data and draw(st.integers(0, 5)) == 0:
                data = data[:-2] + b"XX"
            return [(b"Transfer-Encoding", b"chunked")], data + end
        case "gzip":
            return [(b"Transfer-Encoding", b"gzip")], body
        case "huge":
            size = draw(st.sampled_from([65_535, 65_536, 65_537, 90_000]))
            framing = draw(st.sampled_from([[], [(b"Content-Length", b"%d" % size)]]))
            return framing, b"a" * size
        case _:
            return [], body


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part)


@st.composite
def plays(draw: st.DrawFn) -> Play:
    """Replies good and bad, cut anywhere, in pieces of any size."""
    framing, body = draw(_framed())
    wild = draw(st.integers(0, 4)) == 0
    fields = draw(_FIELDS if draw(st.integers(0, 15)) else _MANY | _LONG)
    if draw(st.integers(0, 5)) == 0:
        framing = [*framing, (b"Connection", draw(st.sampled_from([b"close", b"keep-alive"])))]
    lines = [draw(_LINES), *(b"%s: %s" % field for field in (*fields, *framing))]
    if wild:
        if draw(st.booleans()):
            lines[0] = draw(_BAD_LINES)
        else:
            lines.insert(draw(st.integers(1, len(lines))), draw(_BAD_FIELDS))
    count = draw(st.sampled_from([0] * 12 + [1, 2, 8, 9]))
    stream = b"".join(draw(_INTERIM) for _ in range(count))
    stream += b"\r\n".join(lines) + b"\r\n\r\n" + body
    stream += draw(st.sampled_from([b""] * 5 + [b"\r\n", b"SURPLUS", b"HTTP/1.1 200 OK\r\n\r\n"]))
    cut = len(stream)
    if draw(st.integers(0, 3)) == 0:
        cut = draw(st.integers(0, min(len(stream), 400)))
    ending: Ending = draw(st.sampled_from(["close", "reset", "stall"]))
    return Play(stream[:cut], _pieces(draw, cut), ending, sane=not wild)


def _pieces(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """Sizes of the pieces: all at once, one by one, or anything between."""
    if size <= 1 or draw(st.integers(0, 3)) == 0:
        return (size,)
    if size <= 300 and draw(st.booleans()):
        return (1,) * size
    cuts = draw(st.lists(st.integers(1, size - 1), max_size=8, unique=True))
    edges = [0, *sorted(cuts), size]
    return tuple(after - before for before, after in pairwise(edges))

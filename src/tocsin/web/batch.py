"""Taking a batch apart: each event's own JSON text, before any of them is decoded.

Nearly every batch is split by msgspec. What it can't take (an event nested deeper than the C
stack goes) is split by an exact scanner that does not recurse: a bad event must spoil neither
the others nor the process.
"""

import asyncio
import re
from typing import NoReturn

import msgspec

from tocsin.domain.errors import Invalid, Malformed
from tocsin.web import codec

EVENTS_MAX = 1000

_COMMAS_MAX = 500_000
_STEPS_PER_TURN = 2_000
_STEPS_MAX = 2_000_000


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


_WS = rb"[ \t\n\r]*+"
_HEX = rb"[0-9a-fA-F]"
_PAIR = rb"[dD][89abAB]" + _HEX + rb"{2}\\u[dD][c-fC-F]" + _HEX + rb"{2}"
_UNIT = rb"(?![dD][89a-fA-F])" + _HEX + rb"{4}"
_TEXT = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?:' + _PAIR + rb"|" + _UNIT + rb')))*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
_SCALAR = rb"(?:" + _TEXT + rb"|" + _NUMBER + rb"|true|false|null)"

_SPACE = re.compile(_WS)
_KEY = re.compile(rb"(" + _TEXT + rb")" + _WS + rb":" + _WS)
_PLAIN = re.compile(_SCALAR)
_MEMBER = _TEXT + _WS + rb":" + _WS + _SCALAR
_REST = _WS + rb"(?:," + _WS + rb"%s" + _WS + rb")*+"
_FLAT = (
    rb"(?:" + _SCALAR
    + rb"|\[" + _WS + rb"(?:" + _SCALAR + _REST % _SCALAR + rb")?+\]"
    + rb"|\{" + _WS + rb"(?:" + _MEMBER + _REST % _MEMBER + rb")?+\}"
    + rb")"
)  # fmt: skip
# Whole runs of plain elements and members, each with its comma, in one step; also of brackets.
_ELEMENTS = re.compile(rb"(?:" + _FLAT + _WS + rb"," + _WS + rb")*+")
_MEMBERS = re.compile(rb"(?:" + _TEXT + _WS + rb":" + _WS + _FLAT + _WS + rb"," + _WS + rb")*+")
_OPENINGS = re.compile(rb"(?:\[" + _WS + rb")++")

_CLOSING = {0x5B: 0x5D, 0x7B: 0x7D}
_ARRAY, _OBJECT = 0x5B, 0x7B
_COMMA = 0x2C


async def split(body: bytes) -> list[bytes]:
    """The events of `{"events": […]}`, 1 to 1000, each as its own JSON text.

    Raises Malformed or Invalid for what spoils the whole: syntax, UTF-8, the frame.
    """
    codec.check_utf8(body)
    if body.count(b",") <= _COMMAS_MAX:  # more could be millions of tiny values
        try:
            parts = [bytes(raw) for raw in _DECODER.decode(body).events]
        except RecursionError:
            parts = await Scanner(body).events()
        except msgspec.ValidationError as error:
            codec.check_syntax(body)
            raise codec.refusal(error) from None
        except ValueError as error:
            raise Malformed(f"The body is not JSON: {error}") from None
    else:
        parts = await Scanner(body).events()
    if not 1 <= len(parts) <= EVENTS_MAX:
        raise Invalid("events", f"must hold 1 to {EVENTS_MAX} events")
    return parts


_DECODER = msgspec.json.Decoder(_Batch)


class Scanner:
    """Walks over JSON of any depth, exactly by RFC 8259, and notes where the events are."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._open = bytearray()
        self._in_events = False
        self._start = 0
        self._events: list[bytes] | None = None
        self._frame_error: Invalid | None = None

    async def events(self) -> list[bytes]:
        """Each event's text; lets other work go on between its steps."""
        self._skip()
        if self._peek() != _OBJECT:
            raise Invalid("", "must be an object")
        steps = 0
        more = self._value()
        while more or self._open:
            more = self._value() if more else self._after()
            steps += 1
            if steps % _STEPS_PER_TURN == 0:
                await asyncio.sleep(0)
            if steps > _STEPS_MAX:
                raise Malformed("The body holds too many nested values.")
        if self._at != len(self._body):
            self._fail()
        if self._frame_error is not None:
            raise self._frame_error
        if self._events is None:
            raise Invalid("events", "is required")
        return self._events

    def _value(self) -> bool:
        """Take a value, or open a container; true when another value must follow."""
        depth = len(self._open)
        if depth == 2 and self._in_events:
            self._start = self._at
        first = self._peek()
        if first in _CLOSING:
            if first == _ARRAY and depth > 2 and (run := _OPENINGS.match(self._body, self._at)):
                # All but the last of many: only that one can be empty.
                brackets = run[0].count(b"[") - 1
                self._open.extend(bytes([_ARRAY]) * brackets)
                self._at = self._body.rindex(b"[", self._at, run.end())
            self._at += 1
            self._skip()
            self._open.append(first)
            if self._peek() == _CLOSING[first]:
                self._close()
                return False
            return self._inside()
        plain = _PLAIN.match(self._body, self._at) or self._fail()
        self._at = plain.end()
        self._end_of_value()
        return False

    def _after(self) -> bool:
        """Go on after a value: the next one, or the end of the container."""
        kind = self._open[-1]
        following = self._peek()
        if following == _COMMA:
            self._at += 1
            self._skip()
            return self._inside()
        if following != _CLOSING[kind]:
            self._fail()
        self._close()
        while len(self._open) > 2 and self._peek() == _CLOSING[self._open[-1]]:
            self._close()
        return False

    def _inside(self) -> bool:
        """Come to the next value of the innermost container, past plain ones on the way."""
        depth = len(self._open)
        if self._open[-1] == _ARRAY:
            if not (depth == 2 and self._in_events):
                self._run(_ELEMENTS)
            return True
        if depth > 1:
            self._run(_MEMBERS)
        key = _KEY.match(self._body, self._at) or self._fail()
        self._at = key.end()
        if depth == 1:
            self._frame(key[1])
        return True

    def _frame(self, key: bytes) -> None:
        name = msgspec.json.decode(key, type=str)
        self._in_events = name == "events"
        if not self._in_events:
            self._frame_error = self._frame_error or Invalid(name[:128], "is not known")
        elif self._peek() == _ARRAY:
            self._events = []
        else:
            self._in_events = False
            self._events = []
            self._frame_error = self._frame_error or Invalid("events", "must be an array")

    def _close(self) -> None:
        self._open.pop()
        self._at += 1
        self._end_of_value()

    def _end_of_value(self) -> None:
        depth = len(self._open)
        if depth == 2 and self._in_events and self._events is not None:
            if len(self._events) == EVENTS_MAX:
                raise Invalid("events", f"must hold 1 to {EVENTS_MAX} events")
            self._events.append(self._body[self._start : self._at])
        self._skip()

    def _run(self, pattern: re.Pattern[bytes]) -> None:
        run = pattern.match(self._body, self._at)
        self._at = run.end() if run else self._at

    def _skip(self) -> None:
        self._run(_SPACE)

    def _peek(self) -> int:
        return self._body[self._at] if self._at < len(self._body) else -1

    def _fail(self) -> NoReturn:
        raise Malformed(f"The body is not JSON: unexpected content at byte {self._at}.")

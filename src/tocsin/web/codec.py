"""From bytes to typed values: the one place where a body is decoded, for every dialect.

Every way in which JSON can be wrong ends here as `Malformed` or `Invalid`. What msgspec lets
through inside `msgspec.Raw` (bytes that are no UTF-8, numbers beyond a double, depth) is checked
here too.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from tocsin.domain.errors import Invalid, Malformed

T = TypeVar("T")

DEPTH_MAX = 64

# A double ends below 1.8e308: a number needs 200 digits, or three digits of exponent, to get there.
# Every digit as 0, every e as e, a plus as nothing: then two plain searches find both.
_NUMERALS = bytes(
    ord("0")
    if chr(byte).isdecimal() and byte < 128
    else ord("e")
    if chr(byte) in "eE"
    else ord(" ")
    for byte in range(256)
)
_LONG = b"0" * 200
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SIGN = re.compile(r"`\$?\.?|`$")

_SYNTAX = msgspec.json.Decoder(msgspec.Raw)

_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NOT_BRACKETS = bytes(set(range(256)) - set(_STEP))


@functools.cache
def decoder(type: Any) -> msgspec.json.Decoder[Any]:
    """The strict decoder of a type; made once."""
    return msgspec.json.Decoder(type)


def decode(body: bytes, type: Callable[..., T]) -> T:
    """The body as a value of this type, at most 64 deep.

    Raises Malformed for what is no acceptable JSON, Invalid with the dotted path of the first
    field that breaks a rule.
    """
    check_utf8(body)
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX:
        check_depth(body)
    value: T = decode_as(body, decoder(type))
    if _suspect(body):
        _check_numbers(body)  # also in what the type passes over
    return value


def decode_as(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode without the checks of UTF-8 and depth, which the caller makes or leaves out."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        check_syntax(body)
        raise refusal(error) from None
    except RecursionError:
        raise Malformed("The body is nested too deep.") from None
    except ValueError as error:  # DecodeError, UnicodeDecodeError
        raise Malformed(f"The body is not JSON: {error}") from None


def check_syntax(body: bytes | msgspec.Raw) -> None:
    """Raise Malformed for what is no JSON, as far as the stack goes; makes no values.

    A typed decoder stops at the first field that breaks a rule: what stands behind it may not
    even be JSON.
    """
    try:
        _SYNTAX.decode(body)
    except RecursionError:
        return
    except ValueError as error:
        raise Malformed(f"The body is not JSON: {error}") from None


def refusal(error: msgspec.ValidationError) -> Invalid | Malformed:
    """The error of ours for one of msgspec: the field's dotted path and what is wrong with it."""
    message, path = str(error), ""
    if message.endswith("`") and " - at `$" in message:
        message, _, path = message.rpartition(" - at ")
    if "out of range" in message:
        return Malformed("The body holds a number that is not finite.")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return Invalid(_join(_dotted(path), missing[1]), "is required")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return Invalid(_join(_dotted(path), unknown[1]), "is not known")
    return Invalid(_dotted(path), message[:1].lower() + message[1:])


def _dotted(path: str) -> str:
    return _SIGN.sub("", path).replace("[...]", "")


def _join(path: str, name: str) -> str:
    name = name[:128]
    return f"{path}.{name}" if path else name


def check_utf8(body: bytes) -> None:
    """Raise Malformed unless the bytes are UTF-8; msgspec.Raw takes anything."""
    try:
        body.decode()
    except UnicodeDecodeError:
        raise Malformed("The body is not valid UTF-8.") from None


def check_data(data: bytes) -> None:
    """Raise Malformed unless well-formed JSON is finite and at most 64 deep.

    A few bytes of C code say so for nearly all data; only what looks suspicious is read.
    """
    check_data_depth(data)
    if _suspect(data):
        _check_numbers(data)


def check_data_depth(data: bytes) -> None:
    """The half of `check_data` that is about depth."""
    if data.count(b"[") + data.count(b"{") > DEPTH_MAX:
        check_depth(data)


def finite(body: bytes) -> bool:
    """Whether every number in there is certainly finite: the other half for all data of a body."""
    return not _suspect(body)


def _suspect(data: bytes) -> bool:
    numerals = data.translate(_NUMERALS, b"+")
    return b"0e000" in numerals or _LONG in numerals


def check_depth(data: bytes) -> None:
    """Raise Malformed for JSON that is nested more than 64 deep; never recurses."""
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    if max(itertools.accumulate(map(_STEP.__getitem__, brackets)), default=0) > DEPTH_MAX:
        raise Malformed(f"The JSON is nested more than {DEPTH_MAX} deep.")


def _check_numbers(data: bytes) -> None:
    try:
        json.loads(data, parse_int=_finite, parse_float=_finite)
    except RecursionError:
        raise Malformed("The JSON is nested too deep.") from None


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Malformed("The JSON holds a number that is not finite.")
    return number

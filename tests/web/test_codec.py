"""Every way in which JSON can be wrong ends as one of our errors, and costs no stack."""

import random
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from tocsin.domain.errors import Invalid, Malformed, TocsinError
from tocsin.web import batch, codec

pytestmark = pytest.mark.anyio


class Inner(Struct, forbid_unknown_fields=True):
    n: int


class Body(Struct, forbid_unknown_fields=True):
    name: str
    inner: list[Inner] = []
    flag: bool = False
    data: Any = None


MALFORMED = {
    "empty": b"",
    "cut": b'{"name": "x"',
    "not UTF-8": b'{"name": "\xff"}',
    "raw control byte": b'{"name": "a\x01b"}',
    "byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "trailing text": b'{"name": "x"} x',
    "NaN": b'{"name": "x", "data": NaN}',
    "Infinity": b'{"name": "x", "data": Infinity}',
    "bad escape": rb'{"name": "\x41"}',
    "leading zero": b'{"name": "x", "data": 01}',
    "lone surrogate": rb'{"name": "\ud800"}',
    "beyond a double": b'{"name": "x", "data": 1e999}',
    "5000 digits": b'{"name": "x", "data": ' + b"9" * 5000 + b"}",
    "100,000 deep": b'{"name": "x", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 deep, cut": b"[" * 100_000,
    "65 deep": b'{"name": "x", "data": ' + b"[" * 64 + b"]" * 64 + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        codec.decode(body, Body)


INVALID = {
    "null": (b"null", ""),
    "array": (b"[]", ""),
    "missing": (b"{}", "name"),
    "unknown": (b'{"name": "x", "bogus": 1}', "bogus"),
    "wrong type": (b'{"name": 1}', "name"),
    "text for a boolean": (b'{"name": "x", "flag": "true"}', "flag"),
    "number for a boolean": (b'{"name": "x", "flag": 1}', "flag"),
    "boolean for a number": (b'{"name": "x", "inner": [{"n": true}]}', "inner[].n"),
    "text for a number": (b'{"name": "x", "inner": [{"n": "12"}]}', "inner[].n"),
    "fraction": (b'{"name": "x", "inner": [{"n": 1.5}]}', "inner[].n"),
    "missing below": (b'{"name": "x", "inner": [{}]}', "inner[].n"),
    "unknown below": (b'{"name": "x", "inner": [{"n": 1, "y` - at `$.z": 1}]}', None),
}


@pytest.mark.parametrize(("body", "field"), INVALID.values(), ids=INVALID)
def test_invalid_names_the_field(body: bytes, field: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        codec.decode(body, Body)
    (problem,) = caught.value.problems
    if field is not None:
        assert problem.field.replace("[0]", "[]") == field
    assert problem.message


def test_accepted() -> None:
    deep = (
        b'{"name": "a\\u0000b", "name": "\\ud83d\\ude00", "data": ' + b"[" * 63 + b"]" * 63 + b"}"
    )
    assert codec.decode(deep, Body).name == "\U0001f600"


DATA_GOOD = {
    "scalar": b"1",
    "64 deep": b"[" * 64 + b"]" * 64,
    "brackets in text": b'"' + b"[" * 1000 + b'"',
    "brackets after an escape": rb'["\"' + b"[" * 100 + rb'\\"]',
    "many beside each other": b"[" + b"[]," * 500 + b"[]]",
    "large": b"1e308",
    "long, small": b"0." + b"0" * 400 + b"1",
    "NUL": rb'"\u0000"',
    "exponent in text": b'"1e999"',
    "many digits in text": b'"' + b"9" * 400 + b'"',
}


@pytest.mark.parametrize("data", DATA_GOOD.values(), ids=DATA_GOOD)
def test_good_data(data: bytes) -> None:
    codec.check_data(data)


DATA_BAD = {
    "65 deep": b"[" * 65 + b"]" * 65,
    "65 deep, mixed": b'{"a":[' * 33 + b"]}" * 33,
    "exponent": b"[1e999]",
    "signed exponent": b'{"a": -1.5E+0400}',
    "digits": b"9" * 400,
    "digits and exponent": b"9" * 250 + b"e99",
}


@pytest.mark.parametrize("data", DATA_BAD.values(), ids=DATA_BAD)
def test_bad_data(data: bytes) -> None:
    with pytest.raises(Malformed):
        codec.check_data(data)


async def split(body: bytes) -> list[bytes] | type[TocsinError]:
    try:
        return await batch.split(body)
    except TocsinError as error:
        return type(error)


async def test_a_deep_event_spoils_only_itself() -> None:
    deep = b'{"type": "a", "data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    body = b'{"events": [{"type": "b", "data": 1}, ' + deep + b' ,{"type": "c", "data": 2}]}'
    assert await split(body) == [
        b'{"type": "b", "data": 1}',
        deep,
        b'{"type": "c", "data": 2}',
    ]
    mixed = b'[{"a":' * 20_000 + b"[ ]" + b"}]" * 20_000
    assert await split(b'{"events": [' + mixed + b"]}") == [mixed]


FRAME = {
    "cut after depth": (b'{"events": [' + b"[" * 2000 + b"]" * 2000, Malformed),
    "wrong closing": (b'{"events": [' + b"[" * 2000 + b"]" * 1999 + b"}]}", Malformed),
    "surrogate after depth": (
        b'{"events": [' + b"[" * 2000 + b"]" * 2000 + rb', "\ud800"]}',
        Malformed,
    ),
    "control byte after depth": (
        b'{"events": [' + b"[" * 2000 + b"]" * 2000 + b', "\x01"]}',
        Malformed,
    ),
    "surrogate": (rb'{"events": [{"type": "a", "data": "\ud800"}]}', Malformed),
    "not UTF-8": (b'{"events": [{"type": "a", "data": "\xff"}]}', Malformed),
    "syntax": (b'{"events": [{"type": "a", "data": 01}]}', Malformed),
    "no events": (b"{}", Invalid),
    "empty": (b'{"events": []}', Invalid),
    "too many": (b'{"events": [' + b"0," * 1000 + b"0]}", Invalid),
    "millions": (b'{"events": [' + b"0," * 600_000 + b"0]}", Invalid),
    "unknown": (b'{"events": [1], "more": 1}', Invalid),
    "not an array": (b'{"events": 1}', Invalid),
    "not an object": (b"[" * 2000 + b"]" * 2000, Invalid),
}


@pytest.mark.parametrize(("body", "error"), FRAME.values(), ids=FRAME)
async def test_what_spoils_a_batch(body: bytes, error: type[TocsinError]) -> None:
    assert await split(body) is error


async def test_scanner_agrees_with_the_decoder() -> None:
    """The slow path takes and refuses what the fast path does, on mutated bodies."""
    chance = random.Random(7)
    seeds = (
        rb'{"events":[{"type":"a","data":{"x":[1,2.5e3,"\u00e9\ud83d\ude00",null,[{}],[]]}}, 5]}',
        b'{"events" : [ ], "events":[ [1 , 2] ,{"k":{"z":-0.5}}, [[1],[[2]]] ]}',
    )
    letters = b'[]{},:"\\01eE+-. \ntfudD8'
    for _ in range(4000):
        body = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(body))
            body[at : at + chance.randint(0, 1)] = bytes([chance.choice(letters)])
        raw = bytes(body)
        try:
            fast: Any = [bytes(one) for one in batch._DECODER.decode(raw).events]
        except msgspec.DecodeError:
            fast = None
        try:
            slow: Any = await batch.Scanner(raw).events()
        except TocsinError:
            slow = None
        assert fast == slow, raw

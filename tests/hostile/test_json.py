"""Bodies that are no acceptable JSON: the same 400 from every call that reads one, and nothing
stored; and what is acceptable although it looks odd (`wire/native.md` section 1)."""

import json
from typing import Any

import pytest
from tests.hostile.refusals import refusal
from tests.hostile.registry import Row, filled
from tests.hostile.rules import Raw
from tests.hostile.test_table import ROWS, told
from tests.hostile.world import World, changed, encoded, put
from tests.web.fakes import Answer

pytestmark = pytest.mark.anyio

WRITES = [pytest.param(row, id=row.name) for row in ROWS if row.body is not None]
DEEP = 20_000

# JSON text in place of a string.
MALFORMED = {
    "raw control byte": b'"a\x01b"',
    "raw line end": b'"a\nb"',
    "raw nul": b'"a\x00b"',
    "invalid utf-8": b'"\xff\xfe"',
    "cut utf-8": b'"\xe2\x82"',
    "overlong utf-8": b'"\xc0\xaf"',
    "utf-8 surrogate": b'"\xed\xa0\x80"',
    "beyond unicode": b'"\xf4\x90\x80\x80"',
    "lone high surrogate": rb'"\ud800"',
    "lone low surrogate": rb'"\udc00"',
    "reversed surrogates": rb'"\udc00\ud800"',
    "surrogate and letter": rb'"\ud800a"',
    "bad escape": rb'"\x41"',
    "cut escape": rb'"\u12"',
    "open string": b'"a',
    "single quotes": b"'a'",
    "no quotes": b"a",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "leading zero": b"01",
    "leading plus": b"+1",
    "leading dot": b".5",
    "hexadecimal": b"0x10",
    "comment": b'/* x */ "a"',
    "nothing": b"",
    "two values": b'"a" "b"',
    "trailing comma": b'"a",',
}
# JSON that is well formed, and still no message: as a value where a string is wanted it may be
# refused for either reason.
UNACCEPTABLE = {
    "infinite": b"1e999",
    "infinite inside": b"[-1e999]",
    "endless integer": b"9" * 5_000,
    "deep arrays": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep and open": b"[" * DEEP,
}
WHOLE = {
    "empty": b"",
    "blank": b" \n",
    "not closed": b'{"a":1',
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "trailing text": None,
    "trailing nul": None,
    "two bodies": None,
}
NO_OBJECT = (b"[]", b'"x"', b"1", b"true", b"null", b"[{}]")


def wrong_shape(row: Row, answer: Answer, *codes: str) -> str:
    if answer.status == 202 and row.path.endswith("/batch"):  # well formed: the items' own error
        results = answer.json()["results"]
        return "" if all(one["error"]["status"] == 400 for one in results) else f"{answer}"
    if answer.status != 400:
        return f"{answer}"
    found = refusal(row.dialect, answer)
    expected: dict[str, tuple[Any, ...]] = {"native": codes, "applivery": (3000,)}
    return "" if found.code in expected.get(row.dialect, (found.code,)) else f"{found}"


@pytest.mark.parametrize("row", WRITES)
async def test_malformed(world: World, row: Row) -> None:
    tenant = await world.tenant(row.name)
    path, body = filled(row.path, tenant), filled(row.body, tenant)
    good = encoded(body)
    field = row.text_field or next(iter(body))
    cases: dict[str, tuple[bytes, tuple[str, ...]]] = {
        name: (encoded(put(body, field, Raw(raw))), ("malformed_json",))
        for name, raw in MALFORMED.items()
    }
    either = ("malformed_json", "validation_failed")
    cases |= {
        name: (encoded(put(body, field, Raw(raw))), either) for name, raw in UNACCEPTABLE.items()
    }
    cases |= {
        f"{name} in an unknown field": (good[:-1] + b',"x":' + raw + b"}", either)
        for name, raw in (MALFORMED | UNACCEPTABLE).items()
    }
    cases |= {name: (raw, ("malformed_json",)) for name, raw in WHOLE.items() if raw is not None}
    for name, tail in (("trailing text", b"x"), ("trailing nul", b"\0"), ("two bodies", good)):
        cases[name] = (good + tail, ("malformed_json",))
    cases |= {raw.decode(): (raw, ("validation_failed",)) for raw in NO_OBJECT}
    wrong = []
    before = world.stored()
    for name, (raw, codes) in cases.items():
        answer = await world.ask(row.method, path, raw, token=tenant.tokens[row.token])
        if found := wrong_shape(row, answer, *codes):
            wrong.append((name, found))
        if tables := changed(before, world.stored()):
            wrong.append((name, f"stored in {tables}"))
            before = world.stored()
    told(wrong)


@pytest.mark.parametrize("row", WRITES)
async def test_odd_and_taken(world: World, row: Row) -> None:
    tenant = await world.tenant(row.name)
    path, body = filled(row.path, tenant), filled(row.body, tenant)
    good = encoded(body)
    first = next(iter(body))
    cases = {
        "blank around": b" \t\r\n" + good + b"\n" * 1000,
        "the last of two counts": b"{%s," % good[1:-1] + good[1:],
        "not ASCII": json.dumps(body, ensure_ascii=False).encode(),
        "an escaped key": good.replace(b'"%c' % first[0].encode(), b'"\\u%04x' % ord(first[0]), 1),
    }
    types: tuple[dict[str, str], ...] = (
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/xml; charset=latin-1"},
    )
    wrong = []
    for name, raw in cases.items():
        for headers in types:
            answer = await world.ask(
                row.method, path, raw, token=tenant.tokens[row.token], headers=headers
            )
            if answer.status != row.success:
                wrong.append((name, f"{answer}"))
    told(wrong)

"""Bodies that break parsers, mixed into many connections of good publishes."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import Struct
from tests.blackbox.load import Wire, event, request
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Tenant

CONNECTIONS = 64
GOOD_PER_CONNECTION = 12
DEEP = 20_000

MALFORMED = "malformed_json"
INVALID = "validation_failed"
EITHER = ""


class Bad(Struct, frozen=True):
    """A body that must be refused, and with what."""

    body: bytes
    code: str
    extra: bytes = b""
    batch: bool = False


def in_batch(code: str, *bodies: bytes) -> Bad:
    return Bad(b'{"events":[' + b",".join(bodies) + b"]}", code, batch=True)


GOOD = b'{"type":"a.b","data":1}'
NESTED = b"[" * DEEP + b"]" * DEEP
SURROGATE = b'{"type":"a.b","data":"\\ud800"}'
BAD_UTF8 = b'{"type":"a.b","data":"\xff\xfe"}'

BAD = {
    "lone-surrogate": Bad(SURROGATE, MALFORMED),
    "lone-surrogate-pair-reversed": Bad(b'{"type":"a.b","data":"\\udc00\\ud800"}', MALFORMED),
    "lone-surrogate-in-a-key": Bad(b'{"type":"a.b","data":{"\\ud800":1}}', MALFORMED),
    "lone-surrogate-in-a-batch": in_batch(MALFORMED, GOOD, SURROGATE),
    "invalid-utf8": Bad(BAD_UTF8, MALFORMED),
    "invalid-utf8-in-a-key": Bad(b'{"type":"a.b","data":{"\xc3\x28":1}}', MALFORMED),
    "encoded-surrogate": Bad(b'{"type":"a.b","data":"\xed\xa0\x80"}', MALFORMED),
    "invalid-utf8-in-a-batch": in_batch(MALFORMED, GOOD, BAD_UTF8),
    "infinite": Bad(b'{"type":"a.b","data":1e999}', MALFORMED),
    "infinite-inside": Bad(b'{"type":"a.b","data":{"a":[-1e999]}}', MALFORMED),
    "nan": Bad(b'{"type":"a.b","data":NaN}', MALFORMED),
    "deep": Bad(b'{"type":"a.b","data":' + NESTED + b"}", MALFORMED),
    "deep-objects": Bad(
        b'{"type":"a.b","data":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}", MALFORMED
    ),
    "deep-and-open": Bad(b"[" * DEEP, EITHER),
    "deep-in-an-unknown-field": Bad(b'{"type":"a.b","data":1,"x":' + NESTED + b"}", EITHER),
    "65-deep": Bad(b'{"type":"a.b","data":' + b"[" * 65 + b"]" * 65 + b"}", MALFORMED),
    "type-with-a-line-end": Bad(b'{"type":"a.b\\n","data":1}', INVALID),
    "type-with-nul": Bad(b'{"type":"a.b\\u0000","data":1}', INVALID),
    "type-reserved": Bad(b'{"type":"tocsin.test","data":1}', INVALID),
    "key-with-nul": Bad(b'{"type":"a.b","data":1,"idempotency_key":"a\\u0000"}', INVALID),
    "unknown-field-with-nul": Bad(b'{"type":"a.b","data":1,"a\\u0000b":1}', INVALID),
    "year-1": Bad(b'{"type":"a.b","data":1,"occurred_at":"0001-01-01T00:00:00Z"}', INVALID),
    "year-9999": Bad(b'{"type":"a.b","data":1,"occurred_at":"9999-12-31T23:59:59Z"}', INVALID),
    "year-1-and-offset": Bad(
        b'{"type":"a.b","data":1,"occurred_at":"0001-01-01T00:00:00+14:00"}', INVALID
    ),
    "year-9999-and-offset": Bad(
        b'{"type":"a.b","data":1,"occurred_at":"9999-12-31T23:59:59-14:00"}', INVALID
    ),
    "raw-control-byte": Bad(b'{"type":"a.b","data":"\x01"}', MALFORMED),
    "byte-order-mark": Bad(b'\xef\xbb\xbf{"type":"a.b","data":1}', MALFORMED),
    "not-closed": Bad(b'{"type":"a.b","data":1', MALFORMED),
    "nothing": Bad(b"", MALFORMED),
    "no-data": Bad(b'{"type":"a.b"}', INVALID),
    "huge-number-for-a-text": Bad(b'{"type":' + b"9" * 5_000 + b',"data":1}', EITHER),
    "empty-batch": in_batch(INVALID),
    "large-batch": in_batch(INVALID, *[GOOD] * 1001),
}

KEPT = {
    "nul-in-data": b'{"type":"a.b","data":{"a\\u0000b":"\\u0000"}}',
    "64-deep": b'{"type":"a.b","data":' + b"[" * 64 + b"]" * 64 + b"}",
    "twice-the-same-key": b'{"type":"x","type":"a.b","data":1,"data":2}',
    "large-integer": b'{"type":"a.b","data":' + b"9" * 300 + b"}",
}


async def ask(tenant: Tenant, body: bytes, *, batch: bool = False) -> tuple[int, bytes]:
    wire = await Wire.open(tenant.server.port)
    try:
        return await wire.ask(request(tenant, body, batch=batch))
    finally:
        wire.close()


def code(status: int, body: bytes) -> tuple[int, str]:
    return status, json.loads(body).get("code", "") if status >= 400 else ""


@pytest.mark.parametrize("name", BAD)
def test_a_bad_publish_is_refused(tenant: Tenant, name: str) -> None:
    bad = BAD[name]
    status, body = asyncio.run(ask(tenant, bad.body, batch=bad.batch))
    assert status == 400, body[:400]
    problem = json.loads(body)
    assert problem["status"] == 400
    if bad.code != EITHER:
        assert problem["code"] == bad.code, problem
    if problem["code"] == INVALID:
        assert problem["errors"], problem
    assert tenant.get("/events")["data"] == []


@pytest.mark.parametrize("name", KEPT)
def test_an_odd_publish_is_kept_as_it_is(tenant: Tenant, receiver: Receiver, name: str) -> None:
    tenant.channel(receiver.url())
    status, body = asyncio.run(ask(tenant, KEPT[name]))
    assert status == 202, body
    (receipt,) = receiver.wait(1)
    assert receipt.json()["data"] == json.loads(KEPT[name])["data"]


def test_bad_items_of_a_batch_spoil_nothing(tenant: Tenant, receiver: Receiver) -> None:
    tenant.channel(receiver.url())
    bad = [b'{"type":"a.b","data":1e999}', b'{"type":"a.b\\n","data":1}', BAD["65-deep"].body]
    bad.append(BAD["year-9999"].body)
    body = b'{"events":[' + b",".join([GOOD, *bad, GOOD]) + b"]}"
    status, answer = asyncio.run(ask(tenant, body, batch=True))
    assert status == 202, answer
    results = json.loads(answer)["results"]
    assert [result.get("error", {}).get("status") for result in results] == [
        None,
        *[400] * len(bad),
        None,
    ]
    receipts = receiver.wait(2)
    assert {r.event_id for r in receipts} == {results[0]["id"], results[-1]["id"]}


async def mixed(tenant: Tenant) -> tuple[set[int], list[tuple[str, int, str]]]:
    """Good and bad publishes in turn on every connection; the good ones' numbers, and oddities."""
    accepted: set[int] = set()
    odd: list[tuple[str, int, str]] = []
    names = list(BAD)

    async def connection(index: int) -> None:
        wire = await Wire.open(tenant.server.port)
        for step in range(GOOD_PER_CONNECTION):
            number = index * GOOD_PER_CONNECTION + step
            status, body = await wire.ask(request(tenant, json.dumps(event(number)).encode()))
            if status == 202:
                accepted.add(number)
            else:
                odd.append(("good", *code(status, body)))
            name = names[number % len(names)]
            bad = BAD[name]
            status, body = await wire.ask(request(tenant, bad.body, batch=bad.batch))
            if status != 400:
                odd.append((name, *code(status, body)))
        wire.close()

    async with asyncio.TaskGroup() as group:
        for index in range(CONNECTIONS):
            group.create_task(connection(index))
    return accepted, odd


def test_bad_publishes_do_not_harm_good_ones(tenant: Tenant, receiver: Receiver) -> None:
    tenant.channel(receiver.url())
    accepted, odd = asyncio.run(mixed(tenant))
    assert odd == []
    assert len(accepted) == CONNECTIONS * GOOD_PER_CONNECTION
    receipts: list[Any] = receiver.wait(len(accepted))
    assert sorted(r.json()["data"]["number"] for r in receipts) == sorted(accepted)

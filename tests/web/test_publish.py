"""Publishing: the fast way in has the same manners as every other call."""

import time
from typing import Any

import pytest
from tests.web.fakes import ACME, Client, Fake, application, services

from tocsin.domain.errors import Unavailable
from tocsin.service.publish import EventDraft

pytestmark = pytest.mark.anyio

ONE = f"/api/v1/organizations/{ACME}/events"
MANY = ONE + "/batch"
EVENT = {"type": "build.created", "data": {"n": 1}}


def first(fake: Fake) -> EventDraft:
    draft = fake.publisher.drafts[0]
    assert isinstance(draft, EventDraft)
    return draft


async def test_accepted(fake: Fake, call: Client) -> None:
    answer = await call("POST", ONE, b'{"type":"build.created","data": { "n" : 1.0 } }')
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "id": "e" * 24,
        "type": "build.created",
        "created_at": "2027-01-15T08:00:00.000Z",
        "duplicate": False,
        "mismatch": False,
        "deliveries": 1,
        "unmatched": None,
    }
    assert first(fake).data == b'{ "n" : 1.0 }'
    assert fake.credentials.asked == 0
    for path in (
        "/api/v1/organizations/acme/events",
        ONE + "/",
        "/api//v1/organizations/ACME/events",
    ):
        assert (await call("POST", path, EVENT)).status == 202


async def test_everything_an_event_can_say(fake: Fake, call: Client) -> None:
    full = EVENT | {
        "project": "shop",
        "idempotency_key": "k",
        "occurred_at": "2026-01-01T00:00:00+01:00",
        "channel_ids": ["c" * 24],
        "title": "a\u0000b",
        "text": "t",
        "severity": "error",
        "link": "https://example.com/x",
        "fields": {"a": "b"},
    }
    assert (await call("POST", ONE, full, {"idempotency-key": "k"})).status == 202
    draft = first(fake)
    assert draft.occurred_at == 1_767_222_000_000
    assert draft.idempotency_key == "k"
    assert draft.people is not None
    assert draft.people.title == "a\u0000b"
    nulls = EVENT | dict.fromkeys(set(full) - set(EVENT))
    assert (await call("POST", ONE, nulls)).status == 202


BAD: dict[str, Any] = {
    "no type": {"data": 1},
    "no data": {"type": "a"},
    "unknown field": EVENT | {"bogus": 1},
    "wrong type": EVENT | {"project": 7},
    "no zone": EVENT | {"occurred_at": "2026-01-01T00:00:00"},
    "before 2000": EVENT | {"occurred_at": "1999-12-31T23:59:59Z"},
    "far future": EVENT | {"occurred_at": "2199-12-31T23:59:59Z"},
    "no channels": EVENT | {"channel_ids": []},
    "severity": EVENT | {"severity": "fatal"},
    "link": EVENT | {"link": "javascript:alert(1)"},
    "link with NUL": EVENT | {"link": "https://a\u0000b"},
    "long link": EVENT | {"link": "https://a/" + "x" * 2048},
    "long title": EVENT | {"title": "x" * 257},
    "long text": EVENT | {"text": "x" * 4097},
    "empty key": EVENT | {"idempotency_key": ""},
    "long key": EVENT | {"idempotency_key": "x" * 257},
    "unprintable key": EVENT | {"idempotency_key": "a\u0000"},
    "65 deep": b'{"type":"a","data":' + b"[" * 65 + b"]" * 65 + b"}",
    "20,000 deep": b'{"type":"a","data":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "not finite": b'{"type":"a","data":1e999}',
    "not UTF-8": b'{"type":"a","data":"\xff"}',
    "empty": b"",
    "array": b"[]",
}


@pytest.mark.parametrize("event", BAD.values(), ids=BAD)
async def test_refused_alone_and_in_a_batch(event: Any, fake: Fake, call: Client) -> None:
    answer = await call("POST", ONE, event)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] in ("validation_failed", "malformed_json")
    assert fake.publisher.drafts == []
    if isinstance(event, bytes) and b"\xff" not in event and event:
        body = b'{"events":[{"type":"a","data":1},' + event + b',{"type":"b","data":2}]}'
        answer = await call("POST", MANY, body)
    elif isinstance(event, dict):
        answer = await call("POST", MANY, {"events": [EVENT, event, EVENT]})
    else:
        return
    assert answer.status == 202
    good, bad, also_good = answer.json()["results"]
    assert set(bad) == {"error"}
    assert bad["error"]["status"] == 400
    assert good["id"] == also_good["id"] == "e" * 24


async def test_sixty_four_deep_is_taken(call: Client) -> None:
    body = b'{"type":"a","data":' + b"[" * 64 + b"]" * 64 + b"}"
    assert (await call("POST", ONE, body)).status == 202


async def test_sizes(fake: Fake, call: Client) -> None:
    frame = len(b'{"type":"a","data":""}')
    fits = b'{"type":"a","data":"' + b"x" * (262_144 - frame) + b'"}'
    too_large = fits.replace(b'x"}', b'xx"}')
    assert (await call("POST", ONE, fits + b" " * 1000)).status == 202
    answer = await call("POST", ONE, too_large)
    assert (answer.status, answer.json()["code"]) == (413, "payload_too_large")
    assert (await call("POST", ONE, b" " * 1_048_577)).status == 413
    answer = await call("POST", MANY, b'{"events":[' + fits + b"," + too_large + b"]}")
    assert answer.status == 202
    good, bad = answer.json()["results"]
    assert good["id"]
    assert bad["error"]["code"] == "payload_too_large"
    assert (await call("POST", MANY, b" " * (8 * 1_048_576 + 1))).status == 413


async def test_keys_and_loops(fake: Fake, call: Client) -> None:
    keyed = EVENT | {"idempotency_key": "a"}
    answer = await call("POST", ONE, keyed, {"Idempotency-Key": "b"})
    assert answer.status == 400
    assert (await call("POST", ONE, EVENT, {"Idempotency-Key": "é"})).status == 400
    assert (await call("POST", ONE, EVENT, {"Idempotency-Key": "x" * 257})).status == 400
    assert (await call("POST", MANY, {"events": [EVENT]}, {"Idempotency-Key": "b"})).status == 400
    for path, body in ((ONE, EVENT), (MANY, {"events": [EVENT]})):
        answer = await call("POST", path, body, {"tocsin-delivery": "x"})
        assert (answer.status, answer.json()["code"]) == (400, "loop")
    assert fake.publisher.drafts == []
    assert (await call("POST", ONE, EVENT, {"Idempotency-Key": "b"})).status == 202
    assert first(fake).idempotency_key == "b"


async def test_a_batch_is_unavailable_only_as_a_whole(fake: Fake, call: Client) -> None:
    fake.publisher.failure = Unavailable("The disk is full.", retry_after_seconds=7)
    answer = await call("POST", MANY, {"events": [EVENT, EVENT]})
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    answer = await call("POST", MANY, {"events": [EVENT, {"type": "a"}]})
    assert answer.status == 202
    assert [r["error"]["code"] for r in answer.json()["results"]] == [
        "unavailable",
        "validation_failed",
    ]
    answer = await call("POST", ONE, EVENT)
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")


async def test_events_per_second() -> None:
    app = application(services(publish_events_per_second=3))
    async with app.lifespan():
        call = Client(app, "admin")
        assert (await call("POST", MANY, {"events": [EVENT] * 10})).status == 202
        answer = await call("POST", ONE, EVENT)
        assert (answer.status, answer.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 3
        rival = "/api/v1/organizations/rival/events"
        assert (await call("POST", rival, EVENT, token="rival")).status == 202


async def test_content_type_is_not_looked_at(call: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "junk"):
        assert (await call("POST", ONE, EVENT, {"content-type": kind})).status == 202


async def test_an_unexpected_error_tells_nothing(
    fake: Fake, call: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise RuntimeError("secret detail")

    fake.publisher.before = broken
    answer = await call("POST", ONE, EVENT)
    assert answer.status == 500
    assert answer.json() == {
        "type": "about:blank",
        "title": "Internal error",
        "status": 500,
        "detail": "Something went wrong on our side.",
        "code": "internal",
    }
    assert "secret detail" in caplog.text


async def test_it_is_quick(fake: Fake, call: Client) -> None:
    """A coarse bound against accidents, by the processor's time; `make bench` has the figures."""
    body = b'{"type":"build.created","data":{"number":17,"text":"' + b"x" * 200 + b'"}}'
    for _ in range(50):
        await call("POST", ONE, body)
    began = time.thread_time()
    for _ in range(500):
        await call("POST", ONE, body)
    took = (time.thread_time() - began) / 500
    assert took < 0.003, took

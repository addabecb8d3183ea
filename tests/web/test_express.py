"""The short way of a publish and the long one can't be told apart, but for their speed."""

import asyncio
import json
import re

import pytest
from tests.web.fakes import ACME, Fake, services
from tests.web.test_server import EVENT, PATH, Wire, connected, post, serving

from tocsin.domain.errors import Unavailable
from tocsin.web.server import express

pytestmark = pytest.mark.anyio

BATCH = json.dumps({"events": [json.loads(EVENT), {"type": "?", "data": 1}]}).encode()


def ask(head: str, body: bytes = EVENT, *more: str) -> bytes:
    lines = [head, "Host: x", "Authorization: Bearer admin", f"Content-Length: {len(body)}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


USUAL = {
    "one": post(),
    "batch": ask(f"POST {PATH}/batch HTTP/1.1", BATCH),
    "close": post(EVENT, "Connection: close"),
    "malformed": post(b'{"type":'),
    "not utf-8": post(b'{"type":"a","data":"\xff"}'),
    "unknown field": post(b'{"type":"a.b","data":1,"x":2}'),
    "reserved type": post(b'{"type":"tocsin.x","data":1}'),
    "empty": post(b""),
    "empty batch": ask(f"POST {PATH}/batch HTTP/1.1", b'{"events":[]}'),
    "event too large": post(b'{"type":"a","data":"' + b"x" * 300_000 + b'"}'),
    "twice a key": post(EVENT, "X-Api-Key: nobody"),
}
UNUSUAL = {
    "slug": ask("POST /api/v1/organizations/acme/events HTTP/1.1"),
    "upper case": ask(f"POST /api/v1/organizations/{ACME.upper()}/events HTTP/1.1"),
    "slash": ask(f"POST {PATH}/ HTTP/1.1"),
    "query": ask(f"POST {PATH}?x=1 HTTP/1.1"),
    "old": ask(f"POST {PATH} HTTP/1.0"),
    "stranger": post(token="nobody"),
    "viewer": post(token="viewer"),
    "loop": post(EVENT, f"Tocsin-Delivery: {'a' * 24}"),
    "key": post(EVENT, "Idempotency-Key: k"),
    "encoded": post(EVENT, "Content-Encoding: gzip"),
    "too large": post(size=1_048_577),
    "another organization": ask(f"POST /api/v1/organizations/{'f' * 24}/events HTTP/1.1"),
    "put": ask(f"PUT {PATH} HTTP/1.1"),
}


async def answer(request: bytes, *, short: bool, fake: Fake | None = None, step: int = 0) -> str:
    """The reply's bytes but for its date."""
    async with serving(fake or services(port=0)) as server, connected(server) as wire:
        if not short:
            publish = server._app.publish
            assert publish is not None
            publish.known = lambda *_: None  # type: ignore[method-assign]
        for at in range(0, len(request), step or len(request)):
            wire.writer.write(request[at : at + (step or len(request))])
            await asyncio.sleep(0)
        head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 30)
        size = re.search(rb"content-length: (\d+)", head)
        body = await wire.reader.readexactly(int(size[1])) if size else b""
    lines = head.decode().lower().split("\r\n")
    return "\n".join([lines[0], *sorted(x for x in lines[1:] if not x.startswith("date"))]) + repr(
        body
    )


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way requests went: one entry for each short one."""
    found: list[str] = []
    plain = express.ExpressRequest.reply

    async def reply(self: express.ExpressRequest, dates: bytes) -> bytes:
        found.append("short")
        return await plain(self, dates)

    monkeypatch.setattr(express.ExpressRequest, "reply", reply)
    return found


@pytest.mark.parametrize("request_bytes", USUAL.values(), ids=USUAL)
async def test_the_short_way_answers_like_the_long_one(
    request_bytes: bytes, taken: list[str]
) -> None:
    long = await answer(request_bytes, short=False)
    assert not taken
    assert await answer(request_bytes, short=True) == long
    assert taken == ["short"]
    if len(request_bytes) < 1_000:
        assert await answer(request_bytes, short=True, step=7) == long


@pytest.mark.parametrize("request_bytes", UNUSUAL.values(), ids=UNUSUAL)
async def test_whatever_is_unusual_goes_the_long_way(
    request_bytes: bytes, taken: list[str]
) -> None:
    assert await answer(request_bytes, short=True) == await answer(request_bytes, short=False)
    assert not taken


async def test_a_refusal_of_the_store_is_told(taken: list[str]) -> None:
    said = []
    for short in (False, True):
        fake = services(port=0)
        fake.publisher.failure = Unavailable("The disk is full.")
        said.append(await answer(post(), short=short, fake=fake))
    assert said[0] == said[1]
    assert "retry-after: 1" in said[0]


async def test_order_is_kept_in_a_pipeline(taken: list[str]) -> None:
    async with serving() as server, connected(server) as wire:
        get = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        wire.writer.write(post() + get + post() + post(b"{") + get)
        assert [await _status(wire) for _ in range(5)] == [202, 200, 202, 400, 200]
    assert len(taken) == 1  # whoever stands behind another waits the long way


async def _status(wire: Wire) -> int:
    return (await wire.reply())[0]


async def test_a_client_that_hangs_up_disturbs_nobody(taken: list[str]) -> None:
    async with serving() as server:
        for _ in range(3):
            async with connected(server) as wire:
                wire.writer.write(post())
                await wire.writer.drain()
        async with connected(server) as wire:
            wire.writer.write(post())
            assert await _status(wire) == 202
    assert taken

"""The server over real sockets: heads, bodies and connections have bounds."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.web.fakes import ACME, Fake, application, services

from tocsin.web.server import Bounds, HttpServer

pytestmark = pytest.mark.anyio

EVENT = b'{"type":"build.created","data":1}'
PATH = f"/api/v1/organizations/{ACME}/events"


@asynccontextmanager
async def serving(
    fake: Fake | None = None, *, head: float = 60.0, body: float = 60.0, **settings: Any
) -> AsyncIterator[HttpServer]:
    fake = fake or services(port=0, **settings)
    bounds = Bounds(fake.settings, head_seconds=head, body_seconds=body)
    async with HttpServer(application(fake), fake.settings, bounds=bounds) as server:
        yield server


class Wire:
    """One connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> tuple[int, dict[str, str], bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)
        lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        size = int(headers.get("content-length", "0"))
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(size)

    async def closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 60) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(server: HttpServer) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def post(body: bytes = EVENT, *more: str, token: str = "admin", size: int | None = None) -> bytes:
    length = len(body) if size is None else size
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token}",
        f"Content-Length: {length}",
        *more,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_requests_one_after_another() -> None:
    async with serving() as server, connected(server) as wire:
        for _ in range(3):
            wire.writer.write(post())
            status, _, body = await wire.reply()
            assert (status, json.loads(body)["type"]) == (202, "build.created")
        wire.writer.write(post() * 3)
        assert [(await wire.reply())[0] for _ in range(3)] == [202, 202, 202]
        wire.writer.write(b"GET /api/v1/organizations HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, _ = await wire.reply()
        assert (status, headers["connection"]) == (401, "close")
        assert await wire.closed()


async def test_head_has_no_body() -> None:
    async with serving() as server, connected(server) as wire:
        wire.writer.write(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + post())
        head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert (await wire.reply())[0] == 202


HEADS = {
    "many fields": b"".join(b"X-%d: y\r\n" % n for n in range(101)),
    "large field": b"X: " + b"y" * 40_000 + b"\r\n",
    "large name": b"y" * 40_000 + b": x\r\n",
    "large and unfinished": b"X: " + b"y" * 40_000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("size", [1 << 20, 1000])
async def test_large_heads(head: bytes, size: int) -> None:
    async with serving() as server, connected(server) as wire:
        whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n"
        for at in range(0, len(whole), size):
            wire.writer.write(whole[at : at + size])
            await asyncio.sleep(0)
        status, headers, body = await wire.reply()
        assert (status, headers["connection"]) == (431, "close")
        assert json.loads(body)["status"] == 431
        assert await wire.closed()


async def test_a_hundred_fields_are_taken() -> None:
    async with serving() as server, connected(server) as wire:
        fields = b"".join(b"X-%d: y\r\n" % n for n in range(99))
        wire.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
        assert (await wire.reply())[0] == 200


async def test_slow_heads() -> None:
    async with serving(head=0.5) as server:
        async with connected(server) as silent:
            assert await silent.closed()
        async with connected(server) as slow:
            slow.writer.write(b"GET /healthz HTTP/1.1\r\nHost")
            assert (await slow.reply())[0] == 431
            assert await slow.closed()
        async with connected(server) as second:
            second.writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /")
            assert (await second.reply())[0] == 200
            assert (await second.reply())[0] == 431


async def test_slow_bodies() -> None:
    async with serving(body=0.5) as server:
        async with connected(server) as wire:
            wire.writer.write(post(b"{", size=100))
            status, headers, _ = await wire.reply()
            assert (status, headers["connection"]) == (408, "close")
            assert await wire.closed()
        async with connected(server) as wire:
            wire.writer.write(post())
            assert (await wire.reply())[0] == 202


async def test_a_refused_body_is_not_waited_for_and_the_reply_arrives() -> None:
    async with serving() as server:
        async with connected(server) as wire:
            wire.writer.write(post(b"", token="nobody", size=50_000_000))
            status, headers, _ = await wire.reply()
            assert (status, headers["connection"]) == (401, "close")
            for _ in range(20):  # what is still on its way does no harm
                wire.writer.write(b"x" * 65_536)
            assert await wire.closed()
        async with connected(server) as wire:
            wire.writer.write(post(b"x" * 500_000, size=50_000_000))
            assert (await wire.reply())[0] == 413


async def test_the_rest_of_a_body_that_nobody_needs_is_not_waited_for_long() -> None:
    async with serving(body=0.3) as server, connected(server) as wire:
        wire.writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        assert (await wire.reply())[0] == 404
        assert await wire.closed()


async def test_a_chunked_body_is_bounded_too() -> None:
    async with serving() as server, connected(server) as wire:
        head = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        wire.writer.write(head)
        for _ in range(20):
            wire.writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        assert (await wire.reply())[0] == 413


async def test_expectations_are_answered_after_the_credential() -> None:
    async with serving() as server:
        async with connected(server) as wire:
            wire.writer.write(post(b"", "Expect: 100-continue", token="nobody", size=10))
            assert (await wire.reply())[0] == 401
        async with connected(server) as wire:
            wire.writer.write(post(b"", "Expect: 100-continue", size=len(EVENT)))
            assert (await wire.reply())[0] == 100
            wire.writer.write(EVENT)
            assert (await wire.reply())[0] == 202


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(raw: bytes) -> None:
    async with serving() as server, connected(server) as wire:
        wire.writer.write(raw)
        status, *_ = await wire.reply()
        assert status in (400, 404)


async def test_junk_after_a_request_does_not_take_its_answer() -> None:
    fake = services(port=0)
    leave = asyncio.Event()

    async def slow() -> None:
        await leave.wait()

    fake.publisher.before = slow
    async with serving(fake) as server, connected(server) as wire:
        wire.writer.write(post() + b"junk\r\n\r\n")
        await wire.writer.drain()
        leave.set()
        status, _, body = await wire.reply()
        assert (status, json.loads(body)["type"]) == (202, "build.created")
        assert await wire.closed()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
async def test_an_offer_of_another_protocol_is_passed_over(protocol: str, whole: bool) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AA")
    chunked = post(b"", "Transfer-Encoding: chunked", *offer).replace(b"Content-Length: 0\r\n", b"")
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(EVENT), EVENT)
    health = "\r\n".join(["GET /healthz HTTP/1.1", "Host: x", *offer]).encode() + b"\r\n\r\n"
    async with serving() as server, connected(server) as wire:
        if whole:
            wire.writer.write(post(EVENT, *offer) + chunked + health + post())
        else:
            for at in range(0, len(sent := post(EVENT, *offer)), 50):
                wire.writer.write(sent[at : at + 50])
                await wire.writer.drain()
            wire.writer.write(chunked)
            wire.writer.write(health + post())
        assert [(await wire.reply())[0] for _ in range(4)] == [202, 202, 200, 202]


async def test_connections_have_a_limit() -> None:
    async with serving(connections_max=2) as server:
        async with connected(server) as one, connected(server) as two:
            for wire in (one, two):
                wire.writer.write(post())
                assert (await wire.reply())[0] == 202
            async with connected(server) as three:
                status, headers, _ = await three.reply()
                assert (status, headers["retry-after"]) == (503, "1")
                assert await three.closed()
        for _ in range(1000):  # until the server has seen one of them leave
            async with connected(server) as again:
                again.writer.write(post())
                status, *_ = await again.reply()
            if status == 202:
                break
        assert status == 202


def test_connections_per_address() -> None:
    bounds = Bounds(services(connections_per_address_max=2, trusted_proxies="10.0.0.0/8").settings)
    assert [bounds.enter("203.0.113.1") for _ in range(3)] == [True, True, False]
    assert bounds.enter("203.0.113.2")
    assert all(bounds.enter(address) for address in ["127.0.0.1", "::1", "10.1.1.1"] * 5)
    bounds.leave("203.0.113.1")
    bounds.leave("203.0.113.1")
    assert bounds.enter("203.0.113.1")


async def test_a_client_that_leaves_is_not_published_for() -> None:
    fake = services(port=0)
    async with serving(fake) as server:
        async with connected(server) as wire:
            wire.writer.write(post(b"{", size=100))
            await wire.writer.drain()
        async with connected(server) as wire:
            wire.writer.write(post())
            assert (await wire.reply())[0] == 202
    assert len(fake.publisher.drafts) == 1


async def test_stopping_finishes_what_is_under_way() -> None:
    fake = services(port=0)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        entered.set()
        await leave.wait()

    fake.publisher.before = slow
    async with serving(fake) as server, connected(server) as wire, connected(server) as idle:
        wire.writer.write(post())
        await entered.wait()
        stopping = asyncio.ensure_future(server.stop())
        assert await idle.closed()
        assert not stopping.done()
        leave.set()
        assert (await wire.reply())[0] == 202
        await stopping
        await server.stop()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(*server.address)


async def test_health() -> None:
    fake = services(port=0)
    async with serving(fake) as server, connected(server) as wire:
        for path, ready, status in (
            ("healthz", False, 200),
            ("readyz", False, 503),
            ("readyz", True, 200),
        ):
            fake.health.is_ready = ready
            wire.writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await wire.reply())[0] == status

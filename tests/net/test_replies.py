"""Replies of every kind: the head decides, the rest is a note."""

import asyncio

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.net.authority import Authority
from tests.net.conftest import LOOPBACK
from tests.net.hostile import OK, Peer, always, once, target
from tests.net.test_client import failure, post, send

from tocsin.domain.exchange import BODY_KEPT_BYTES_MAX
from tocsin.domain.outcome import Reason
from tocsin.net import Client, Resolver

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LENGTH_9 = HEAD + b"content-length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (OK, b"ok"),
        (HEAD + b"content-length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b""),
        (CHUNKED + b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n", b"abcde"),
        (CHUNKED + b"2\r\nab\r\n0\r\nx-trailer: 1\r\n\r\n", b"ab"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + OK, b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, b"ok"),
        (HEAD + b"x: " + b"a" * 32_000 + b"\r\ncontent-length: 0\r\n\r\n", b""),
        (HEAD + b"x: y\r\n" * 99 + b"content-length: 0\r\n\r\n", b""),
        (HEAD + b"content-length: 5000\r\n\r\n" + b"a" * 5000, b"a" * BODY_KEPT_BYTES_MAX),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2, 7])
async def test_a_good_reply_keeps_the_connection(
    client: Client, reply: bytes, body: bytes, pieces: int
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            size = -(-len(reply) // pieces)
            for start in range(0, len(reply), size):
                await peer.say(reply[start : start + size])
                await asyncio.sleep(0.001 if pieces > 1 else 0)

    async with target(script) as t:
        for _ in range(2):
            got = await send(client, t.url())
            assert (got.body, got.note) == (body, None)
            assert "link" not in dict(got.headers)
        assert t.connections == 1


@pytest.mark.parametrize(
    ("reply", "then", "note"),
    [
        (LENGTH_9 + b"abc", "close", "cut"),
        (CHUNKED + b"9\r\nabc", "close", "cut"),
        (CHUNKED + b"3\r\nabc\r\n", "close", "cut"),
        (CHUNKED + b"3\r\nabc\r\nzz\r\n", "wait", "malformed"),
        (CHUNKED + b"3\r\nabcXX0\r\n\r\n", "wait", "malformed"),
        (LENGTH_9 + b"abc", "wait", "stalled"),
        (HEAD + b"\r\nabc", "wait", "stalled"),
        (HEAD + b"\r\nabc", "close", None),
        (b"HTTP/1.0 200 OK\r\n\r\nabc", "close", None),
        (HEAD + b"transfer-encoding: gzip\r\n\r\nabc", "close", None),
        (HEAD + b"connection: close\r\ncontent-length: 3\r\n\r\nabc", "wait", None),
        (HEAD + b"content-length: 3\r\n\r\nabcSURPLUS", "wait", None),
        (HEAD + b"content-length: 3\r\n\r\nabc" + OK, "wait", None),
        (HEAD + b"content-length: 3\r\n\r\nabc\r\n", "wait", None),
        (HEAD + b"content-length: 3\r\n\r\nabcHTTP/1.1 2", "wait", None),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + OK, "wait", None),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + HEAD + b"\r\n", "wait", None),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n\r\n", "wait", None),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\nHTTP", "wait", None),
    ],
)
async def test_a_bad_end_is_a_note_and_closes(
    client: Client, reply: bytes, then: str, note: str | None
) -> None:
    async with target(once(reply, then)) as t:
        got = await send(client, t.url(), seconds=2 if note == "stalled" else 20)
        assert (got.status, got.body, got.note) == (200, b"abc", note)
        assert client.pool.idle_count == 0


async def test_a_reset_body_is_a_note(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(LENGTH_9 + b"abc")
        # The head must have been read before the reset, which discards what is on its way: what
        # was written is in the other's buffer within a moment, and each turn of the loop reads.
        for _ in range(20):
            await asyncio.sleep(0.001)
        peer.reset()

    async with target(script) as t:
        got = await send(client, t.url())
        assert (got.status, got.note) == (200, "reset")


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"content-length: 1048576\r\n\r\n" + b"a" * 1048576,
        HEAD + b"\r\n" + b"a" * 1048576,
        CHUNKED + b"100000\r\n" + b"a" * 1048576 + b"\r\n0\r\n\r\n",
    ],
)
async def test_a_mebibyte_is_not_read(client: Client, reply: bytes) -> None:
    async with target(once(reply)) as t:
        got = await send(client, t.url())
        assert (got.status, got.body, got.note) == (200, b"a" * BODY_KEPT_BYTES_MAX, "truncated")
        assert client.pool.idle_count == 0


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 999 Strange\r\n\r\n",
        b"HTTP/1.1 099 Strange\r\n\r\n",
        b"HTTP/1.1 600 Strange\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        HEAD + b"content-length: -1\r\n\r\nabc",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b"x : y\r\n\r\n",
        HEAD + b"x: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        HEAD + b"x: y\r\n" * 101 + b"\r\n",
        HEAD + b"x: " + b"a" * 33_000 + b"\r\ncontent-length: 0\r\n\r\n",
        HEAD + b"x: " + b"a" * 2_000_000,
        HEAD + (b"x: " + b"a" * 1000 + b"\r\n") * 40 + b"\r\n",
    ],
)
async def test_a_bad_head_is_a_bad_reply(client: Client, reply: bytes) -> None:
    async with target(once(reply)) as t:
        assert (await failure(client, t.url())).reason is Reason.BAD_REPLY
        assert client.pool.idle_count == 0


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 2", HEAD, HEAD + b"content-length: 0\r\n"])
@pytest.mark.parametrize("then", ["close", "reset"])
async def test_a_cut_head_is_a_reset(client: Client, reply: bytes, then: str) -> None:
    async with target(once(reply, then)) as t:
        assert (await failure(client, t.url())).reason is Reason.CONNECTION_RESET
        assert t.connections == 1


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 2", HEAD, b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_stalled_head_is_a_timeout(client: Client, reply: bytes) -> None:
    async with target(once(reply)) as t:
        assert (await failure(client, t.url(), seconds=0.05)).reason is Reason.TIMEOUT


async def test_a_trickle_does_not_outlast_the_timeout(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for byte in HEAD + b"x: " + b"a" * 100_000:
            await peer.say(bytes([byte]))
            await asyncio.sleep(0.005)

    async with target(script) as t:
        assert (await failure(client, t.url(), seconds=0.1)).reason is Reason.TIMEOUT


async def test_redirects_are_replies(client: Client) -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with target(always(moved)) as t:
        got = await send(client, t.url())
        assert (got.status, got.header("location"), len(t.requests)) == (302, "/elsewhere", 1)


async def test_an_answer_before_the_request_was_read(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await hold.wait()

    hold = asyncio.Event()
    async with target(script) as t:
        request = post(t.url(), b"a" * 8_000_000)
        got = await client.send(request, organization="acme", timeout_seconds=30)
        assert got.status == 413
        assert client.pool.idle_count == 0
        hold.set()


@pytest.mark.parametrize("size", [100_000, 1_000_000, 8_000_000])
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_refusal_that_closes_before_the_request_was_read(
    authority: Authority, resolver: Resolver, size: int, then: str, secure: bool
) -> None:
    """What is unread makes a reset of the close; the reply came first and decides."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        if then == "reset" and not secure:
            peer.reset()

    tls = authority.server(x509.DNSName("localhost")) if secure else None
    async with (
        target(script, tls) as t,
        Client(resolver, LOOPBACK, make_context=authority.client) as client,
    ):
        for _ in range(5):
            request = post(t.url("localhost"), b"a" * size)
            got = await client.send(request, organization="acme", timeout_seconds=30)
            assert got.status == 413
            assert client.pool.idle_count == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.binary(max_size=300), head=st.sampled_from([b"", HEAD, CHUNKED, LENGTH_9]))
async def test_no_bytes_break_the_client(client: Client, data: bytes, head: bytes) -> None:
    async with target(once(head + data, "close")) as t:
        try:
            got = await send(client, t.url())
        except Exception as error:
            assert type(error).__name__ == "SendFailed"  # noqa: PT017
        else:
            assert 200 <= got.status <= 599

"""Each phase of an attempt that takes too long says so, and has its limit inside the attempt's."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from tests.net.conftest import LOOPBACK
from tests.net.hostile import Peer, target
from tests.net.test_client import failure, post

from tocsin.domain.outcome import Reason
from tocsin.net import Client, PhaseLimits, Resolver, SendFailed

pytestmark = pytest.mark.anyio

SHORT = 1.0


@pytest.fixture
async def deaf_port(anyio_backend: object) -> AsyncIterator[int]:
    """A port whose queue of connections is full, so that a further one is never answered."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("limits", "seconds"), [(PhaseLimits(), SHORT), (PhaseLimits(connect_seconds=SHORT), 30)]
)
async def test_connecting(
    resolver: Resolver, deaf_port: int, limits: PhaseLimits, seconds: float
) -> None:
    async with Client(resolver, LOOPBACK, phase_limits=limits) as client:
        failed = await failure(client, f"http://127.0.0.1:{deaf_port}/", seconds)
        assert (failed.reason, failed.detail) == (Reason.TIMEOUT, "no connection in time")


@pytest.mark.parametrize(
    ("limits", "seconds"), [(PhaseLimits(), SHORT), (PhaseLimits(tls_seconds=SHORT), 30)]
)
async def test_the_handshake(resolver: Resolver, limits: PhaseLimits, seconds: float) -> None:
    async def script(peer: Peer) -> None:
        await peer.closed()

    async with (
        target(script) as t,
        Client(resolver, LOOPBACK, phase_limits=limits) as client,
    ):
        url = t.url("localhost").replace("http:", "https:")
        failed = await failure(client, url, seconds)
        assert (failed.reason, failed.detail) == (Reason.TIMEOUT, "no TLS handshake in time")


@pytest.mark.parametrize(
    ("said", "size", "detail"),
    [
        (b"", 8_000_000, "the request was not taken in time"),
        (b"", 2, "no reply in time"),
        (b"HTTP/1.1 200 OK\r\n", 2, "no complete head of a reply in time"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 2, "no complete head of a reply in time"),
    ],
)
async def test_the_exchange(client: Client, said: bytes, size: int, detail: str) -> None:
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        if said:
            await peer.request()
            await peer.say(said)
        await over.wait()

    async with target(script) as t:
        with pytest.raises(SendFailed) as failed:
            await client.send(post(t.url(), b"a" * size), organization="acme", timeout_seconds=2)
        over.set()
        assert (failed.value.reason, failed.value.detail) == (Reason.TIMEOUT, detail)

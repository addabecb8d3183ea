"""Property: whatever a target does to its reply, the verdict is the reference model's."""

import asyncio

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.net.hostile import OK, Peer, target, until
from tests.net.model import Play, Verdict, plays, verdict
from tests.net.test_client import send

from tocsin.domain.outcome import BREAKER_REASONS
from tocsin.net import Client, SendFailed

pytestmark = pytest.mark.anyio

ROUNDS = 5
"""So many turns of the loop let both sides read all that is on its way: a write to a socket of this
machine is in the other's buffer when it returns, or a moment later."""


async def settled() -> None:
    for _ in range(ROUNDS):
        await asyncio.sleep(0.0005)


async def perform(client: Client, play: Play, *, reused: bool) -> tuple[Verdict, bool, int]:
    """Play it; what became of it, whether it was sent again, and the number of connections."""
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        if reused:
            await peer.request()
            await peer.say(OK)
        await peer.request()
        if peer.number > 1:
            await peer.say(OK)
        else:
            position = 0
            for size in play.pieces:
                await peer.say(play.stream[position : position + size])
                position += size
                await asyncio.sleep(0)
            await settled()
            if play.ending == "reset":
                peer.reset()
            elif play.ending == "close":
                return
        done.set()
        await peer.closed()

    async def stall() -> None:
        """The end of the attempt's time, without waiting for it."""
        await done.wait()
        await settled()
        for connection in tuple(client.pool._open):
            if connection.deadline < float("inf"):
                connection.expire()

    async with target(script) as t:
        if reused:
            assert (await send(client, t.url(), seconds=60)).status == 200
        ending = asyncio.create_task(stall())
        resent = False
        try:
            reply = await send(client, t.url(), seconds=60)
        except SendFailed as failed:
            got = Verdict((failed.reason.value,))
        else:
            resent = reply.resent
            await settled()
            clean = play.ending == "stall" and client.pool.idle_count == 1
            got = Verdict((), reply.status, reply.body, reply.note, clean)
        ending.cancel()
        await asyncio.gather(ending, return_exceptions=True)
        connections = t.connections
    await until(lambda: client.pool.open_count == 0)
    return got, resent, connections


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=150,
)
@given(play=plays(), reused=st.booleans())
@example(play=Play(b"", (0,), "close", sane=True), reused=True)
@example(play=Play(b"", (0,), "reset", sane=True), reused=True)
async def test_the_verdict_is_the_model_s(client: Client, play: Play, reused: bool) -> None:
    got, resent, connections = await perform(client, play, reused=reused)
    if reused and not play.stream and play.ending != "stall":
        # Closed before any byte came back: sent once more, to a target that is well.
        assert (got.status, resent, connections) == (200, True, 2)
        return
    assert (resent, connections) == (False, 1)
    expected = verdict(play)
    if expected.reasons:
        assert got.reasons, (got, play)
        assert got.reasons[0] in expected.reasons, play
        assert got.reasons[0] in BREAKER_REASONS
    elif expected.note == "truncated":
        # Whether all of it was read by chance is no matter.
        assert replace(got, clean=False) == expected, play
    else:
        assert got == expected, play

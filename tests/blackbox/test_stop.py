"""SIGTERM under load: everything accepted is delivered once, by this process or the next."""

import asyncio

from tests.blackbox.conftest import NewServer
from tests.blackbox.load import Load, asks
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import Server

CONNECTIONS = 16
EVENTS = 2_000
STOPS = 2


async def publish_through_stops(server: Server, receiver: Receiver, load: Load) -> None:
    tenant = server.tenant("platform")
    tenant.channel(receiver.url(script=always(reply(after_seconds=0.02))))
    publishing = asyncio.create_task(load.run(asks(tenant, EVENTS), CONNECTIONS))
    for number in range(1, STOPS + 1):
        await load.reached(EVENTS * number // (STOPS + 1))
        load.up.clear()
        assert await asyncio.to_thread(server.stop) == 0, server.said()
        await asyncio.to_thread(server.start)
        load.up.set()
    await publishing


def test_a_stop_loses_and_repeats_nothing(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start()
    load = Load(server)
    asyncio.run(publish_through_stops(server, receiver, load))
    assert set(load.refused.values()) <= {503}
    receiver.wait_for(
        lambda found: (
            len(found) >= len(load.accepted)
            and load.accepted.keys() <= {r.json()["data"]["number"] for r in found}
        ),
        seconds=120,
    )
    receipts = receiver.at()
    came = [r.json()["data"]["number"] for r in receipts]
    assert len(came) == len(set(came)), "delivered twice"
    assert {r.attempt for r in receipts} == {1}
    assert not set(came) & load.refused.keys(), "refused and delivered"
    assert server.stop() == 0

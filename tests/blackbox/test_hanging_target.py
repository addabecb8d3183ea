"""A target that hangs, and far more for it than fits into memory: nobody else notices."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.load import Load, asks
from tests.blackbox.receiver import HANG, Receiver, always
from tests.blackbox.server import Server, Tenant
from tests.blackbox.stalls import Stalls

EVENTS = 100_000
CONNECTIONS = 8
BATCH = 500
CHANNELS = 4
RSS_MIB_MAX = 200
# Beyond twice as long as the machine has stood still by itself; a hanging target takes 15.
NEIGHBOUR_SECONDS_MAX = 2.0


def rss_mib(server: Server) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no such line")


def slowest(tenant: Tenant, receiver: Receiver, count: int) -> float:
    """How long the slowest of some deliveries takes from its publish."""
    longest = 0.0
    for number in range(count):
        before = len(receiver.at("/well"))
        began = time.monotonic()
        tenant.publish(data=number)
        receiver.wait(before + 1, "/well")
        longest = max(longest, time.monotonic() - began)
    return longest


@pytest.mark.long
@pytest.mark.alone
def test_what_hangs_harms_nobody_else(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start()
    bad, good = server.tenant("bad"), server.tenant("good")
    for number in range(CHANNELS):
        bad.channel(receiver.url(f"/hang/{number}", always(HANG)), event_types=["load.*"])
    good.channel(receiver.url("/well"))
    batch = [{"type": "load.event", "data": {"number": n}} for n in range(BATCH)]
    for _ in range(EVENTS // BATCH // CHANNELS):
        bad.publish_batch(batch)
    load = Load(server)
    flood = asks(bad, 5_000)

    async def together() -> float:
        flooding = asyncio.create_task(load.run(flood, CONNECTIONS))
        found = await asyncio.to_thread(slowest, good, receiver, 20)
        await flooding
        return found

    with Stalls(server.data_dir.parent) as stalls:
        during = asyncio.run(together())
        after = slowest(good, receiver, 20)
    print(f"{during:.2f} s and {after:.2f} s beside {stalls.longest:.2f} s, {rss_mib(server)} MiB")
    assert max(during, after) < NEIGHBOUR_SECONDS_MAX + 2 * stalls.longest
    assert rss_mib(server) < RSS_MIB_MAX
    assert server.stop() == 0

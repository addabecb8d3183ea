"""Two nodes that send deliver more than one, where targets and not the machine are the limit."""

import itertools
import time
from pathlib import Path

import pytest
from tests.blackbox.cluster import CHAOS_SECONDS, Cluster
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import SERVE, Tenant
from tests.postgres import server

pytestmark = [pytest.mark.long, pytest.mark.alone]

CHANNELS = 200
IN_FLIGHT_MAX = 100
REPLY_SECONDS = 0.25
"""Such a node sends at most 400 a second. With 50 ms it would be 2,000, and then two nodes, their
database, and the target, all on two cores, show how fast the machine is and not the nodes."""
EVENTS = 30_000
"""Each node takes up to 10,000 into its memory: there must be some left for the other one."""
BATCH = 500
WARM_SECONDS = 2.0
SECONDS = 5.0
TIMES_MIN = 1.5
PATH = "/engines"


def per_second(tmp_path: Path, receiver: Receiver, engines: int) -> float:
    """How much so many engine nodes deliver of what a node that only accepts has stored."""
    postgres = server()
    name = postgres.migrated()
    dsn = postgres.dsn(name)
    limit = {"TOCSIN_IN_FLIGHT_MAX": str(IN_FLIGHT_MAX)}
    api, engine = {"TOCSIN_ROLE": "api", **limit}, {"TOCSIN_ROLE": "engine", **limit}
    tmp_path.mkdir()
    with Cluster(tmp_path / "api", dsn, commands=(SERVE,), settings=(api,)) as accepting:
        store_events(accepting.nodes[0].tenant("engines"), receiver)
        commands, settings = (SERVE,) * engines, (engine,) * engines
        with Cluster(tmp_path / "engines", dsn, commands=commands, settings=settings):
            before = len(receiver.at(PATH))
            time.sleep(WARM_SECONDS)
            began, had = time.monotonic(), len(receiver.at(PATH))
            time.sleep(SECONDS)
            found = (len(receiver.at(PATH)) - had) / (time.monotonic() - began)
            assert before < had < len(receiver.at(PATH)) < EVENTS, "nothing was left to send"
    postgres.drop(name)
    return found


def store_events(tenant: Tenant, receiver: Receiver) -> None:
    """As many events for each of the channels, all free for whoever comes."""
    url = receiver.url(PATH, always(reply(after_seconds=REPLY_SECONDS)))
    for number in range(CHANNELS):
        tenant.channel(url, event_types=[f"load.c{number}"])
    types = itertools.cycle(f"load.c{number}" for number in range(CHANNELS))
    for _ in range(EVENTS // BATCH):
        tenant.publish_batch([{"type": next(types), "data": None} for _ in range(BATCH)])


@pytest.mark.skipif(not CHAOS_SECONDS, reason="`make chaos` compares one engine node with two")
def test_two_engine_nodes_deliver_more_than_one(tmp_path: Path) -> None:
    found = []
    for engines in (1, 2):
        with Receiver() as receiver:
            found.append(per_second(tmp_path / str(engines), receiver, engines))
    one, two = found
    print(f"one engine node {one:.0f}/s, two {two:.0f}/s: {two / one:.2f} times", end=" ")
    assert two >= TIMES_MIN * one

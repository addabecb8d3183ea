"""A node that is away for longer than its lease, and comes back: others finish what it held."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.blackbox import network, short_lease
from tests.blackbox.cluster import (
    CHAOS_SECONDS,
    HEALED_SECONDS_MAX,
    NODES,
    SLOW,
    Cluster,
    Fault,
    Publishers,
    channels,
    check,
    ready,
)
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import SERVE, until
from tests.postgres import PostgresServer, server
from tests.ssrf.namespace import lacking

from tocsin.storage.postgres.nodes import LEASE_MS

pytestmark = pytest.mark.long

LEASE_SECONDS = LEASE_MS / 1000 if CHAOS_SECONDS else short_lease.LEASE_SECONDS
TIMEOUT_SECONDS = 15 if CHAOS_SECONDS else short_lease.TIMEOUT_SECONDS
AWAY_SECONDS = 2 * LEASE_SECONDS
PAUSE_SECONDS = 0.05
BURST = 300
COMMAND = SERVE if CHAOS_SECONDS else (sys.executable, "-P", short_lease.__file__, "serve")
# So few at once that most of a burst waits in the memory of its node.
SETTINGS = {"TOCSIN_CHANNEL_IN_FLIGHT_MAX": "16"}
AWAY = NODES - 1
MISSING = lacking()


def replaced_while_away(
    postgres: PostgresServer,
    name: str,
    cluster: Cluster,
    receiver: Receiver,
    absence: Callable[[], AbstractContextManager[None]],
) -> None:
    """The last node is away for two leases, with much in its hands: others take that over."""
    tenant = cluster.nodes[0].tenant("leases")
    secrets = channels(tenant, receiver, timeout_seconds=TIMEOUT_SECONDS)
    with Publishers(cluster, tenant, pause_seconds=PAUSE_SECONDS) as publishers:
        publishers.reached(200)
        due = publishers.burst(AWAY, BURST)
        began = time.monotonic()
        with absence():
            receiver.wait_for(
                lambda found: due <= {one.event_id for one in found},
                SLOW,
                seconds=AWAY_SECONDS + HEALED_SECONDS_MAX,
            )
            time.sleep(max(0.0, began + AWAY_SECONDS - time.monotonic()))
            others = due & {one.event_id for one in receiver.at(SLOW) if one.at > began + 5}
        fault = Fault(began, time.monotonic())
        until(lambda: ready(cluster.nodes[AWAY]), "it is back", HEALED_SECONDS_MAX)
        publishers.reached(len(publishers.accepted) + 200)
    cluster.healed(tenant, receiver)
    verdict = check(postgres, name, publishers, tenant, receiver, secrets, [fault])
    print(
        f"away for {fault.ended - fault.began:.0f} s, {len(others)} of {BURST} sent by others: "
        f"{verdict}; {dict(publishers.again)}",
        end=" ",
    )
    assert others, "it held nothing: the test shows nothing"


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """This process does nothing, from entering to leaving."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_node_that_stood_still_sends_nothing_that_others_have_sent(
    tmp_path: Path, receiver: Receiver
) -> None:
    postgres = server()
    name = postgres.migrated()
    commands, settings = (COMMAND,) * NODES, (SETTINGS,) * NODES
    with Cluster(tmp_path, postgres.dsn(name), commands=commands, settings=settings) as cluster:
        pid = cluster.nodes[AWAY].pid
        replaced_while_away(postgres, name, cluster, receiver, partial(standing_still, pid))
        cluster.stop()
    postgres.drop(name)


def test_a_node_that_is_cut_off_from_its_database_is_replaced(tmp_path: Path) -> None:
    """It still reaches its targets, so that it alone decides not to send."""
    if MISSING is not None:
        assert not os.environ.get("CI"), MISSING
        pytest.skip(f"NO NODE IS CUT OFF: {MISSING}")
    with network.two_networks(), Receiver(network.ADDRESS_HERE) as receiver:
        postgres = PostgresServer(also=network.DATABASE_HERE)
        try:
            name = postgres.migrated()
            dsn = postgres.dsn(name)
            here = SETTINGS | {"TOCSIN_ALLOW_NETWORKS": network.NETWORKS}
            there = here | {
                "TOCSIN_STORE": dsn.replace("127.0.0.1", network.DATABASE_HERE),
                "TOCSIN_HOST": network.ADDRESS_THERE,
            }
            commands = (*(COMMAND,) * AWAY, network.command(*COMMAND))
            settings = (*(here,) * AWAY, there)
            with Cluster(tmp_path, dsn, commands=commands, settings=settings) as cluster:
                cut = partial(network.cut, network.DATABASE_LINK)
                replaced_while_away(postgres, name, cluster, receiver, cut)
                cluster.stop()
        finally:
            postgres.close()

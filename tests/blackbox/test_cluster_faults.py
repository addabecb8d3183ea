"""Three nodes under load: killed one by one, restarted one by one, and without their database."""

import itertools
import os
import random
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from tests.blackbox.cluster import (
    CHAOS_SECONDS,
    FAST,
    HEALED_SECONDS_MAX,
    Accepted,
    Cluster,
    Fault,
    InOrder,
    Publishers,
    channels,
    check,
    ready,
)
from tests.blackbox.receiver import Receipt, Receiver
from tests.blackbox.server import Tenant, until
from tests.postgres import PostgresServer

pytestmark = pytest.mark.long

KILL_EVERY_SECONDS = 15.0 if CHAOS_SECONDS else 5.0
KILLS = int(CHAOS_SECONDS / KILL_EVERY_SECONDS) if CHAOS_SECONDS else 3
OUTAGE_SECONDS = 20.0
CALM_SECONDS = 3.0
# Disks stand still for seconds; waiting for the end of a lease would take a minute.
P99_SECONDS_MAX = 20.0
P99_TIMES_MAX = 10.0
COMPARED_MIN = 30
IN_ORDER = "/in-order"

_tenants = itertools.count(1)


class World(NamedTuple):
    """A database server, its database, and the nodes on it."""

    postgres: PostgresServer
    name: str
    cluster: Cluster


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    postgres = PostgresServer()
    try:
        name = postgres.migrated()
        with Cluster(tmp_path_factory.mktemp("cluster"), postgres.dsn(name)) as cluster:
            yield World(postgres, name, cluster)
            cluster.stop()
    finally:
        postgres.close()


@pytest.fixture
def tenant(world: World) -> Tenant:
    return world.cluster.nodes[0].tenant(f"cluster-{next(_tenants)}")


def test_nodes_killed_under_load_lose_nothing(
    world: World, tenant: Tenant, receiver: Receiver
) -> None:
    """kill -9 of one at random again and again, each restarted at once."""
    cluster, chance = world.cluster, random.Random(os.environ.get("TOCSIN_CHAOS_SEED", "5"))
    secrets = channels(tenant, receiver)
    faults: list[Fault] = []
    with Publishers(cluster, tenant) as publishers:
        for _ in range(KILLS):
            due = time.monotonic() + KILL_EVERY_SECONDS
            publishers.reached(len(publishers.accepted) + 100)
            time.sleep(max(0.0, due - time.monotonic()))
            node = chance.choice(cluster.nodes)
            at = node.kill()
            node.start()
            faults.append(Fault(at, node.ready_at, killed=True))
        publishers.reached(len(publishers.accepted) + 100)
    cluster.healed(tenant, receiver)
    verdict = check(world.postgres, world.name, publishers, tenant, receiver, secrets, faults)
    print(f"{len(faults)} kills: {verdict}; {dict(publishers.again)}", end=" ")


def test_an_outage_of_the_database_loses_nothing(
    world: World, tenant: Tenant, receiver: Receiver
) -> None:
    """It crashes and is away for 20 s: shorter than a lease, so nothing changes hands."""
    cluster = world.cluster
    secrets = channels(tenant, receiver)
    with Publishers(cluster, tenant) as publishers:
        publishers.reached(300)
        began = time.monotonic()
        world.postgres.stop()
        until(lambda: not any(cluster.ready()), "/readyz tells", HEALED_SECONDS_MAX)
        before = len(publishers.accepted)
        time.sleep(max(0.0, began + OUTAGE_SECONDS - time.monotonic()))
        assert len(publishers.accepted) == before, "accepted without a database"
        world.postgres.start()
        fault = Fault(began, time.monotonic())
        until(lambda: all(cluster.ready()), "all nodes are ready again", HEALED_SECONDS_MAX)
        publishers.reached(before + 100)
    cluster.healed(tenant, receiver)
    verdict = check(world.postgres, world.name, publishers, tenant, receiver, secrets, [fault])
    print(f"an outage: {verdict}; {dict(publishers.again)}", end=" ")


def test_a_rolling_restart_is_not_seen(world: World, tenant: Tenant, receiver: Receiver) -> None:
    """Nothing is lost, nothing comes twice, nothing in another order, and nobody waits for it."""
    cluster = world.cluster
    secrets = channels(tenant, receiver, event_types=["load.event"])
    tenant.channel(receiver.url(IN_ORDER), ordered=True, event_types=[InOrder.TYPE])
    in_order = InOrder(cluster, tenant)
    with Publishers(cluster, tenant) as publishers:
        in_order.start()
        try:
            publishers.reached(100)
            calm = time.monotonic()
            until(lambda: enough(in_order, publishers.accepted.values(), calm), "a calm time", 300)
            began = time.monotonic()
            for node in cluster.nodes:
                assert node.stop() == 0, node.said()
                node.start()
                publishers.reached(len(publishers.accepted) + 100)
            ended = time.monotonic()
        finally:
            in_order.end()
    cluster.healed(tenant, receiver)
    verdict = check(world.postgres, world.name, publishers, tenant, receiver, secrets, [])
    assert verdict.twice == verdict.superseded == 0
    # What was published last has its first attempt behind it: everything is delivered.
    came = [one.event_id for one in receiver.at(IN_ORDER)]
    assert came == [one.event_id for one in in_order.accepted]
    for path, accepted in ((FAST, publishers.accepted.values()), (IN_ORDER, in_order.accepted)):
        usual = p99(accepted, receiver.at(path), calm, began)
        rolling = p99(accepted, receiver.at(path), began, ended)
        print(f"{path}: p99 {usual:.3f} s, while restarting {rolling:.3f} s", end="; ")
        assert rolling <= max(P99_SECONDS_MAX, P99_TIMES_MAX * usual), path
    print(verdict, end=" ")
    assert all(ready(node) for node in cluster.nodes)


def enough(in_order: InOrder, accepted: Iterable[Accepted], since: float) -> bool:
    """Whether enough was published since a moment, and for long enough, to tell what is usual."""
    if time.monotonic() < since + CALM_SECONDS:
        return False
    return all(
        sum(one.asked_at >= since for one in tuple(published)) > COMPARED_MIN
        for published in (accepted, in_order.accepted)
    )


def p99(accepted: Iterable[Accepted], receipts: list[Receipt], began: float, ended: float) -> float:
    """From the first try to publish to the receipt, of what was published in a time."""
    came = {one.event_id: one.at for one in reversed(receipts)}
    seconds = sorted(
        came[one.event_id] - one.asked_at for one in accepted if began <= one.asked_at < ended
    )
    assert len(seconds) > COMPARED_MIN
    return seconds[int(len(seconds) * 0.99)]

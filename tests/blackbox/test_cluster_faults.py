"""Three nodes under load: killed one by one, restarted one by one, and without their database."""

import itertools
import os
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from tests.blackbox.cluster import (
    CHAOS_SECONDS,
    FAST,
    HEALED_SECONDS_MAX,
    Accepted,
    Cluster,
    Fault,
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
# Delays that nobody would call one, or what this machine shows without a restart.
P99_SECONDS_MAX = 5.0
P99_TIMES_MAX = 10.0

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
    """Nothing is lost, nothing comes twice, and nobody waits for it."""
    cluster = world.cluster
    secrets = channels(tenant, receiver)
    with Publishers(cluster, tenant) as publishers:
        publishers.reached(100)
        calm = time.monotonic()
        time.sleep(CALM_SECONDS)
        began = time.monotonic()
        for node in cluster.nodes:
            assert node.stop() == 0, node.said()
            node.start()
            publishers.reached(len(publishers.accepted) + 100)
        ended = time.monotonic()
    cluster.healed(tenant, receiver)
    verdict = check(world.postgres, world.name, publishers, tenant, receiver, secrets, [])
    assert verdict.twice == verdict.superseded == 0
    usual = p99(publishers, receiver.at(FAST), calm, began)
    rolling = p99(publishers, receiver.at(FAST), began, ended)
    print(f"p99 {usual:.3f} s, while restarting {rolling:.3f} s: {verdict}", end=" ")
    assert rolling <= max(P99_SECONDS_MAX, P99_TIMES_MAX * usual)
    assert all(ready(node) for node in cluster.nodes)


def p99(publishers: Publishers, receipts: list[Receipt], began: float, ended: float) -> float:
    """From the first try to publish to the receipt, of what was published in a time."""
    came = {one.event_id: one.at for one in reversed(receipts)}

    def between(one: Accepted) -> bool:
        return began <= one.asked_at < ended

    seconds = sorted(
        came[one.event_id] - one.asked_at for one in publishers.accepted.values() if between(one)
    )
    assert len(seconds) > 100
    return seconds[int(len(seconds) * 0.99)]

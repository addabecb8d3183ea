"""On PostgreSQL: what must be set, an outage of the database, and a second node."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.blackbox import short_lease
from tests.blackbox.load import Load, asks
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import SERVE, Server, Tenant, node_settings, until
from tests.blackbox.test_start import refusal
from tests.postgres import PostgresServer, server

NOTICED_SECONDS_MAX = 120.0
HEALED_SECONDS_MAX = 180.0
OUTAGE_SECONDS = 10.0
SHORT_LEASE = (sys.executable, "-P", short_lease.__file__, "serve")
COMMAND = SERVE if os.environ.get("TOCSIN_TEST_EVERYTHING") else SHORT_LEASE
SLOW = "/slow"


def words(said: str) -> str:
    """What was said, however a terminal wraps it."""
    return re.sub(r"\s+", " ", said)


def node(
    data_dir: Path, dsn: str, *without: str, command: Sequence[str] = SERVE, **settings: str
) -> Server:
    """A node on this database."""
    shared = node_settings(dsn)
    for name in without:
        del shared[name]
    limits = {"requests_per_minute": 0, "stranger_requests_per_minute": 0}
    made = Server(data_dir, limits, command=command)
    made.settings |= shared | settings
    return made


@pytest.mark.parametrize("name", ["TOCSIN_MASTER_KEY", "TOCSIN_OPERATOR_TOKEN"])
def test_what_nodes_share_must_be_set(tmp_path: Path, name: str) -> None:
    said = words(refusal(node(tmp_path / "data", "postgresql://nobody@127.0.0.1:1/none", name)))
    assert name in said
    assert "openssl rand" in said


def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    said = refusal(node(tmp_path / "data", "postgresql://me:hidden@127.0.0.1:1/none"))
    assert "postgresql://127.0.0.1:1/none" in words(said).replace(" ", "")
    assert "hidden" not in said


def ready(server: Server) -> bool:
    return server.call("GET", "/readyz", token=None).status == 200


@pytest.mark.long
def test_an_outage_of_the_database_is_told_and_healed(tmp_path: Path, receiver: Receiver) -> None:
    database = PostgresServer()
    served = node(tmp_path / "data", database.dsn(database.migrated()))
    try:
        served.start()
        tenant = served.tenant("outage")
        tenant.channel(receiver.url())
        tenant.publish(data=0)
        receiver.wait(1)
        database.stop()
        until(lambda: not ready(served), "/readyz tells", NOTICED_SECONDS_MAX)
        refused = tenant.call("POST", "/events", {"type": "a.b", "data": 1})
        assert refused.status == 503, refused
        time.sleep(OUTAGE_SECONDS)
        database.start()
        until(lambda: ready(served), "/readyz tells that it is over", HEALED_SECONDS_MAX)
        event = tenant.publish(data=2)
        receiver.wait(2, seconds=HEALED_SECONDS_MAX)
        assert [receipt.json()["data"] for receipt in receiver.at()] == [0, 2]
        tenant.settled(event["id"], "delivered", seconds=HEALED_SECONDS_MAX)
        assert served.stop() == 0, served.said()
    finally:
        served.close()
        database.close()


@pytest.mark.long
def test_a_second_node_carries_on_what_a_killed_one_held(
    receiver: Receiver, tmp_path: Path
) -> None:
    """What the first has accepted is delivered by the second, once its lease has ended."""
    name = server().migrated()
    first, second = (
        node(tmp_path / which, server().dsn(name), command=COMMAND) for which in ("first", "second")
    )
    try:
        first.start()
        second.start()
        tenant = first.tenant("cluster")
        # Slow, so that much is queued and in flight when it dies.
        slow = receiver.url(SLOW, always(reply(after_seconds=0.1)))
        tenant.channel(slow, timeout_seconds=short_lease.TIMEOUT_SECONDS)
        load = Load(first)
        published = asyncio.run(publish_and_kill(first, tenant, load))
        assert published
        other = Tenant(second, tenant.organization, tenant.key, tenant.projects)
        other.publish("load.last", {"number": -1})
        due = load.accepted.keys() | {-1}
        receiver.wait_for(
            lambda found: due <= {receipt.json()["data"]["number"] for receipt in found},
            SLOW,
            seconds=240,
        )
        assert second.stop() == 0, second.said()
    finally:
        first.close()
        second.close()
    server().drop(name)


async def publish_and_kill(server: Server, tenant: Tenant, load: Load) -> bool:
    publishing = asyncio.create_task(load.run(asks(tenant, 3_000), 16))
    await load.reached(1_000)
    load.up.clear()
    server.kill()
    await asyncio.sleep(0.5)
    publishing.cancel()
    return bool(load.accepted)

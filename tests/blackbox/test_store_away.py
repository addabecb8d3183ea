"""While somebody else holds the database's write lock nothing is promised, nothing sent twice."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server, until

pytestmark = pytest.mark.long

NOTICED_SECONDS_MAX = 60.0
HEALED_SECONDS_MAX = 60.0


@contextmanager
def away(server: Server) -> Iterator[None]:
    """Take the write lock, as a backup tool gone wrong would."""
    database = sqlite3.connect(server.data_dir / "tocsin.db", isolation_level=None, timeout=60)
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
    finally:
        database.close()


def ready(server: Server) -> bool:
    return server.call("GET", "/readyz", token=None).status == 200


def test_an_outage_of_the_store_is_told_and_healed(
    new_server: NewServer, receiver: Receiver
) -> None:
    server = new_server().start()
    tenant = server.tenant("outage")
    tenant.channel(receiver.url())
    tenant.publish(data=0)
    receiver.wait(1)
    with away(server):
        until(lambda: not ready(server), "/readyz tells", NOTICED_SECONDS_MAX)
        refused = tenant.call("POST", "/events", {"type": "a.b", "data": 1})
        assert refused.status == 503, refused
    until(lambda: ready(server), "/readyz tells that it is over", HEALED_SECONDS_MAX)
    tenant.publish(data=2)
    receiver.wait(2)
    time.sleep(1)
    assert [receipt.json()["data"] for receipt in receiver.at()] == [0, 2]
    assert server.stop() == 0


def test_a_stop_does_not_wait_for_a_store_that_is_away(
    new_server: NewServer, receiver: Receiver
) -> None:
    server = new_server().start()
    tenant = server.tenant("outage")
    tenant.channel(receiver.url())
    with away(server):
        refused = tenant.call("POST", "/events", {"type": "a.b", "data": 1})
        assert refused.status == 503, refused
        # `stop` waits no longer than `STOP_SECONDS_MAX`.
        assert server.stop() in (0, 1)
    server.start()
    tenant.publish(data=2)
    receiver.wait(1)
    assert server.stop() == 0

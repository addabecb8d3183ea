"""A disk that fills up: what was accepted arrives, nothing new is taken, and it heals by itself."""

import os
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver, in_turn, reply
from tests.blackbox.server import Tenant, until

pytestmark = pytest.mark.long

DISK_MIB, GROWN_MIB, RESERVE_MIB = 24, 96, 8
EVENT_BYTES = 10 * 1024
EVENTS_MAX = 5_000
FULL_SECONDS = 10.0
HEALED_SECONDS_MAX = 60.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own where the data directory will be."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("A SMALL DISK CAN'T BE MOUNTED HERE (root is needed): not tested")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def server_on_it(small_disk: Path, new_server: NewServer) -> Iterator[NewServer]:
    """Its process ends before its disk goes."""
    made = []

    def make(name: str = "data", *, store: str = "sqlite", **settings: str | int):  # type: ignore[no-untyped-def]
        made.append(new_server(name, store=store, **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


def publish(tenant: Tenant, accepted: list[str]) -> bool:
    """Publish a few events; false when they are refused, which must be told in the right way."""
    event = {"type": "build.created", "data": "x" * EVENT_BYTES}
    answer = tenant.call("POST", "/events/batch", {"events": [event] * 5})
    if answer.status == 503:
        assert int(answer.headers["retry-after"]) >= 1
        return False
    assert answer.status == 202, answer
    accepted += [one["id"] for one in answer.json()["results"]]
    return True


def test_a_full_disk_loses_and_repeats_nothing(
    small_disk: Path, server_on_it: NewServer, receiver: Receiver
) -> None:
    server = server_on_it(disk_reserve_mb=RESERVE_MIB).start()
    tenant = server.tenant("full")
    slow = in_turn(reply(after_seconds=0.05))
    tenant.channel(receiver.url("/hook", slow), max_in_flight=4)
    accepted: list[str] = []
    while publish(tenant, accepted):
        assert len(accepted) < EVENTS_MAX, "it never fills up"
    assert len(accepted) * EVENT_BYTES > 1 << 20
    full_until = time.monotonic() + FULL_SECONDS
    while time.monotonic() < full_until:
        publish(tenant, accepted)
        time.sleep(0.05)
    meanwhile = Counter(receipt.event_id for receipt in receiver.at())
    assert max(meanwhile.values()) == 1, "an event arrived twice while the disk was full"
    disk = os.statvfs(small_disk)
    assert disk.f_bavail * disk.f_frsize < 2 * RESERVE_MIB << 20
    grow = ["mount", "-o", f"remount,size={GROWN_MIB}m", str(small_disk)]
    subprocess.run(grow, check=True)
    until(lambda: publish(tenant, accepted), "publishing goes on", HEALED_SECONDS_MAX)
    receiver.wait(len(accepted), seconds=120)
    until(lambda: not list(tenant.all("/deliveries", status="waiting")), "all are settled", 60)
    arrived = Counter(receipt.event_id for receipt in receiver.at())
    assert set(arrived) == set(accepted)
    assert max(arrived.values()) == 1
    assert server.stop() == 0
    with closing(sqlite3.connect(small_disk / "tocsin.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        states = database.execute("SELECT DISTINCT status FROM deliveries").fetchall()
        assert states == [("delivered",)]

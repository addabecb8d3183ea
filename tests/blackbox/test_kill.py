"""kill -9 under load: what was acknowledged is delivered, and hardly anything twice."""

import asyncio
import itertools
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Set
from pathlib import Path

import pytest
from msgspec import Struct
from tests.blackbox.conftest import NewServer
from tests.blackbox.load import Load, asks
from tests.blackbox.receiver import Receipt, Receiver, always, reply
from tests.blackbox.server import Server, Tenant, until
from tests.blackbox.stalls import Stalls

CONNECTIONS = 16
IN_FLIGHT_MAX = 1_000
FAST, SLOW = "/fast", "/slow"
SLOW_REPLY_SECONDS = 0.5
SLOW_EVERY = 20
# Beyond twice as long as the machine has stood still by itself.
RESUME_SECONDS_MAX = 5.0
# How far from the kill the first receipt of something in flight may be, beyond the same: replies
# take a moment, and what stood in a socket's buffer at the kill is received a little later.
LATE_SECONDS = 1.0


class Kill(Struct, frozen=True):
    """When the process died, and when the next one said it was ready."""

    at: float
    ready_at: float


def check_integrity(server: Server, copy: Path) -> None:
    """What the dead process left is a sound database; looked at in a copy, the WAL included."""
    if server.store != "sqlite":
        return
    copy.mkdir()
    for file in server.data_dir.glob("tocsin.db*"):
        if not file.name.endswith("-shm"):
            shutil.copy(file, copy)
    database = sqlite3.connect(copy / "tocsin.db")
    try:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        database.close()


def check_duplicates(receipts: Iterable[Receipt], kills: list[Kill], late_seconds: float) -> int:
    """Each delivery came once, or once more for each kill it was in flight at; returns how many."""
    by_delivery: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_delivery[receipt.delivery_id].append(receipt)
    again = [0] * len(kills)
    for found in by_delivery.values():
        for before, after in itertools.pairwise(found):
            straddled = [
                number
                for number, kill in enumerate(kills)
                if abs(before.at - kill.at) < late_seconds and after.at > kill.at
            ]
            assert straddled, f"{before.delivery_id} came again without a kill in between"
            assert len({before.event_id, after.event_id}) == 1
            again[straddled[-1]] += 1
    assert all(count <= IN_FLIGHT_MAX for count in again), again
    return sum(again)


def check_resumed(
    receipts: Iterable[Receipt], accepted: dict[int, float], kill: Kill, resume_seconds: float
) -> None:
    """What was accepted before the kill and not through is on its way again soon."""
    again = [
        receipt.at
        for receipt in receipts
        if receipt.at > kill.at + LATE_SECONDS / 4
        and accepted.get(receipt.json()["data"]["number"], kill.at) < kill.at
    ]
    assert again, "nothing was in flight at the kill: the test shows nothing"
    assert min(again) <= kill.ready_at + resume_seconds


async def publish_through_kills(
    tenant: Tenant, receiver: Receiver, load: Load, *, count: int, kills: int
) -> list[Kill]:
    server = tenant.server
    tenant.channel(receiver.url(FAST), event_types=["load.*"])
    slow = always(reply(after_seconds=SLOW_REPLY_SECONDS))
    tenant.channel(receiver.url(SLOW, slow), event_types=["slow.*"])
    done: list[Kill] = []
    publishing = asyncio.create_task(
        load.run(asks(tenant, count, slow_every=SLOW_EVERY), CONNECTIONS)
    )
    for number in range(1, kills + 1):
        await load.reached(count * number // (kills + 1))
        load.up.clear()
        at = server.kill()
        copy = server.data_dir.parent / f"copy-{number}"
        await asyncio.to_thread(check_integrity, server, copy)
        await asyncio.to_thread(server.start)
        done.append(Kill(at, server.ready_at))
        load.up.set()
    await publishing
    return done


def numbers(receipts: Iterable[Receipt]) -> set[int]:
    return {receipt.json()["data"]["number"] for receipt in receipts}


def wait_for_all(receiver: Receiver, path: str, due: Set[int], seconds: float) -> None:
    receiver.wait_for(
        lambda found: len(found) >= len(due) and due <= numbers(found), path, seconds=seconds
    )


def kill_under_load(
    new_server: NewServer,
    receiver: Receiver,
    *,
    count: int,
    kills: int,
    seconds: float,
    store: str = "sqlite",
) -> None:
    server = new_server(store=store).start()
    tenant = server.tenant("platform")
    load = Load(server)
    with Stalls(server.data_dir.parent) as stalls:
        done = asyncio.run(publish_through_kills(tenant, receiver, load, count=count, kills=kills))
        check_arrived(receiver, load, seconds)
    assert not load.refused, set(load.refused.values())
    # What was on its way when the server died, and no more, is unknown to the publishers.
    assert load.unknown <= kills * CONNECTIONS * 5
    assert len(load.accepted) == count - load.unknown
    receipts = [*receiver.at(FAST), *receiver.at(SLOW)]
    still = 2 * stalls.longest
    check_duplicates(receipts, done, LATE_SECONDS + still)
    for kill in done:
        check_resumed(receipts, load.accepted, kill, RESUME_SECONDS_MAX + still)
    check_log(server, tenant, receiver)


def check_arrived(receiver: Receiver, load: Load, seconds: float) -> None:
    slow = {number for number in load.accepted if number % SLOW_EVERY == 0}
    wait_for_all(receiver, SLOW, slow, seconds)
    wait_for_all(receiver, FAST, load.accepted.keys() - slow, seconds)
    receipts = [*receiver.at(FAST), *receiver.at(SLOW)]
    assert numbers(receipts) >= load.accepted.keys()


def check_log(server: Server, tenant: Tenant, receiver: Receiver) -> None:
    """The log knows of all that came, and a last good stop leaves a sound database."""

    def states() -> dict[str, str] | None:
        found = {one["id"]: one["status"] for one in tenant.all("/deliveries")}
        # What came a moment ago may not be recorded yet, and some comes once more.
        return None if {"sending", "waiting"} & set(found.values()) else found

    found = until(states, "everything recorded", seconds=180)
    receipts = [*receiver.at(FAST), *receiver.at(SLOW)]
    assert found.keys() == {receipt.delivery_id for receipt in receipts}
    assert set(found.values()) == {"delivered"}
    assert server.stop() == 0, server.said()
    check_integrity(server, server.data_dir.parent / "copy-last")


def test_kill_under_load(new_server: NewServer, receiver: Receiver) -> None:
    kill_under_load(new_server, receiver, count=2_000, kills=2, seconds=180)


@pytest.mark.long
def test_kill_under_load_on_postgres(new_server: NewServer, receiver: Receiver) -> None:
    """The same promises: the next process of a data directory knows who was there before."""
    kill_under_load(new_server, receiver, count=2_000, kills=2, seconds=180, store="postgres")


@pytest.mark.long
def test_kill_under_more_load(new_server: NewServer, receiver: Receiver) -> None:
    kill_under_load(new_server, receiver, count=20_000, kills=4, seconds=300)

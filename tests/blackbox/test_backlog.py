"""A disabled channel with much behind it is enabled: the oldest goes first, and soon."""

import itertools
import time

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver

WAITING = 20_000
BATCH = 500
FIRST_SECONDS_MAX = 30.0
PER_SECOND_MAX = 50
PATH = "/back"


@pytest.mark.long
@pytest.mark.alone
def test_a_backlog_drains_oldest_first_beside_new_events(
    new_server: NewServer, receiver: Receiver
) -> None:
    server = new_server().start()
    tenant = server.tenant("away")
    channel = tenant.channel(receiver.url(PATH), enabled=False)
    numbers = itertools.count()
    for _ in range(WAITING // BATCH):
        tenant.publish_batch(
            [{"type": "old.one", "data": {"number": next(numbers)}} for _ in range(BATCH)]
        )
    began = time.monotonic()
    tenant.change(channel["id"], enabled=True)
    new = 0
    while time.monotonic() - began < FIRST_SECONDS_MAX / 2:
        tenant.publish_batch([{"type": "new.one", "data": {"number": new + n}} for n in range(100)])
        new += 100
    old = [one for one in receiver.at(PATH) if one.json()["type"] == "old.one"]
    seconds = time.monotonic() - began
    assert old, "nothing of the backlog came"
    assert old[0].at - began < FIRST_SECONDS_MAX
    came = [one.json()["data"]["number"] for one in old]
    # Few at once, and those that are may overtake each other; no further than that.
    assert all(abs(number - place) < 100 for place, number in enumerate(came))
    assert len(came) <= seconds * PER_SECOND_MAX + 2 * PER_SECOND_MAX
    receiver.wait_for(
        lambda found: sum(one.json()["type"] == "new.one" for one in found) >= new,
        PATH,
        seconds=60,
    )
    assert server.stop() == 0, server.said()

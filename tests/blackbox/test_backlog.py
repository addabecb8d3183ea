"""A disabled channel with much behind it is enabled under load: the oldest goes first, and soon.

20,000 take 400 s at 50 a second; unless everything is asked for fewer wait.
"""

import bisect
import os
import threading
import time
from collections.abc import Sequence

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receipt, Receiver, always, reply
from tests.blackbox.server import Tenant
from tests.blackbox.stalls import Stalls

WAITING = 20_000 if os.environ.get("TOCSIN_TEST_EVERYTHING") else 750
BATCH = 250
PATH, BUSY = "/back", "/busy"
REPLY_SECONDS = 0.05
# Each beyond twice as long as the machine has stood still by itself.
FIRST_SECONDS_MAX = 30.0
DRAINED_SECONDS_MAX = WAITING / 25 + 60.0
PER_SECOND_MAX = 50
AHEAD_MAX = 100
GAUGE_SECONDS = 2.0
LOAD = 0.8
LOAD_SECONDS = 15.0
LOAD_BATCH = 50
NEW = 100


class Busy(threading.Thread):
    """Somebody else, who publishes with so much of what can be published and delivered here."""

    def __init__(self, tenant: Tenant, receiver: Receiver) -> None:
        super().__init__(name="busy")
        self._tenant = tenant
        self._receiver = receiver
        tenant.channel(receiver.url(BUSY))
        self._batch = [{"type": "busy.one", "data": number} for number in range(LOAD_BATCH)]
        self._every_seconds = self._gauge() / LOAD

    def _gauge(self) -> float:
        """How long a batch takes, one after the other, until it is delivered."""
        began = time.monotonic()
        batches = 0
        while time.monotonic() - began < GAUGE_SECONDS:
            self._tenant.publish_batch(self._batch)
            batches += 1
        self._receiver.wait(batches * LOAD_BATCH, BUSY)
        return (time.monotonic() - began) / batches

    def run(self) -> None:
        ends = time.monotonic() + LOAD_SECONDS
        due = time.monotonic()
        while due < ends:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._every_seconds, time.monotonic())
            self._tenant.publish_batch(self._batch)


def of(receiver: Receiver, type: str) -> list[Receipt]:
    """What has come to the channel of one kind."""
    return [one for one in receiver.at(PATH) if one.json()["type"] == type]


def numbers(receipts: Sequence[Receipt]) -> list[int]:
    return [one.json()["data"]["number"] for one in receipts]


def most_in_flight(moments: Sequence[float]) -> int:
    """The most that were in flight; each success may have doubled it, from 1 on."""
    most = 0
    for place, at in enumerate(moments):
        # A reply is written so long after its request, or later: of these, none too few.
        answered = bisect.bisect_right(moments, at - REPLY_SECONDS)
        in_flight = place + 1 - answered
        assert answered > 10 or in_flight <= 1 << answered, (in_flight, answered)
        most = max(most, in_flight)
    return most


@pytest.mark.long
@pytest.mark.alone
def test_a_backlog_drains_oldest_first_beside_new_events(
    new_server: NewServer, receiver: Receiver
) -> None:
    server = new_server().start()
    tenant = server.tenant("away")
    slow = always(reply(after_seconds=REPLY_SECONDS))
    channel = tenant.channel(receiver.url(PATH, slow), enabled=False)
    for first in range(0, WAITING, BATCH):
        tenant.publish_batch(
            [{"type": "old.one", "data": {"number": first + n}} for n in range(BATCH)]
        )
    busy = Busy(server.tenant("busy"), receiver)
    with Stalls(server.data_dir.parent) as stalls:
        busy.start()
        began = time.monotonic()
        tenant.change(channel["id"], enabled=True)
        tenant.publish_batch([{"type": "new.one", "data": {"number": n}} for n in range(NEW)])
        receiver.wait_for(
            lambda found: len(found) >= WAITING + NEW, PATH, seconds=DRAINED_SECONDS_MAX
        )
        busy.join()
        still = 2 * stalls.longest
    old = of(receiver, "old.one")
    assert old[0].at - began < FIRST_SECONDS_MAX + still
    came = numbers(old)
    assert sorted(came) == list(range(WAITING))
    assert sorted(numbers(of(receiver, "new.one"))) == list(range(NEW))
    # Few at once, and those that are may overtake each other; no further than that.
    assert all(abs(number - place) < AHEAD_MAX for place, number in enumerate(came))
    # Five go every tenth of a second, and what is in flight in the end may have been held up.
    seconds = old[-1].at - old[0].at + still + 1
    assert len(old) <= seconds * PER_SECOND_MAX + AHEAD_MAX
    assert most_in_flight([one.at for one in receiver.at(PATH)]) > 1
    assert server.stop() == 0, server.said()

"""An ordered channel through failures and kills: first successes come in the order of the 202s."""

import http.client
import itertools
import os
import threading
from collections import Counter
from contextlib import suppress

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Answer, Receipt, Receiver, reply
from tests.blackbox.server import Server, Tenant, until

COUNT_LONG = 5_000 if os.environ.get("TOCSIN_TEST_EVERYTHING") else 1_000
REPLY_SECONDS = 0.004
PATH = "/in-order"


class Target:
    """Answers each event with 500 so many times first, as its number says; notes successes."""

    def __init__(self, fails_every: int, fails: int) -> None:
        self._every = fails_every
        self._fails = fails
        self._failed: Counter[int] = Counter()
        self.successes: list[int] = []

    def __call__(self, _: int, receipt: Receipt) -> Answer:
        number = receipt.json()["data"]["number"]
        if number % self._every == self._every - 1 and self._failed[number] < self._fails:
            self._failed[number] += 1
            return reply(500, after_seconds=REPLY_SECONDS)
        self.successes.append(number)
        return reply(after_seconds=REPLY_SECONDS)


class Publisher(threading.Thread):
    """Publishes one event after the other, each when the one before has its 202."""

    def __init__(self, tenant: Tenant, count: int) -> None:
        super().__init__()
        self._tenant = tenant
        self._count = count
        self.accepted = 0
        self.up = threading.Event()
        self.up.set()

    def run(self) -> None:
        for number in range(self._count):
            while not self._published(number):
                self.up.wait(60)
            self.accepted = number + 1

    def _published(self, number: int) -> bool:
        body = {"type": "a.b", "data": {"number": number}, "idempotency_key": str(number)}
        # Before it was killed it may have accepted the event: the key tells.
        with suppress(OSError, http.client.HTTPException, AssertionError):
            return self._tenant.call("POST", "/events", body).status == 202
        return False


def publish_through_kills(
    server: Server, target: Target, publisher: Publisher, *, count: int, kills: int
) -> list[float]:
    killed: list[float] = []
    publisher.start()
    for number in range(1, kills + 1):
        wanted = count * number // (kills + 1)
        until(lambda wanted=wanted: len(target.successes) >= wanted, "some sent", seconds=300)  # type: ignore[misc]
        publisher.up.clear()
        killed.append(server.kill())
        server.start()
        publisher.up.set()
    publisher.join(600)
    assert publisher.accepted == count
    return killed


def keep_order(
    new_server: NewServer,
    receiver: Receiver,
    *,
    count: int,
    fails_every: int,
    fails: int,
    kills: int,
) -> None:
    server = new_server().start()
    tenant = server.tenant("in-order")
    target = Target(fails_every, fails)
    retry = {"schedule": ["1s"] * 5}
    tenant.channel(receiver.url(PATH, target), ordered=True, breaker=None, retry=retry)
    publisher = Publisher(tenant, count)
    killed = publish_through_kills(server, target, publisher, count=count, kills=kills)
    until(lambda: len(set(target.successes)) == count, "all of them", seconds=300)
    first = list(dict.fromkeys(target.successes))
    assert first == list(range(count))
    # Whatever came twice was in flight at a kill.
    assert len(target.successes) - count <= kills
    for before, after in itertools.pairwise(receiver.at(PATH)):
        apart = after.at - before.at >= REPLY_SECONDS * 0.9
        assert apart or any(before.at - 1 <= at <= after.at for at in killed), "two in flight"
    assert server.stop() == 0, server.said()


def test_the_order_is_kept(new_server: NewServer, receiver: Receiver) -> None:
    keep_order(new_server, receiver, count=80, fails_every=40, fails=1, kills=1)


@pytest.mark.long
def test_the_order_is_kept_through_kills(new_server: NewServer, receiver: Receiver) -> None:
    keep_order(new_server, receiver, count=COUNT_LONG, fails_every=50, fails=2, kills=3)

"""Recover through a kill -9: all that failed arrives, and each delivery is re-opened once."""

from collections import Counter

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import until

COUNT = 1_500
SECONDS_MAX = 300.0
PATH = "/was-away"
EVER = "2020-01-01T00:00:00Z"


@pytest.mark.long
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_nothing_is_missed_or_repeated(
    new_server: NewServer, receiver: Receiver, store: str
) -> None:
    server = new_server(store=store).start()
    tenant = server.tenant("was-away")
    url = receiver.url(PATH, always(reply(500)))
    channel = tenant.channel(url, retry={"schedule": []}, breaker=None)
    for _ in range(COUNT // 500):
        tenant.publish_batch([{"type": "a.b", "data": number} for number in range(500)])

    def all_given_up() -> bool:
        return sum(1 for _ in tenant.all("/deliveries", status="exhausted")) == COUNT

    until(all_given_up, "every delivery is given up", SECONDS_MAX)
    before = len(receiver.at(PATH))
    # What waits for it keeps the job from running through before the process dies.
    tenant.change(channel["id"], enabled=False)
    receiver.behave(PATH, always(reply(204)))
    began = tenant.call("POST", f"/channels/{channel['id']}/recover", {"since": EVER})
    assert began.status == 202, began
    path = f"/jobs/{began.json()['id']}"
    until(lambda: tenant.get(path)["done"] == 1_000, "the job is half through", SECONDS_MAX)
    server.kill()
    server.start()
    job = tenant.get(path)
    assert (job["status"], job["done"], job["total"]) == ("running", 1_000, COUNT)
    tenant.change(channel["id"], enabled=True, backlog="cancel")
    until(lambda: tenant.get(path)["status"] == "done", "the job ends", SECONDS_MAX)
    job = tenant.get(path)
    assert (job["done"], job["total"]) == (COUNT, COUNT)
    dropped = sum(1 for _ in tenant.all("/deliveries", status="cancelled"))
    assert dropped == 1_000
    found = receiver.wait(before + COUNT - dropped, PATH, seconds=SECONDS_MAX)
    again = Counter(receipt.delivery_id for receipt in found[before:])
    assert len(again) == COUNT - dropped
    assert set(again.values()) == {1}
    assert {receipt.attempt for receipt in found[before:]} == {2}
    assert server.stop() == 0, server.said()

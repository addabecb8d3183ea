"""What becomes of deliveries that don't get through: retry, hold, park, drain, cancel."""

from tests.blackbox.receiver import OK, Receiver, always, in_turn, reply
from tests.blackbox.server import Tenant, until

FAILING = reply(500, b"not today")
TWICE = {"schedule": ["1s", "1s"]}
IN_AN_HOUR = {"schedule": ["1h"]}


def test_a_failing_target_is_asked_again(tenant: Tenant, receiver: Receiver) -> None:
    script = in_turn(FAILING, FAILING, reply())
    channel = tenant.channel(receiver.url(script=script), retry=TWICE)
    event = tenant.publish(data=1)
    first, second, third = receiver.wait(3)
    assert [r.attempt for r in (first, second, third)] == [1, 2, 3]
    assert {r.event_id for r in (first, second, third)} == {event["id"]}
    assert len({r.body for r in (first, second, third)}) == 1
    for gap in (second.at - first.at, third.at - second.at):
        assert gap >= 0.75
    delivery = tenant.settled(event["id"], "delivered")
    assert delivery["attempt_count"] == 3
    attempts = tenant.attempts(delivery["id"])
    assert [a["outcome"] for a in attempts] == ["retry", "retry", "delivered"]
    assert [a["status_code"] for a in attempts] == [500, 500, 204]
    assert attempts[0]["response_body"] == "not today"
    state = tenant.get(f"/channels/{channel['id']}")
    assert (state["error_count"], state["last_error"], state["status"]) == (0, None, "active")


def test_a_schedule_ends(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url(script=always(FAILING)), retry={"schedule": []})
    event = tenant.publish(data=1)
    delivery = tenant.settled(event["id"], "exhausted")
    assert (delivery["attempt_count"], delivery["last_status_code"]) == (1, 500)
    assert delivery["finished_at"] is not None
    state = tenant.get(f"/channels/{channel['id']}")
    assert state["error_count"] == 1
    assert state["last_error"]


def test_a_delivery_can_be_retried_by_hand(tenant: Tenant, receiver: Receiver) -> None:
    script = in_turn(FAILING, reply())
    tenant.channel(receiver.url(script=script), retry={"schedule": []})
    event = tenant.publish(data=1)
    delivery = tenant.settled(event["id"], "exhausted")
    again = tenant.call("POST", f"/deliveries/{delivery['id']}/retry")
    assert again.status == 202, again
    assert again.json()["id"] == delivery["id"]
    tenant.settled(event["id"], "delivered")
    assert [r.attempt for r in receiver.at()] == [1, 2]


def test_gone_disables_and_parks_until_enabled(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url(script=always(reply(410))), retry=IN_AN_HOUR)
    first = tenant.publish(data=1)
    path = f"/channels/{channel['id']}"
    until(lambda: tenant.get(path)["status"] == "disabled", "410 disables")
    assert tenant.get(path)["disabled_reason"]
    second = tenant.publish(data=2)
    for event in (first, second):
        delivery = tenant.settled(event["id"], "waiting")
        assert delivery["waiting_for"] == "channel_disabled"
        assert delivery["next_attempt_at"] is None
    (delivery,) = tenant.deliveries(first["id"])
    assert [a["outcome"] for a in tenant.attempts(delivery["id"])] == ["gone"]
    assert len(receiver.at()) == 1
    receiver.behave("/hook", OK)
    assert tenant.change(channel["id"], enabled=True)["status"] == "active"
    for event in (first, second):
        tenant.settled(event["id"], "delivered")
    assert sorted(r.json()["data"] for r in receiver.at()) == [1, 1, 2]


def test_retry_after_holds_the_whole_channel(tenant: Tenant, receiver: Receiver) -> None:
    script = in_turn(reply(429, retry_after="3"), reply())
    tenant.channel(receiver.url(script=script), retry=TWICE)
    held = tenant.publish(data="held")
    (refused,) = receiver.wait(1)
    tenant.settled(held["id"], "waiting")
    behind = [tenant.publish(data=n) for n in range(5)]
    receipts = receiver.wait(7)
    assert min(r.at for r in receipts[1:]) >= refused.at + 2.9
    for event in (held, *behind):
        tenant.settled(event["id"], "delivered")
    assert len(receiver.at()) == 7


def test_a_disabled_channel_parks_and_drains(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url())
    tenant.change(channel["id"], enabled=False)
    events = [tenant.publish(data=n) for n in range(10)]
    for event in events:
        delivery = tenant.settled(event["id"], "waiting")
        assert delivery["waiting_for"] == "channel_disabled"
    assert receiver.at() == []
    tenant.change(channel["id"], enabled=True)
    receipts = receiver.wait(10)
    assert sorted(r.json()["data"] for r in receipts) == list(range(10))
    for event in events:
        tenant.settled(event["id"], "delivered")
    assert len(receiver.at()) == 10


def test_a_backlog_can_be_cancelled(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url(), enabled=False)
    events = [tenant.publish(data=n) for n in range(3)]
    tenant.change(channel["id"], enabled=True, backlog="cancel")
    last = tenant.publish(data="last")
    tenant.settled(last["id"], "delivered")
    for event in events:
        assert tenant.settled(event["id"], "cancelled")["attempt_count"] == 0
    assert [r.event_id for r in receiver.at()] == [last["id"]]


def test_deleting_a_channel_cancels_what_waits(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url(script=always(FAILING)), retry=IN_AN_HOUR)
    event = tenant.publish(data=1)
    receiver.wait(1)
    delivery = tenant.settled(event["id"], "waiting")
    assert delivery["waiting_for"] == "retry"
    gone = tenant.call("DELETE", f"/channels/{channel['id']}")
    assert gone.status == 204, gone
    tenant.settled(event["id"], "cancelled")
    assert tenant.call("GET", f"/channels/{channel['id']}").status == 404
    # Its history stays readable.
    assert len(tenant.attempts(delivery["id"])) == 1
    assert tenant.publish(data=2)["unmatched"] == "no_channel"


def test_a_change_counts_from_its_answer_on(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url("/old"))
    tenant.publish(data=1)
    receiver.wait(1, "/old")
    for number in range(20):
        path = f"/new-{number}"
        tenant.change(channel["id"], settings={"url": receiver.url(path)})
        event = tenant.publish(data=number)
        (receipt,) = receiver.wait(1, path)
        assert receipt.event_id == event["id"]
    assert len(receiver.at("/old")) == 1

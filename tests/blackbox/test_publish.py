"""Publish to delivered, through the front door, checked by two libraries we did not write."""

import pytest
import standardwebhooks
import svix
from tests.blackbox.receiver import Receipt, Receiver
from tests.blackbox.server import Tenant


def verify(receipt: Receipt, secret: str) -> None:
    """Raises unless both foreign verifiers accept the delivery."""
    standardwebhooks.Webhook(secret).verify(receipt.body, receipt.headers)
    svix.Webhook(secret).verify(receipt.body, receipt.headers)


def test_one_event_is_delivered_and_verifies(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url())
    event = tenant.publish("build.created", {"build": 7, "name": "grün"})
    assert event["deliveries"] == 1
    assert not event["duplicate"]
    assert event["unmatched"] is None
    (receipt,) = receiver.wait(1)
    verify(receipt, channel["secret"])
    assert receipt.event_id == event["id"]
    assert receipt.attempt == 1
    assert receipt.headers["user-agent"].startswith("Tocsin/")
    body = receipt.json()
    assert body["id"] == event["id"]
    assert body["type"] == "build.created"
    assert body["data"] == {"build": 7, "name": "grün"}
    assert body["organization"] == tenant.organization
    delivery = tenant.settled(event["id"], "delivered")
    assert delivery["id"] == receipt.delivery_id
    (attempt,) = tenant.attempts(delivery["id"])
    assert (attempt["number"], attempt["outcome"], attempt["status_code"]) == (1, "delivered", 204)
    assert tenant.get(f"/channels/{channel['id']}")["last_sent_at"] is not None


def test_a_changed_body_does_not_verify(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url())
    tenant.publish(data=1)
    (receipt,) = receiver.wait(1)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(channel["secret"]).verify(receipt.body + b" ", receipt.headers)


def test_a_batch_is_delivered_event_by_event(tenant: Tenant, receiver: Receiver) -> None:
    channel = tenant.channel(receiver.url(), event_types=["build.*"])
    events = [{"type": "build.created", "data": n} for n in range(100)]
    events[50] = {"type": "no good", "data": 50}
    events[51] = {"type": "other.thing", "data": 51}
    results = tenant.publish_batch(events)
    assert results[50]["error"]["code"] == "validation_failed"
    assert results[51]["unmatched"] == "no_type"
    receipts = receiver.wait(98)
    for receipt in receipts:
        verify(receipt, channel["secret"])
    wanted = {r["id"]: n for n, r in enumerate(results) if n not in (50, 51)}
    assert {r.event_id: r.json()["data"] for r in receipts} == wanted
    assert len(receipts) == 98


def test_a_key_makes_an_event_happen_once(tenant: Tenant, receiver: Receiver) -> None:
    tenant.channel(receiver.url())
    first = tenant.publish(data=1, idempotency_key="order-1")
    again = tenant.publish(data=1, idempotency_key="order-1")
    other = tenant.publish(data=2, idempotency_key="order-1")
    assert (again["id"], again["duplicate"], again["mismatch"]) == (first["id"], True, False)
    assert (other["id"], other["duplicate"], other["mismatch"]) == (first["id"], True, True)
    last = tenant.publish(data=3)
    receipts = receiver.wait_for(lambda found: any(r.event_id == last["id"] for r in found))
    assert sorted(r.event_id for r in receipts) == sorted([first["id"], last["id"]])


def test_a_delivery_can_not_come_back_as_an_event(tenant: Tenant) -> None:
    reply = tenant.server.call(
        "POST",
        f"{tenant.root}/events",
        {"type": "a.b", "data": 1},
        token=tenant.key,
        headers={"tocsin-delivery": "0" * 24},
    )
    assert reply.status == 400
    assert reply.json()["code"] == "loop"


def test_organizations_do_not_hear_each_other(tenant: Tenant, receiver: Receiver) -> None:
    other = tenant.server.tenant(f"beside-{tenant.organization[-12:]}")
    tenant.channel(receiver.url("/mine"))
    other.channel(receiver.url("/theirs"))
    tenant.publish(data="mine")
    other.publish(data="theirs")
    (mine,) = receiver.wait(1, "/mine")
    (theirs,) = receiver.wait(1, "/theirs")
    assert (mine.json()["data"], theirs.json()["data"]) == ("mine", "theirs")
    reply = other.call("GET", f"/deliveries/{mine.delivery_id}")
    assert reply.status == 404, reply

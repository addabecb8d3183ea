"""Targets that answer with whatever may hurt, beside a healthy one of another organization."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from msgspec import Struct
from tests.blackbox.receiver import HANG, Answer, Receiver, always, reply
from tests.blackbox.server import Server, Tenant

EVENTS_PER_CASE = 4
HEALTHY_EVENTS = 300
# One second, less its jitter of 20 %, and less what two clocks may differ.
RETRY_GAP_SECONDS_MIN = 0.75

MIB = 1 << 20
LATER = "99999999999999999999"
SURPLUS = reply(500, b"surplus").data


class Case(Struct, frozen=True):
    """How a target behaves, and what must become of a delivery to it."""

    answer: Answer
    status: str
    attempts: int
    error: str | None = None
    alone: bool = False
    """Whether it has an address of its own. A request on a connection that served others before
    and closes without a byte is sent once more at once: it may have crossed with the close."""


def delivered(answer: Answer) -> Case:
    return Case(answer, "delivered", 1)


def exhausted(answer: Answer, error: str, *, alone: bool = False) -> Case:
    return Case(answer, "exhausted", 2, error, alone)


CASES = {
    "nul-in-a-good-reply": delivered(reply(200, b"\0\0ok\0")),
    "bad-utf8-in-a-good-reply": delivered(reply(200, b"\xff\xfe\xc3\x28\xed\xa0\x80")),
    "nul-and-bad-utf8": exhausted(reply(500, b"a\0b\xff\xfe\xed\xa0\x80"), "http_status"),
    "status-999": exhausted(Answer(b"HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n"), "bad_reply"),
    "status-099": exhausted(Answer(b"HTTP/1.1 099 No\r\ncontent-length: 0\r\n\r\n"), "bad_reply"),
    "not-http": exhausted(Answer(b"\0\xff garbage\r\n\r\n", then="close"), "bad_reply"),
    "large-good-reply": delivered(reply(200, b"x" * MIB)),
    "large-bad-reply": exhausted(reply(500, b"\xff\0" * (MIB // 2)), "http_status"),
    "large-head": exhausted(reply(200, x=("y" * 60_000)), "bad_reply"),
    "reset-inside-a-good-body": delivered(
        Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf", then="reset")
    ),
    "reset-inside-a-bad-body": exhausted(
        Answer(b"HTTP/1.1 500 No\r\ncontent-length: 1000\r\n\r\nha\0lf", then="reset"),
        "http_status",
    ),
    "closed-without-a-reply": exhausted(Answer(b"", then="close"), "connection_reset", alone=True),
    "reset-without-a-reply": exhausted(Answer(b"", then="reset"), "connection_reset", alone=True),
    "surplus-reply": delivered(Answer(reply(200, b"ok").data + SURPLUS)),
    "half-a-surplus-reply": delivered(Answer(reply(200, b"ok").data + SURPLUS[:20])),
    "surplus-after-no-content": delivered(Answer(reply(204).data + SURPLUS)),
    "redirect": exhausted(reply(302, location="http://127.0.0.1:1/"), "http_status"),
    "no-retry-after-at-all": exhausted(reply(500, retry_after="soon \xff"), "http_status"),
    "hang": exhausted(HANG, "timeout"),
}

HELD = {
    "later-500": Case(reply(500, retry_after=LATER), "waiting", 1, "http_status"),
    "later-503": Case(reply(503, retry_after=LATER), "waiting", 1, "http_status"),
    "later-429": Case(reply(429, retry_after=LATER), "waiting", 1, "http_status"),
}


class Hostile(Struct, frozen=True):
    """One hostile target with its channel and events."""

    name: str
    case: Case
    receiver: Receiver
    event_ids: list[str]


def aim(tenant: Tenant, receiver: Receiver, name: str, case: Case) -> Hostile:
    tenant.channel(
        receiver.url(f"/{name}", always(case.answer)),
        event_types=[f"hostile.{name}"],
        retry={"schedule": ["1s"]},
        timeout_seconds=2 if case.error == "timeout" else 30,
        breaker=None,
    )
    return Hostile(name, case, receiver, [])


def check(tenant: Tenant, hostile: Hostile) -> None:
    """Every delivery ended as it must, and came as often as its attempts say, no sooner."""
    case = hostile.case
    for event_id in hostile.event_ids:
        delivery = tenant.settled(event_id, case.status)
        attempts = tenant.attempts(delivery["id"])
        assert len(attempts) == delivery["attempt_count"] == case.attempts, (hostile.name, attempts)
        for number, attempt in enumerate(attempts, 1):
            assert attempt["number"] == number
            check_attempt(case, attempt)
        came = hostile.receiver.at(f"/{hostile.name}")
        receipts = [r for r in came if r.delivery_id == delivery["id"]]
        assert [r.attempt for r in receipts] == list(range(1, case.attempts + 1)), hostile.name
        assert {r.event_id for r in receipts} == {event_id}
        for before, after in itertools.pairwise(receipts):
            assert after.at - before.at >= RETRY_GAP_SECONDS_MIN, hostile.name


def check_attempt(case: Case, attempt: dict[str, Any]) -> None:
    body = attempt["response_body"]
    if body is not None:
        assert "\0" not in body
        assert len(body.encode()) <= 4_096 * 3
    if case.error is None:
        assert (attempt["outcome"], attempt["error"]) == ("delivered", None)
    else:
        assert attempt["outcome"] == "retry"
        assert attempt["error"].startswith(case.error), attempt


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


@pytest.mark.long
def test_hostile_targets_beside_a_healthy_one(
    tenant: Tenant, service: Server, receiver: Receiver, stack: ExitStack
) -> None:
    healthy = service.tenant(f"healthy-{tenant.organization[-12:]}")
    healthy.channel(receiver.url("/healthy"))
    hostile = []
    for name, case in CASES.items():
        target = stack.enter_context(Receiver()) if case.alone else receiver
        hostile.append(aim(tenant, target, name, case))
    good: list[str] = []
    for number in range(EVENTS_PER_CASE):
        for one in hostile:
            event = tenant.publish(f"hostile.{one.name}", number)
            assert event["deliveries"] == 1
            one.event_ids.append(event["id"])
            good.append(healthy.publish(data=number)["id"])
    while len(good) < HEALTHY_EVENTS:
        good.append(healthy.publish(data=len(good))["id"])
    receiver.wait(len(good), "/healthy")
    for one in hostile:
        check(tenant, one)
    # Now that every retry is over, the healthy channel still has had everything once.
    assert sorted(r.event_id for r in receiver.at("/healthy")) == sorted(good)
    assert {r.attempt for r in receiver.at("/healthy")} == {1}


@pytest.mark.parametrize("name", HELD)
def test_a_wait_without_end_is_a_day(tenant: Tenant, receiver: Receiver, name: str) -> None:
    case = HELD[name]
    hostile = aim(tenant, receiver, name, case)
    event = tenant.publish(f"hostile.{name}", 1)
    hostile.event_ids.append(event["id"])
    receiver.wait(1, f"/{name}")
    check(tenant, hostile)
    (delivery,) = tenant.deliveries(event["id"])
    assert delivery["waiting_for"] == "retry"
    assert delivery["next_attempt_at"][:10] > delivery["created_at"][:10]

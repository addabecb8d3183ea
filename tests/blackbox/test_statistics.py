"""Statistics of real deliveries, read through the front door."""

from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Tenant, until

SECONDS_MAX = 60.0

COUNTS = ("accepted", "attempts", "delivered", "failed", "exhausted")


def test_deliveries_and_failures_are_counted(tenant: Tenant, receiver: Receiver) -> None:
    good = tenant.channel(receiver.url())
    bad = tenant.channel("http://127.0.0.1:9/nobody", retry={"schedule": []}, breaker=None)
    events = [tenant.publish("a.b", n) for n in range(12)]
    receiver.wait(12)

    def ended() -> bool:
        statuses = {one["status"] for event in events for one in tenant.deliveries(event["id"])}
        return statuses == {"delivered", "exhausted"}

    until(ended, "every delivery is over", SECONDS_MAX)

    def sums(**query: str) -> list[int]:
        data = tenant.get("/stats", bucket="day", **query)["data"]
        return [sum(row[name] for row in data) for name in COUNTS]

    assert sums() == [12, 24, 12, 12, 12]
    assert sums(channel=good["id"]) == [0, 12, 12, 0, 0]
    assert sums(channel=bad["id"]) == [0, 12, 0, 12, 12]

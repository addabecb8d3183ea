"""What an operator's scrape says of a running service, and what it never says."""

import http.client
import random
import re
import socket
from contextlib import suppress

from prometheus_client.parser import text_string_to_metric_families
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server, Tenant, until

LABELS = {"channel_type", "code", "dialect", "le", "method", "operation", "outcome", "reason"}
LABELS |= {"status", "store", "version"}


def scrape(server: Server) -> str:
    reply = server.call("GET", "/metrics", token=server.operator_token)
    assert reply.status == 200, reply
    return reply.body.decode()


def value(text: str, name: str, **labels: str) -> float:
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def free_port() -> int:
    """One that no connection or listener of another test gets by chance: those are higher."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def test_what_is_delivered_is_counted(tenant: Tenant, receiver: Receiver) -> None:
    server = tenant.server
    before = scrape(server)
    tenant.channel(receiver.url(), event_types=["counted.*"])
    event = tenant.publish("counted.thing")
    assert tenant.publish("wanted.by.nobody")["unmatched"] is not None
    refused = tenant.call("POST", "/events", {"type": "tocsin.mine", "data": 1})
    assert refused.status == 400
    tenant.settled(event["id"], "delivered", seconds=60)

    def rose() -> bool:
        after = scrape(server)
        return all(
            value(after, name, **labels) >= value(before, name, **labels) + least
            for name, labels, least in (
                ("tocsin_events_accepted_total", {}, 2),
                ("tocsin_events_unmatched_total", {}, 1),
                ("tocsin_events_refused_total", {"code": "validation_failed"}, 1),
                ("tocsin_deliveries_created_total", {}, 1),
                ("tocsin_deliveries_finished_total", {"outcome": "delivered"}, 1),
                ("tocsin_attempts_total", {"channel_type": "webhook", "outcome": "delivered"}, 1),
                ("tocsin_attempt_duration_seconds_count", {"channel_type": "webhook"}, 1),
                ("tocsin_first_attempt_delay_seconds_count", {}, 1),
                ("tocsin_store_transactions_total", {"outcome": "committed"}, 2),
                ("tocsin_http_requests_total", {"dialect": "native", "method": "write"}, 3),
            )
        )

    until(rose, "all of it is counted", 60)
    text = scrape(server)
    assert value(text, "tocsin_ready") == value(text, "tocsin_recording") == 1
    assert value(text, "tocsin_build_info", store=server.store) == 1
    assert value(text, "process_resident_memory_bytes") > 0


def test_failures_are_counted_by_reason(tenant: Tenant, receiver: Receiver) -> None:
    server = tenant.server
    labels = {"channel_type": "webhook", "outcome": "retry", "reason": "connection_refused"}
    before = value(scrape(server), "tocsin_attempts_total", **labels)
    tenant.channel("http://127.0.0.1:9/")
    tenant.publish()
    until(
        lambda: value(scrape(server), "tocsin_attempts_total", **labels) > before,
        "the failed attempt is counted",
        60,
    )


def test_they_name_no_tenant_target_or_event(tenant: Tenant, receiver: Receiver) -> None:
    server = tenant.server
    channel = tenant.channel(receiver.url("/canary-path"), name="canary-name")
    event = tenant.publish("canary.type", {"canary": "canary-data"})
    delivery = tenant.settled(event["id"], "delivered", seconds=60)
    text = scrape(server)
    for known in (tenant.organization, tenant.key, channel["id"], channel["secret"]):
        assert known not in text
    for word in (event["id"], delivery["id"], "canary", "127.0.0.1", "localhost", "tenant-"):
        assert word not in text
    assert set(re.findall(r'[{,](\w+)="', text)) <= LABELS


def test_they_are_open_on_a_port_of_their_own(new_server: NewServer) -> None:
    port = free_port()
    server = new_server(metrics_port=port).start()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert b"\ntocsin_ready 1.0\n" in answer.read()
    connection.request("GET", "/api/docs")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 404
    connection.close()
    assert server.call("GET", "/metrics", token=None).status == 401
    assert server.stop() == 0, server.said()

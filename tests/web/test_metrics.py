"""`/metrics`: who may read it where, and that requests are counted."""

import asyncio
from typing import Any, cast

import pytest
from tests.telemetry.test_metrics import scraped
from tests.web.fakes import ACME, KEYS, OPERATOR, Client, Fake, application, services

from tocsin.telemetry.exposition import CONTENT_TYPE, Metrics
from tocsin.web.bare import metrics_site
from tocsin.web.server import HttpServer

pytestmark = pytest.mark.anyio

READ = (("dialect", "native"), ("method", "read"))
WRITE = (("dialect", "native"), ("method", "write"))
EVENTS = f"/api/v1/organizations/{ACME}/events"


@pytest.fixture
def fake() -> Fake:
    found = services(port=0)
    found.metrics = Metrics()
    return found


async def test_the_operator_reads_them(fake: Fake) -> None:
    call = Client(application(fake), OPERATOR)
    answer = await call("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == CONTENT_TYPE
    assert b"\n# TYPE tocsin_ready gauge\n" in answer.body
    assert (await call("HEAD", "/metrics")).status == 200
    refused = await call("POST", "/metrics")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("token", [None, "unknown", *(name for name in KEYS if name != OPERATOR)])
async def test_nobody_else_does(fake: Fake, token: str | None) -> None:
    answer = await Client(application(fake), token)("GET", "/metrics")
    assert answer.status == (403 if token in KEYS else 401)
    assert b"tocsin_" not in answer.body


async def test_requests_are_counted_by_dialect_and_status(fake: Fake) -> None:
    app = application(fake)
    fake.metrics.sources.append(app.counts.samples)
    call = Client(app, "admin")
    async with app.lifespan():
        assert (await call("GET", "/healthz")).status == 200
        assert (await call("GET", "/nothing")).status == 404
        assert (await call("POST", EVENTS, {"type": "a", "data": 1})).status == 202
        assert (await call("POST", EVENTS, {"type": "a"})).status == 400
        assert (await call("POST", EVENTS, {"type": "a", "data": 1}, token="viewer")).status == 403
        batch = {"events": [{"type": "a", "data": 1}, {"type": "a"}]}
        assert (await call("POST", EVENTS + "/batch", batch)).status == 202
        assert (await call("GET", "/v1/nothing")).status in (401, 404)
        assert (await call("GET", "/v1/organizations/nobody/nothing")).status == 404
    found = await scraped(fake.metrics)
    requests = found["tocsin_http_requests_total"]
    assert requests[(*READ, ("status", "2xx"))] == 1
    assert requests[(*READ, ("status", "4xx"))] == 1
    assert requests[(*WRITE, ("status", "2xx"))] == 2
    assert requests[(*WRITE, ("status", "4xx"))] == 2
    assert {dict(labels)["dialect"] for labels in requests} == {
        "native",
        "applivery",
        "hookstream",
    }
    assert found["tocsin_http_request_duration_seconds_count"][WRITE] == 4
    refused = found["tocsin_events_refused_total"]
    assert refused == {(("code", "forbidden"),): 1, (("code", "validation_failed"),): 2}


async def test_the_port_of_its_own_has_nothing_else() -> None:
    call = Client(cast(Any, metrics_site(Metrics())))
    assert (await call("GET", "/metrics")).status == 200
    assert (await call("POST", "/metrics")).status == 405
    for path in ("/", "/healthz", "/api/docs", "/metrics/", EVENTS, "/v1/notification-channels"):
        assert (await call("GET", path)).status == 404


async def test_sockets_and_what_a_bound_cuts_off_are_counted(fake: Fake) -> None:
    """Over the listener of its own; a usual publish on the other one takes a shortcut."""
    app = application(fake)
    async with HttpServer(app, fake.settings) as server:
        fake.metrics.sources += [app.counts.samples, server.bounds.samples]
        async with HttpServer(metrics_site(fake.metrics), fake.settings, port=0) as site:
            body = b'{"type":"a","data":1}'
            sent = await exchanged(
                server.address,
                b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (EVENTS.encode(), len(body), body),
            )
            assert sent.startswith(b"HTTP/1.1 202 ")
            cut = await exchanged(server.address, b"not HTTP at all\r\n\r\n")
            assert cut.startswith(b"HTTP/1.1 400 ")
            text = await exchanged(
                site.address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
    assert text.startswith(b"HTTP/1.1 200 ")
    assert (
        b'\ntocsin_http_requests_total{dialect="native",method="write",status="2xx"} 1.0\n' in text
    )
    assert b'\ntocsin_http_refused_total{code="bad_request"} 1.0\n' in text
    assert b"\ntocsin_http_connections_open " in text


async def exchanged(address: tuple[str, int], request: bytes) -> bytes:
    """All that comes back on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()

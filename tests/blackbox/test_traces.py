"""Traces of a running service, as a collector gets them."""

import gzip

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver, always, in_turn, reply

COLLECTED = "/v1/traces"


def spans(receiver: Receiver) -> list[Span]:
    found: list[Span] = []
    for one in receiver.at(COLLECTED):
        packed = one.headers.get("content-encoding") == "gzip"
        request = ExportTraceServiceRequest.FromString(
            gzip.decompress(one.body) if packed else one.body
        )
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                found += scope.spans
    return found


def test_a_collector_gets_publish_and_attempts_as_one_trace(
    new_server: NewServer, receiver: Receiver
) -> None:
    server = new_server(traces="true")
    server.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url("").rstrip("/")
    server.start()
    tenant = server.tenant("traced")
    receiver.behave(COLLECTED, always(reply(200)))
    url = receiver.url("/hook", in_turn(reply(500), reply(204)))
    tenant.channel(url, retry={"schedule": ["1s"]})
    event = tenant.publish("build.created")
    tenant.settled(event["id"], "delivered", seconds=60)
    # What is left is sent at the end.
    assert server.stop() == 0, server.said()
    found = spans(receiver)
    (publish,) = [span for span in found if span.name == "publish build.created"]
    attempts = [span for span in found if span.name == "attempt webhook"]
    assert [span.parent_span_id for span in attempts] == [publish.span_id] * 2
    assert {span.trace_id for span in attempts} == {publish.trace_id}

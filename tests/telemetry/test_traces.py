"""Traces: one of each event, whoever makes its spans, and nothing in them that is the tenant's."""

import sys

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tocsin.domain.model import Event, EventId, OrganizationId
from tocsin.telemetry.traces import MS, NoTraces, Traces

AT = 1_800_000_000_000
EVENT = Event(
    id=EventId("0" * 23 + "1"),
    organization_id=OrganizationId("a" * 24),
    project_id=None,
    type="build.created",
    data=b'{"secret": "hidden"}',
    occurred_at=AT,
    created_at=AT,
)


def attempt(traces: Traces, number: int, status_code: int, reason: str | None) -> None:
    traces.attempted(
        EVENT,
        delivery_id="d" * 24,
        channel_id="c" * 24,
        channel_type="webhook",
        number=number,
        started_ms=AT + 100 * number,
        duration_ms=7,
        outcome="retry" if reason else "delivered",
        status_code=status_code,
        reason=reason,
    )


def test_an_event_is_one_trace_on_any_node() -> None:
    """Two nodes: what each of them makes belongs together by the event's id alone."""
    first, second = InMemorySpanExporter(), InMemorySpanExporter()
    publishing, sending = Traces("1.0", first), Traces("1.0", second)
    publishing.published(EVENT, 1, AT + 5)
    attempt(publishing, 1, 500, "http_status")
    attempt(sending, 2, 204, None)
    publish, failed = first.get_finished_spans()
    (delivered,) = second.get_finished_spans()
    root = publish.get_span_context()
    assert root is not None
    assert (publish.name, publish.kind, publish.parent) == (
        "publish build.created",
        SpanKind.PRODUCER,
        None,
    )
    assert (publish.start_time, publish.end_time) == (AT * MS, (AT + 5) * MS)
    for span in (failed, delivered):
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (root.trace_id, root.span_id)
        context = span.get_span_context()
        assert context is not None
        assert context.trace_id == root.trace_id
        assert context.span_id != root.span_id
        assert span.kind is SpanKind.CLIENT
    assert (failed.start_time, failed.end_time) == ((AT + 100) * MS, (AT + 107) * MS)
    assert failed.status.status_code is StatusCode.ERROR
    assert delivered.status.status_code is StatusCode.UNSET
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "http_status"
    assert failed.attributes["http.response.status_code"] == 500
    assert failed.attributes["tocsin.attempt.number"] == 1
    assert publish.resource.attributes["service.name"] == "tocsin"
    assert "hidden" not in "".join(span.to_json() for span in (publish, failed, delivered))


def test_a_sampler_decides_for_the_whole_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for sampler, spans in (("always_off", 0), ("parentbased_always_off", 0), ("always_on", 2)):
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
        exporter = InMemorySpanExporter()
        traces = Traces("1.0", exporter)
        traces.published(EVENT, 1, AT)
        attempt(traces, 1, 204, None)
        assert len(exporter.get_finished_spans()) == spans, sampler


def test_a_fault_of_tracing_is_logged_and_goes_no_further(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(InMemorySpanExporter):
        def export(self, spans: object) -> object:  # type: ignore[override]
            raise RuntimeError("no room")

    traces = Traces("1.0", Broken())
    traces.published(EVENT, 1, AT)
    attempt(traces, 1, 204, None)
    assert "no room" in caplog.text


def test_without_its_packages_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(NoTraces, match="opentelemetry"):
        Traces("1.0")

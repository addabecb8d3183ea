"""Traces, where they are asked for: one of each event, with a span for its publish and one for each
attempt, whichever node makes it and however much later.

The ids follow from the event's id, so nothing has to be stored or carried along. OpenTelemetry's
own exporter (OTLP over HTTP) sends them from a thread of its own and drops what it can't send; its
`OTEL_…` variables say where to and how many. It is the extra `traces`, and not there by default.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from tocsin.domain.model import Event

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

P = ParamSpec("P")

MS = 1_000_000
FLUSH_MS_MAX = 5_000


_log = logging.getLogger(__name__)


def _harmless(note: Callable[P, None]) -> Callable[P, None]:
    """An event is published and delivered, whatever becomes of its trace."""

    @wraps(note)
    def noted(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            note(*args, **kwargs)
        except Exception:
            _log.exception("a span is left out")

    return noted


class NoTraces(Exception):
    """The packages of the extra `traces` are not installed."""


class Traces:
    """Makes the spans; used from the event loop only.

    No payload, URL or text of a target becomes part of a span. Raises NoTraces. `exporter` is for
    tests; it gets each span at once.
    """

    def __init__(self, version: str, exporter: "SpanExporter | None" = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
            from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
            from opentelemetry.sdk.trace.sampling import Decision

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                processor: Any = BatchSpanProcessor(OTLPSpanExporter())
            else:
                processor = SimpleSpanProcessor(exporter)
        except ImportError as error:
            raise NoTraces(str(error)) from None

        class Ids(RandomIdGenerator):
            """Those of the event whose publish is being noted, else random ones."""

            event: tuple[int, int] | None = None

            def generate_trace_id(self) -> int:
                return self.event[0] if self.event else super().generate_trace_id()

            def generate_span_id(self) -> int:
                return self.event[1] if self.event else super().generate_span_id()

        self._trace = trace
        self._sampled = Decision.RECORD_AND_SAMPLE
        self._ids = Ids()
        # With what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say.
        resource = Resource.create()
        own: dict[str, Any] = {SERVICE_VERSION: version}
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            own[SERVICE_NAME] = "tocsin"
        resource = resource.merge(Resource(own))
        self._provider = TracerProvider(id_generator=self._ids, resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("tocsin", version)

    @_harmless
    def published(self, event: Event, deliveries: int, ended_ms: int) -> None:
        """An event was accepted, and committed at this moment (wall time)."""
        self._ids.event = _ids_of(event.id)
        try:
            span = self._tracer.start_span(
                f"publish {event.type}",
                kind=self._trace.SpanKind.PRODUCER,
                start_time=event.created_at * MS,
                attributes={
                    **_of(event),
                    "messaging.operation.type": "send",
                    "tocsin.deliveries": deliveries,
                },
            )
        finally:
            self._ids.event = None
        span.end(max(ended_ms, event.created_at) * MS)

    @_harmless
    def attempted(
        self,
        event: Event,
        *,
        delivery_id: str,
        channel_id: str,
        channel_type: str,
        number: int,
        started_ms: int,
        duration_ms: int,
        outcome: str,
        status_code: int | None,
        reason: str | None,
    ) -> None:
        """An attempt has its outcome; `reason` is the code of why it failed."""
        trace = self._trace
        trace_id, span_id = _ids_of(event.id)
        # Whether its publish was sampled: the same question has the same answer on every node.
        asked = self._provider.sampler.should_sample(None, trace_id, "publish")
        kept = asked.decision is self._sampled
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if kept else trace.TraceFlags.DEFAULT)
        publish = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        attributes: dict[str, str | int] = {
            **_of(event),
            "messaging.operation.type": "process",
            "tocsin.delivery.id": delivery_id,
            "tocsin.channel.id": channel_id,
            "tocsin.channel.type": channel_type,
            "tocsin.attempt.number": number,
            "tocsin.attempt.outcome": outcome,
        }
        if status_code is not None:
            attributes["http.response.status_code"] = status_code
        if reason is not None:
            attributes["error.type"] = reason
        span = self._tracer.start_span(
            f"attempt {channel_type}",
            context=trace.set_span_in_context(trace.NonRecordingSpan(publish)),
            kind=trace.SpanKind.CLIENT,
            start_time=started_ms * MS,
            attributes=attributes,
        )
        if reason is not None:
            span.set_status(trace.StatusCode.ERROR, reason)
        span.end((started_ms + duration_ms) * MS)

    def close(self) -> None:
        """Send what is left, for some seconds at most; blocks."""
        self._provider.force_flush(FLUSH_MS_MAX)
        self._provider.shutdown()


def _ids_of(event_id: str) -> tuple[int, int]:
    """Trace and span id of an event's publish; samplers look at the last bits of the first."""
    digest = hashlib.sha256(event_id.encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _of(event: Event) -> dict[str, str]:
    return {
        "messaging.system": "tocsin",
        "messaging.message.id": event.id,
        "tocsin.event.type": event.type,
        "tocsin.organization.id": event.organization_id,
    }

"""Statistics: what was accepted, tried and given up, step by step."""

from typing import Any

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

from tocsin.domain.text import iso
from tocsin.service.statistics import Bucket, Step
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native.errors import READS, problems

_BUCKETS = tuple(bucket.value for bucket in Bucket)


class LatencyOut(Struct):
    """How long attempts took, in milliseconds."""

    p50: float
    p95: float
    p99: float


class StatisticsOut(Struct):
    """What happened from `start` on, for one bucket."""

    start: str
    channel_id: str | None
    project_id: str | None
    accepted: int
    attempts: int
    delivered: int
    failed: int
    exhausted: int
    failure_rate: float | None
    latency_ms: LatencyOut | None


class StatisticsListOut(Struct):
    """All buckets of the period, oldest first."""

    data: list[StatisticsOut]


@get(
    "/organizations/{org:str}/stats",
    opt={"operation": "stats.get"},
    responses=problems(*READS),
    operation_class=spec.takes(
        spec.text("channel", "only this channel (id)"),
        spec.text("project", "only this project (id or slug)"),
        spec.choice("bucket", "how long a step is; hour, if left out", _BUCKETS),
        spec.text("after", "from this time on"),
        spec.text("before", "up to this time; now, if left out"),
    ),
)
async def get_statistics(request: Call, org: FromPath[str]) -> StatisticsListOut:
    """What was accepted, tried, delivered and given up, in buckets of time."""
    query = request.parameters()
    found = await request.services.statistics.read(
        request.caller,
        request.sight,
        channel=query.text("channel"),
        project=query.text("project"),
        bucket=Bucket(query.one_of("bucket", _BUCKETS) or Bucket.HOUR),
        after=query.time("after"),
        before=query.time("before"),
    )
    return StatisticsListOut([_shown(step) for step in found])


def _shown(step: Step) -> StatisticsOut:
    rate, latency = step.failure_rate, step.latency
    return StatisticsOut(
        start=iso(step.start_ms),
        channel_id=step.channel_id,
        project_id=step.project_id,
        accepted=step.accepted,
        attempts=step.attempts,
        delivered=step.delivered,
        failed=step.failed,
        exhausted=step.exhausted,
        failure_rate=None if rate is None else round(rate, 4),
        latency_ms=None if latency is None else LatencyOut(latency.p50, latency.p95, latency.p99),
    )


HANDLERS: tuple[Any, ...] = (get_statistics,)

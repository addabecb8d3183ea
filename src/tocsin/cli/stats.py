"""`tocsin stats`: how deliveries fare, step by step."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.client import at
from tocsin.cli.server import ORGANIZATION, Organization

COLUMNS = {
    "start": "from",
    "accepted": "events",
    "attempts": "attempts",
    "delivered": "delivered",
    "failed": "failed",
    "exhausted": "given up",
    "failure_rate": "failure rate",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
}
_NO_LATENCY: dict[str, Any] = {"p50": None, "p95": None, "p99": None}


def stats(
    *,
    channel: Annotated[str | None, Parameter(help="Only of this channel.")] = None,
    project: Annotated[str | None, Parameter(name=("--project", "-p"), help="Only of it.")] = None,
    bucket: Annotated[
        Literal["minute", "hour", "day"], Parameter(help="How long a line stands for.")
    ] = "hour",
    after: Annotated[str | None, Parameter(help="From this time on.")] = None,
    before: Annotated[str | None, Parameter(help="Up to this time.")] = None,
    on: Organization = ORGANIZATION,
) -> None:
    """Show what was accepted, tried, delivered and given up.

    Without a time: the last hour by the minute, the last day by the hour or
    the last 30 days by the day. Lines in which nothing happened are left out.

    For example:

        tocsin stats --org acme
        tocsin stats --org acme --channel 64f0c2… --bucket minute
        tocsin stats --org acme --bucket day --after 2026-11-01T00:00:00Z
    """
    api, org = on.place()
    query = {
        "channel": channel,
        "project": project,
        "bucket": bucket,
        "after": after,
        "before": before,
    }
    found = api.call("GET", at("organizations", org, "stats"), query=query)
    if on.json:
        output.print_json(found)
        return
    rows = [
        {**row, **(row["latency_ms"] or _NO_LATENCY), "failure_rate": _percent(row["failure_rate"])}
        for row in found["data"]
        if row["accepted"] or row["attempts"]
    ]
    output.print_table(rows, COLUMNS, "nothing happened in this time")


def _percent(rate: float | None) -> str | None:
    return None if rate is None else f"{rate * 100:.1f} %"

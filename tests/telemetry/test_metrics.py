"""Metrics as a scrape gets them, and the pages that name them: the same on both sides."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tocsin.telemetry import families as of
from tocsin.telemetry.counts import (
    AttemptCounts,
    PublishCounts,
    RequestCounts,
    SettleCounts,
    StoreCounts,
)
from tocsin.telemetry.exposition import Metrics
from tocsin.telemetry.instruments import Sample

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "tocsin.json").read_text())
LABELS = {"dialect", "method", "status", "outcome", "reason", "code", "channel_type", "operation"}
LABELS |= {"table"}

Labels = tuple[tuple[str, str], ...]


async def scraped(metrics: Metrics) -> dict[str, dict[Labels, float]]:
    """The values by full name and labels."""
    found: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families((await metrics.text()).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.items())] = sample.value
    return found


async def exposed() -> dict[str, str]:
    """Every family of a service that has done nothing, with its kind."""
    text = (await Metrics().text()).decode()
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    found = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", PAGE, re.M)
    assert len({name for name, _, _ in found}) == len(found)
    return {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in found}


async def test_the_page_names_every_metric_and_no_other() -> None:
    page = documented()
    assert {name: kind for name, (kind, _) in page.items()} == await exposed()
    assert {family.name: family.labels for family in of.FAMILIES} == {
        name: labels for name, (_, labels) in page.items() if name.startswith("tocsin_")
    }


def test_metrics_that_the_page_speaks_of_exist() -> None:
    assert set(re.findall(r"`(tocsin_\w+)", PAGE)) <= set(documented())


def test_no_label_can_name_a_tenant() -> None:
    for family in of.FAMILIES:
        assert set(family.labels) <= LABELS or family is of.BUILD_INFO, family.name


def test_names_say_unit_and_kind() -> None:
    for family in of.FAMILIES:
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert bool(family.bounds) == (family.kind == "histogram"), family.name
        assert list(family.bounds) == sorted(set(family.bounds))


async def test_counts_come_out_as_they_were_counted() -> None:
    publishes, attempts, settles = PublishCounts(), AttemptCounts(), SettleCounts()
    stores, requests = StoreCounts(), RequestCounts()
    metrics = Metrics()
    parts = (publishes, attempts, settles, stores, requests)
    metrics.sources += [part.samples for part in parts]
    publishes.accepted, publishes.unmatched, publishes.deliveries = 2, 1, 2
    publishes.duplicate += 1
    publishes.batches.observe(3)
    attempts.attempt("webhook", "delivered", None, 5, 12)
    attempts.attempt("webhook", "retry", "http_status: 503 (cut)", 6, -3)
    attempts.attempt("webhook", "retry", "timeout", 30_001, None)
    attempts.attempt("slack", "gone", "http_status: 410", 1, None)
    settles.settled(["delivered", "waiting", "exhausted", "delivered", "rejected"])
    stores.committed(2, 10.0, 10.003, 10.004)
    stores.failed("unknown")
    requests.calls("native", "write").answered(202, 0.004)
    requests.calls("native", "write").answered(413, 0.0)
    requests.refused("payload_too_large")

    found = await scraped(metrics)
    assert found["tocsin_events_accepted_total"] == {(): 2}
    assert found["tocsin_events_unmatched_total"] == {(): 1}
    assert found["tocsin_events_duplicate_total"] == {(): 1}
    assert found["tocsin_deliveries_created_total"] == {(): 2}
    assert found["tocsin_attempts_total"] == {
        labelled(channel_type="webhook", outcome="delivered", reason=""): 1,
        labelled(channel_type="webhook", outcome="retry", reason="http_status"): 1,
        labelled(channel_type="webhook", outcome="retry", reason="timeout"): 1,
        labelled(channel_type="slack", outcome="delivered", reason=""): 0,
        labelled(channel_type="slack", outcome="gone", reason="http_status"): 1,
    }
    assert found["tocsin_deliveries_finished_total"] == {
        labelled(outcome="delivered"): 2,
        labelled(outcome="exhausted"): 1,
        labelled(outcome="rejected"): 1,
    }
    assert found["tocsin_store_transactions_total"] == {
        labelled(outcome="committed"): 1,
        labelled(outcome="unknown"): 1,
    }
    assert found["tocsin_http_requests_total"] == {
        labelled(dialect="native", method="write", status="2xx"): 1,
        labelled(dialect="native", method="write", status="4xx"): 1,
    }
    assert found["tocsin_events_refused_total"] == {labelled(code="payload_too_large"): 1}


def labelled(**labels: str) -> Labels:
    return tuple(labels.items())


async def test_histograms_are_in_seconds_cumulated_and_closed() -> None:
    attempts, metrics = AttemptCounts(), Metrics()
    metrics.sources.append(attempts.samples)
    for took_ms in (0, 5, 6, 30_000, 30_001):
        attempts.attempt("webhook", "delivered", None, took_ms, took_ms)
    found = await scraped(metrics)
    buckets = found["tocsin_attempt_duration_seconds_bucket"]
    by_bound = {dict(labels)["le"]: value for labels, value in buckets.items()}
    assert by_bound["0.005"] == 2
    assert by_bound["0.01"] == 3
    assert by_bound["30.0"] == 4
    assert by_bound["+Inf"] == 5
    of_webhooks = labelled(channel_type="webhook")
    assert found["tocsin_attempt_duration_seconds_count"] == {of_webhooks: 5}
    assert found["tocsin_attempt_duration_seconds_sum"][of_webhooks] == pytest.approx(60.012)
    assert found["tocsin_first_attempt_delay_seconds_count"] == {(): 5}


async def test_what_a_thread_reads_comes_along() -> None:
    metrics = Metrics()
    metrics.slow_sources.append(lambda: [Sample(of.STORE_BYTES, (), 4096)])
    found = await scraped(metrics)
    assert found["tocsin_store_database_bytes"] == {(): 4096}
    assert found["process_resident_memory_bytes"][()] > 0


# The dashboard

FUNCTIONS = {"sum", "rate", "increase", "max", "min", "by", "le", "histogram_quantile", "vector"}
FUNCTIONS |= {"on", "or", "and", "time", "avg", "clamp_min", "group_left", "label_replace"}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for panel in dashboard["panels"]:
        found += [panel, *panel.get("panels", ())]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in panels(DASHBOARD) for target in panel.get("targets", ())]


async def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    kinds = await exposed()
    series = {name for name, kind in kinds.items() if kind != "histogram"} | {"up"}
    for name, kind in kinds.items():
        if kind == "histogram":
            series |= {name + end for end in ("_bucket", "_sum", "_count")}
    labels = {label for family in of.FAMILIES for label in family.labels} | {"instance", "job"}
    assert len(expressions()) > 20
    for expression in expressions():
        bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\$\w+', "", expression)
        names = set(re.findall(r"[a-z_][a-z_0-9]*", bare))
        assert names <= series | labels | FUNCTIONS, expression
        assert names & series, expression
        counted = re.findall(r"(rate|increase)\((\w+)", expression)
        assert all(name.endswith(("_total", "_bucket", "_sum", "_count")) for _, name in counted)
        assert expression.count("(") == expression.count(")")


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    assert DASHBOARD["title"] == "Tocsin"
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["id"] is None  # else an import would look for one with it
    [source] = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "datasource"]
    assert source["query"] == "prometheus"
    every = panels(DASHBOARD)
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        area = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not area & taken, panel["title"]
        taken |= area
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "$source"}
            assert panel["targets"]
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references)

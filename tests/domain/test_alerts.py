"""Alert rules without any store: what they may say, what holds, and what follows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.alerts import (
    MINUTE_MS,
    AlertRule,
    Config,
    Figures,
    OpenedIssue,
    RuleType,
    config_of,
    decide,
    judge,
    notice_id,
)
from tocsin.domain.errors import Invalid
from tocsin.domain.ids import is_id
from tocsin.domain.latency import BUCKETS, bucket_of
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId

M = 29_000_000


def rule(**fields: Any) -> AlertRule:
    given: dict[str, Any] = {
        "id": "1" * 24,
        "organization_id": OrganizationId("2" * 24),
        "project_id": ProjectId("3" * 24),
        "name": "rule",
        "description": None,
        "rule_type": "dlq",
        "rule_config": "{}",
        "source_id": None,
        "destination_id": None,
        "channel_ids": (),
        "cooldown_minutes": 60,
        "enabled": True,
        "version": 1,
        "evaluated_minute": M - 1,
        "created_at": 0,
        "updated_at": 0,
    }
    return AlertRule(**(given | fields))


@pytest.mark.parametrize(
    ("type", "members", "config"),
    [
        ("failure_rate", {"threshold": 0.2}, Config(threshold=0.2, least=5)),
        ("failure_rate", {"threshold": 1}, Config(threshold=1, least=5)),
        ("failure_rate", {"threshold": 20, "min_attempts": 1}, Config(threshold=0.2, least=1)),
        ("latency", {"threshold_ms": 500}, Config(threshold=500, percentile=95)),
        ("latency", {"threshold": 5, "percentile_target": 99.9},
         Config(threshold=5, percentile=99.9)),
        ("dlq", {"threshold": 0, "window_minutes": 1}, Config(window_minutes=1)),
        ("volume_drop", {"threshold": 50}, Config(threshold=50, least=20)),
        ("issue_opened", {"window_minutes": 1440}, Config(window_minutes=1440)),
    ],
)  # fmt: skip
def test_a_config_with_its_defaults(type: str, members: Any, config: Config) -> None:
    assert config_of(RuleType(type), members) == config


@pytest.mark.parametrize(
    ("type", "members", "field"),
    [
        ("failure_rate", {}, "threshold"),
        ("failure_rate", {"threshold": 100.5}, "threshold"),
        ("failure_rate", {"threshold": True}, "threshold"),
        ("failure_rate", {"threshold": 1, "min_attempts": 0}, "min_attempts"),
        ("latency", {}, "threshold_ms"),
        ("latency", {"threshold": 1, "threshold_ms": 1}, "threshold"),
        ("latency", {"threshold": 1, "percentile_target": 100}, "percentile_target"),
        ("dlq", {"threshold": -1}, "threshold"),
        ("dlq", {"threshold": None}, "threshold"),
        ("dlq", {"threshold": 1, "window_minutes": 0}, "window_minutes"),
        ("dlq", {"threshold": 1, "window_minutes": 1.0}, "window_minutes"),
        ("dlq", {"threshold": 1, "window_minutes": 1441}, "window_minutes"),
        ("volume_drop", {"threshold": 1, "min_events": False}, "min_events"),
        ("issue_opened", {"threshold": 1}, "threshold"),
        ("dlq", {"threshold": 1, "x" * 99: 1}, "x" * 64),
    ],
)
def test_what_a_config_may_not_say(type: str, members: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        config_of(RuleType(type), members)
    assert refused.value.problems[0].field == f"rule_config.{field}"


COUNTS = st.integers(0, 10**9)


@given(COUNTS, COUNTS, st.floats(0, 100), st.integers(1, 100))
def test_a_rate_is_of_all_attempts(failed: int, more: int, threshold: float, least: int) -> None:
    config = config_of(RuleType.FAILURE_RATE, {"threshold": threshold, "min_attempts": least})
    figures = Figures(attempts=failed + more, failed=failed)
    verdict = judge(RuleType.FAILURE_RATE, config, figures)
    if figures.attempts < least:
        assert verdict.holds is False
    else:
        assert verdict.holds == (failed / figures.attempts > config.threshold)


@given(st.none() | COUNTS, st.none() | COUNTS, st.floats(0, 100))
def test_a_drop_needs_something_to_fall_from(
    events: int | None, before: int | None, threshold: float
) -> None:
    config = config_of(RuleType.VOLUME_DROP, {"threshold": threshold, "min_events": 1})
    holds = judge(RuleType.VOLUME_DROP, config, Figures(events=events, events_before=before)).holds
    if events is None or before is None:
        assert holds is None
    elif before == 0 or events >= before:
        assert holds is False


@given(st.sampled_from(RuleType), st.integers(1, 10**6), st.integers(1, 40_000))
def test_every_reason_is_a_sentence(type: RuleType, count: int, ms: int) -> None:
    members = {} if type is RuleType.ISSUE_OPENED else {"threshold": 1}
    latency = [0] * BUCKETS
    latency[bucket_of(ms)] = count
    figures = Figures(
        attempts=count + 10,
        failed=count + 10,
        exhausted=count + 1,
        latency=latency,
        events=0,
        events_before=count + 20,
        issues=[OpenedIssue(id="1" * 24, title="It fails", channel_id=ChannelId("2" * 24))],
    )
    verdict = judge(type, config_of(type, members), figures)
    if verdict.holds:
        assert verdict.reason[0].isupper() or verdict.reason[0].isdigit()
        assert verdict.reason.endswith(".")
        assert verdict.data
    else:
        assert type in (RuleType.LATENCY, RuleType.FAILURE_RATE)  # 100 % is not above 100 %


def test_reasons() -> None:
    rate = config_of(RuleType.FAILURE_RATE, {"threshold": 0.3, "window_minutes": 15})
    assert judge(RuleType.FAILURE_RATE, rate, Figures(attempts=14, failed=6)).reason == (
        "6 of 14 attempts failed within 15 minutes: 42.86 %, more than 30 %."
    )
    dlq = config_of(RuleType.DLQ, {"threshold": 0, "window_minutes": 1})
    assert judge(RuleType.DLQ, dlq, Figures(exhausted=1)).reason == (
        "1 delivery ran out of retries within a minute, more than 0."
    )
    slow = config_of(RuleType.LATENCY, {"threshold_ms": 2000})
    counts = [0] * BUCKETS
    counts[bucket_of(2500)] = 1
    assert judge(RuleType.LATENCY, slow, Figures(attempts=1, latency=counts)).reason.startswith(
        "The p95 latency of 1 attempt within 5 minutes was 3,"
    )


@given(st.lists(st.sampled_from([True, False, None, "skipped"]), max_size=120), st.integers(0, 70))
def test_whatever_happens_triggers_keep_their_distance(course: list[Any], cooldown: int) -> None:
    """And what is resolved was told before, and false for half an hour."""
    now = rule(cooldown_minutes=cooldown)
    triggered: list[int] = []
    false_in_a_row = 0
    told_open = False
    for minute, holds in enumerate(course, M):
        if holds == "skipped":
            continue
        now_ms = minute * MINUTE_MS + 15_000
        decision = decide(now, holds, minute=minute, now_ms=now_ms)
        false_in_a_row = 0 if holds else false_in_a_row + (holds is False)
        if decision is None:
            assert now.firing_since is None
            assert not holds
            continue
        if decision.triggers:
            assert holds
            assert not triggered or minute - triggered[-1] >= cooldown
            triggered.append(minute)
            told_open = True
        if decision.resolves:
            assert told_open
            assert false_in_a_row >= 30
            told_open = False
        assert (decision.firing_since is None) == (holds is False and false_in_a_row >= 30)
        now = rule(
            cooldown_minutes=cooldown,
            evaluated_minute=decision.evaluated_minute,
            firing_since=decision.firing_since,
            last_true_at=decision.last_true_at,
            last_triggered_at=now_ms if decision.triggers else now.last_triggered_at,
        )


def test_the_id_of_a_notice_is_made_of_what_it_stands_for() -> None:
    made = notice_id("1" * 24, M, "alert.triggered")
    assert is_id(made)
    assert made == notice_id("1" * 24, M, "alert.triggered")
    others = {
        notice_id("2" * 24, M, "alert.triggered"),
        notice_id("1" * 24, M + 1, "alert.triggered"),
        notice_id("1" * 24, M, "alert.resolved"),
    }
    assert len(others | {made}) == 4
    assert int(made[:12], 16) == M * MINUTE_MS

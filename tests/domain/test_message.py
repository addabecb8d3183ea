from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.message import (
    FIELD_NAME_CHARS_MAX,
    FIELD_VALUE_CHARS_MAX,
    FIELDS_MAX,
    SEVERITIES,
    TEXT_CHARS_MAX,
    TITLE_CHARS_MAX,
    Message,
    link_valid,
    message_of,
)
from tocsin.domain.model import Event, EventId, OrganizationId, Origin, People

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


def event(data: Any, type: str = "build.created", people: People | None = None) -> Event:
    return Event(
        id=EventId("1" * 24),
        organization_id=OrganizationId("2" * 24),
        project_id=None,
        type=type,
        data=msgspec.json.encode(data),
        occurred_at=0,
        created_at=0,
        people=people,
    )


def test_the_event_s_own_words_come_first() -> None:
    people = People(
        title="Build 7\nis ready",
        text="All\0 good\nindeed",
        severity="warning",
        link="https://example.com/7",
        fields={"Branch": "main"},
    )
    assert message_of(event({"title": "other", "url": "https://other"}, people=people)) == Message(
        title="Build 7 is ready",
        text="All good\nindeed",
        severity="warning",
        link="https://example.com/7",
        fields=(("Branch", "main"),),
    )


def test_else_a_message_is_made_from_the_data() -> None:
    data = {
        "message": "It works",
        "url": "https://example.com/7",
        "level": "ERROR",
        "version": 7,
        "ok": True,
        "nothing": None,
        "ratio": 0.5,
        "build": {"branch": "main", "author": {"name": "Ada", "more": {"deep": 1}}},
        "tags": ["a", "b"],
        "steps": [{"n": 1}, {"n": 2}],
    }
    assert message_of(event(data, "job.done")) == Message(
        title="Job done",
        text="It works",
        severity="error",
        link="https://example.com/7",
        fields=(
            ("Version", "7"),
            ("Ok", "true"),
            ("Ratio", "0.5"),
            ("Build branch", "main"),
            ("Build author name", "Ada"),
            ("Build author more", "1 member"),
            ("Tags", "a, b"),
            ("Steps", "2 items"),
        ),
    )


@pytest.mark.parametrize(
    ("data", "text"), [("hello", "hello"), (3, "3"), (None, ""), ([1, 2], "1, 2"), ([], "")]
)
def test_data_that_is_no_object(data: Any, text: str) -> None:
    assert message_of(event(data)) == Message(title="Build created", text=text)


def test_alerts() -> None:
    data = {
        "alert_rule": {"id": "1", "name": "Failing", "rule_type": "failure_rate"},
        "trigger_reason": "half of all attempts failed",
        "trigger_data": {"rate": 0.5},
    }
    triggered = message_of(event(data, "alert.triggered"), Origin.ALERT)
    assert triggered == Message(
        title="Alert: Failing",
        text="half of all attempts failed",
        severity="error",
        fields=(("Rate", "0.5"),),
    )
    resolved = message_of(event(data, "alert.resolved"), Origin.ALERT)
    assert (resolved.title, resolved.severity) == ("Resolved: Failing", "info")
    assert resolved.text == "It is over. It was: half of all attempts failed"
    assert message_of(event({}, "alert.triggered"), Origin.ALERT).title == "Alert: rule"


@pytest.mark.parametrize(
    ("figures", "fields"),
    [
        (
            {"failure_rate": 0.6, "threshold": 0.5, "failed": 24, "window_minutes": 15},
            (
                ("Failure rate", "60 %"),
                ("Threshold", "50 %"),
                ("Failed", "24"),
                ("Window", "15 min"),
            ),
        ),
        (
            {"latency_ms": 3081, "threshold_ms": 3_600_000.5, "percentile": 99.9},
            (("Latency", "3,081 ms"), ("Threshold", "3,600,000.5 ms"), ("Percentile", "p99.9")),
        ),
        (
            {"drop_percent": 97.5, "threshold": 50, "events": 3, "events_before": 120},
            (("Drop", "97.5 %"), ("Threshold", "50 %"), ("Events", "3"), ("Events before", "120")),
        ),
        ({"exhausted": 4, "threshold": 3}, (("Exhausted", "4"), ("Threshold", "3"))),
        (
            {"count": 2, "issues": [{"title": "One"}, {"title": 2}, None, {"title": "Two"}]},
            (("Count", "2"), ("Issue", "One"), ("Issue", "Two")),
        ),
        ({"latency_ms": "slow", "percentile": None}, (("Latency ms", "slow"),)),
    ],
)
def test_the_figures_of_an_alert_have_units(figures: Any, fields: Any) -> None:
    data = {"alert_rule": {"name": "x"}, "trigger_reason": "y", "trigger_data": figures}
    assert message_of(event(data, "alert.triggered"), Origin.ALERT).fields == fields


CHANNEL = {"id": "c" * 24, "name": "On call", "type": "webhook"}
AT = "2026-11-20T09:30:00.000Z"


@pytest.mark.parametrize(
    ("type", "data", "title", "text", "severity"),
    [
        ("channel.failing", {"failures": 5, "last_error": "timeout"},
         "Channel “On call” is failing", "The last 5 deliveries to it have failed.", "warning"),
        ("channel.recovered", {},
         "Channel “On call” has recovered", "A delivery to it has arrived again.", "info"),
        ("channel.disabled", {"reason": "gone"},
         "Channel “On call” is disabled",
         "Its target says that it is gone for good. What is sent to it waits until somebody "
         "enables it.", "error"),
        ("channel.disabled", {"reason": "failing", "failing_since": AT, "failures": 40},
         "Channel “On call” is disabled",
         "It has only failed since 2026-11-20 09:30 UTC. What is sent to it waits until somebody "
         "enables it.", "error"),
        ("delivery.exhausted", {"minute": AT, "count": 4000, "last_error": "timeout"},
         "4000 deliveries to channel “On call” were given up",
         "In the minute from 2026-11-20 09:30 UTC. Retry them once the target works.", "error"),
        ("delivery.exhausted", {"minute": AT, "count": 1, "last_error": "timeout"},
         "1 delivery to channel “On call” was given up",
         "In the minute from 2026-11-20 09:30 UTC. Retry it once the target works.", "error"),
    ],
)  # fmt: skip
def test_operational_events(
    type: str, data: dict[str, Any], title: str, text: str, severity: str
) -> None:
    told = message_of(event({"channel": CHANNEL} | data, f"tocsin.{type}"), Origin.OPERATIONAL)
    assert (told.title, told.text, told.severity) == (title, text, severity)
    fields = {"Channel type": "webhook"}
    fields |= {"Last error": "timeout"} if "last_error" in data else {}
    assert dict(told.fields) == fields


@pytest.mark.parametrize("data", [{}, {"channel": 1, "minute": 2, "count": "x", "failures": True}])
def test_operational_events_say_something_whatever_is_in_them(data: dict[str, Any]) -> None:
    told = message_of(event(data, "tocsin.channel.disabled"), Origin.OPERATIONAL)
    assert (told.title, told.severity) == ("A channel is disabled", "error")
    told = message_of(event(data, "tocsin.delivery.exhausted"), Origin.OPERATIONAL)
    assert (told.title, told.severity) == ("Deliveries to a channel were given up", "error")
    told = message_of(event(data, "tocsin.channel.failing"), Origin.OPERATIONAL)
    assert (told.title, told.text) == ("A channel is failing", "")
    assert message_of(event(data, "tocsin.other"), Origin.OPERATIONAL).title == "Other"


@pytest.mark.parametrize(
    "link",
    ["javascript:alert(1)", "http://a b", "https://a\n", 'https://a"onload', "ftp://a", "", "//a"],
)
def test_only_http_becomes_a_link(link: str) -> None:
    assert not link_valid(link)
    assert message_of(event({"link": link}, people=People(link=link))).link is None


@given(JSON, st.sampled_from(list(Origin)), st.text())
def test_any_data_makes_a_bounded_message(data: Any, origin: Origin, words: str) -> None:
    people = People(title=words, text=words, fields={words: words}) if words else None
    message = message_of(event(data, people=people), origin)
    assert 1 <= len(message.title) <= TITLE_CHARS_MAX
    assert len(message.text) <= TEXT_CHARS_MAX
    assert message.severity in SEVERITIES
    assert len(message.fields) <= FIELDS_MAX
    for name, value in message.fields:
        assert 1 <= len(name) <= FIELD_NAME_CHARS_MAX
        assert 1 <= len(value) <= FIELD_VALUE_CHARS_MAX
    everything = message.title + message.text + "".join(n + v for n, v in message.fields)
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in everything)


def test_what_is_broken_still_makes_a_message() -> None:
    broken = msgspec.structs.replace(event({}), data=b"{nonsense")
    assert message_of(broken) == Message(title="Build created")

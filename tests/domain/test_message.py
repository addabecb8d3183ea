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
    assert message_of(event({}, "alert.triggered"), Origin.ALERT).title == "Alert: rule"


def test_operational_events_have_a_severity() -> None:
    message = message_of(event({}, "tocsin.channel.disabled"), Origin.OPERATIONAL)
    assert (message.title, message.severity) == ("Channel disabled", "error")


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

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.domain.applivery_events import (
    ACTIONS,
    FLAGS,
    action_of,
    flags_of,
    patterns_with_flags,
    shown_flags,
)
from tocsin.domain.envelope import CONTENT_TYPES, TEST_DATA, TEST_MESSAGE, render
from tocsin.domain.model import (
    Channel,
    ChannelId,
    Event,
    EventId,
    Format,
    OrganizationId,
    Origin,
    ProjectId,
)

ORG = OrganizationId("0" * 23 + "1")
PROJECT = ProjectId("0" * 23 + "2")
EVENT = Event(
    id=EventId("0" * 23 + "3"),
    organization_id=ORG,
    project_id=PROJECT,
    type="build.created",
    data=b'{ "n" : 1.50 }',
    occurred_at=1_795_298_400_007,
    created_at=1_795_298_400_009,
)
CHANNEL = Channel(
    id=ChannelId("0" * 23 + "4"),
    organization_id=ORG,
    project_id=PROJECT,
    type="webhook",
    name='My "channel" ü',
    description=None,
    event_types=("*",),
    filter=(),
    format=Format.TOCSIN,
    schedule=("5s",),
    timeout_seconds=15,
    rate_limit=None,
    max_in_flight=None,
    ordered=False,
    breaker=None,
    enabled=True,
    disabled_reason=None,
    sealed=b"",
    version=1,
    created_at=0,
    updated_at=0,
)
TIME = "2026-11-21T22:00:00.007Z"


def body(format: Format, event: Event = EVENT, origin: Origin = Origin.EVENT) -> bytes:
    return render(format, event, origin, CHANNEL)


def members(raw: bytes) -> list[tuple[str, Any]]:
    return list(msgspec.json.decode(raw).items())


def with_(**changes: Any) -> Event:
    return msgspec.structs.replace(EVENT, **changes)


def test_tocsin() -> None:
    assert members(body(Format.TOCSIN)) == [
        ("id", EVENT.id),
        ("type", "build.created"),
        ("timestamp", TIME),
        ("organization", ORG),
        ("project", PROJECT),
        ("data", {"n": 1.5}),
    ]
    assert members(body(Format.TOCSIN, with_(project_id=None)))[4] == ("project", None)


def test_cloudevents() -> None:
    assert members(body(Format.CLOUDEVENTS)) == [
        ("specversion", "1.0"),
        ("id", EVENT.id),
        ("source", f"/organizations/{ORG}/projects/{PROJECT}"),
        ("type", "build.created"),
        ("time", TIME),
        ("datacontenttype", "application/json"),
        ("data", {"n": 1.5}),
    ]
    source = members(body(Format.CLOUDEVENTS, with_(project_id=None)))[2]
    assert source == ("source", f"/organizations/{ORG}")


def test_applivery() -> None:
    assert members(body(Format.APPLIVERY)) == [
        ("action", "build_created"),
        ("id", EVENT.id),
        ("organization", ORG),
        ("application", PROJECT),
        ("timestamp", TIME),
        ("data", {"n": 1.5}),
    ]
    test = members(body(Format.APPLIVERY, with_(project_id=None), Origin.TEST))
    assert test[0] == ("action", "test")
    assert test[3] == ("application", None)


def test_hookstream() -> None:
    assert members(body(Format.HOOKSTREAM)) == [
        ("event", "build.created"),
        ("id", EVENT.id),
        ("data", {"n": 1.5}),
        ("org_id", ORG),
        ("env_id", PROJECT),
        ("timestamp", TIME),
    ]


@pytest.mark.parametrize("data", [TEST_DATA, b"[]", b'{"message": 1}', b"{}"])
def test_hookstream_test(data: bytes) -> None:
    event = with_(type="tocsin.test", data=data)
    assert members(body(Format.HOOKSTREAM, event, Origin.TEST)) == [
        ("event", "test"),
        ("message", TEST_MESSAGE),
        ("channel", {"id": CHANNEL.id, "name": CHANNEL.name}),
        ("org_id", ORG),
        ("env_id", PROJECT),
        ("timestamp", TIME),
    ]


ALERT = {
    "alert_rule": {"id": "r", "name": "Failing", "rule_type": "failure_rate"},
    "trigger_reason": "half of all attempts failed",
    "trigger_data": {"rate": 0.5},
    "source_id": None,
    "destination_id": "d",
}


def test_hookstream_alert() -> None:
    event = with_(type="alert.triggered", data=msgspec.json.encode(ALERT))
    assert members(body(Format.HOOKSTREAM, event, Origin.ALERT)) == [
        ("event", "alert.triggered"),
        ("alert_rule", ALERT["alert_rule"]),
        ("trigger_reason", ALERT["trigger_reason"]),
        ("trigger_data", ALERT["trigger_data"]),
        ("org_id", ORG),
        ("env_id", PROJECT),
        ("source_id", None),
        ("destination_id", "d"),
        ("timestamp", TIME),
    ]


def test_hookstream_alert_resolved() -> None:
    data = msgspec.json.encode({**ALERT, "resolved_at": TIME})
    resolved = members(
        body(Format.HOOKSTREAM, with_(type="alert.resolved", data=data), Origin.ALERT)
    )
    assert resolved[0] == ("event", "alert.resolved")
    assert resolved[-1] == ("resolved_at", TIME)
    assert len(resolved) == 10


@pytest.mark.parametrize("format", list(Format))
def test_data_goes_in_verbatim_and_a_test_is_json(format: Format) -> None:
    assert EVENT.data in body(format)
    test = body(format, with_(type="tocsin.test", data=TEST_DATA), Origin.TEST)
    assert TEST_MESSAGE.encode() in test
    assert format in CONTENT_TYPES


@given(st.recursive(st.none() | st.text() | st.integers(-(2**53), 2**53), st.lists))
def test_any_data_makes_a_json_body(data: Any) -> None:
    event = with_(data=msgspec.json.encode(data))
    for format in Format:
        assert msgspec.json.decode(body(format, event))["data"] == data


def test_the_applivery_table() -> None:
    assert len(FLAGS) == 18
    assert len(ACTIONS) == 19
    assert [flag.name for flag in flags_of(organization_level=False)] == [
        "buildCreated",
        "buildProcessed",
        "feedbackCreated",
        "certificateWillExpire",
    ]
    assert action_of("android.enrollment.created") == "android_enrollment-token_created"
    assert action_of("apple.device.created") == "apple_device_enrolled"
    assert action_of("windows.device.changed_mdm_user") == "windows_device_added_mdm_user"
    assert action_of("bug.created") == "bug_created"
    assert action_of("my-own.type.here") == "my-own_type_here"


def test_flags_are_shown_by_what_the_patterns_match() -> None:
    assert all(shown_flags(["*"], organization_level=True).values())
    assert not any(shown_flags([], organization_level=False).values())
    assert shown_flags(["bug.created", "build.*"], organization_level=False) == {
        "buildCreated": True,
        "buildProcessed": True,
        "feedbackCreated": True,
        "certificateWillExpire": False,
    }


def test_given_flags_are_laid_over_today_s() -> None:
    before = ("build.*", "my.own", "tocsin.*")
    assert patterns_with_flags(
        before, {"buildCreated": False, "feedbackCreated": True}, organization_level=False
    ) == ("build.processed", "feedback.created", "bug.created", "my.own", "tocsin.*")
    assert patterns_with_flags(before, {}, organization_level=False) == before
    unknown = {"emmDeviceCreated": True}
    assert patterns_with_flags(before, unknown, organization_level=False) == before
    assert "android.device.created" in patterns_with_flags((), unknown, organization_level=True)

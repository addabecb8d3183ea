"""What people read of the events of an app's life, whatever shape the payload has."""

from typing import Any

import pytest
from tests.domain.test_message import event

from tocsin.domain.app_messages import EXCERPT_CHARS_MAX
from tocsin.domain.applivery_events import ACTIONS
from tocsin.domain.message import Message, message_of
from tocsin.domain.model import People
from tocsin.domain.wording import label, readable

FJORD = {"app": {"name": "Fjord"}, "build": {"version": "4.2.0", "number": 118, "platform": "ios"}}


@pytest.mark.parametrize(
    ("type", "data", "title"),
    [
        ("build.created", FJORD, "New build: Fjord 4.2.0 (118) for iOS"),
        ("build.processed", FJORD, "Build ready: Fjord 4.2.0 (118) for iOS"),
        ("build.processed", FJORD | {"status": "FAILED"},
         "Build failed: Fjord 4.2.0 (118) for iOS"),
        ("build.created", {"application": "Fjord", "versionName": "4", "os": "android"},
         "New build: Fjord 4 for Android"),
        ("build.created", {"application": "5f1e0c1d2b3a4f5e6d7c8b9a", "build": 7}, "New build: 7"),
        ("build.created", {"app": True, "version": [1]}, "Build created"),
        ("build.created", {"platform": "ios"}, "New build for iOS"),
        ("build.processed", {"status": "error"}, "Build failed"),
        ("feedback.created", {"author": "Ana", "app": "Fjord"}, "Feedback from Ana on Fjord"),
        ("feedback.created", {"user": {"name": "Ana"}}, "Feedback from Ana"),
        ("feedback.created", {"text": "x"}, "Feedback created"),
        ("bug.created", {"email": "a@example.com"}, "Bug reported by a@example.com"),
        ("bug.created", {"app_name": "Fjord", "version": "4"}, "Bug in Fjord 4"),
        ("bug.created", {"title": "It crashes", "author": "Ana"}, "It crashes"),
        ("certificate.will_expire", {"name": "Push", "days_left": 30}, "Push expires in 30 days"),
        ("certificate.will_expire", {"name": "Push", "expires_at": "1970-01-31"},
         "Push expires in 30 days"),
        ("certificate.will_expire", {"not_after": "1970-01-02T10:00:00Z"},
         "A certificate expires tomorrow"),
        ("certificate.will_expire", {"name": "Push", "days": 0}, "Push expires today"),
        ("certificate.will_expire", {"name": "Push", "days": -1}, "Push has expired"),
        ("certificate.will_expire", {"expires": "soon"}, "A certificate expires on soon"),
        ("certificate.will_expire", {}, "A certificate will expire"),
        ("apple_push.renovation", {}, "The Apple Push certificate has to be renewed"),
        ("apple_push.renovation", {"days_left": 9, "name": "MDM"},
         "The Apple Push certificate expires in 9 days: MDM"),
        ("android.enrollment.created", {"name": "Staff"},
         "New enrollment for Android devices: Staff"),
        ("aosp.device.created", {"device": {"model": "X1"}, "user": "Ana"},
         "New AOSP device of Ana: X1"),
        ("windows.device.created", {}, "New Windows device"),
        ("apple.device.changed_mdm_user", {"device": "iPad 3", "user": {"email": "a@b.example"}},
         "Apple device iPad 3 has a new user: a@b.example"),
        ("inventory.item_registered", {"item": {"name": "MacBook"}},
         "New in the inventory: MacBook"),
    ],
)  # fmt: skip
def test_titles(type: str, data: Any, title: str) -> None:
    assert message_of(event(data, type)).title == title


def test_what_the_title_says_is_not_said_again() -> None:
    data = FJORD | {"branch": "main", "build_url": "x"}
    made = message_of(event(data))
    assert made.fields == (("Branch", "main"), ("Build URL", "x"))
    own = message_of(event(data, people=People(title="Mine")))
    assert own.title == "Mine"
    assert ("Build version", "4.2.0") in own.fields


def test_a_changelog_is_excerpted() -> None:
    lines = [f"Change number {number}" for number in range(200)]
    for changelog in (lines, "\n".join(lines)):
        text = message_of(event({"changelog": changelog, "message": "Out now"})).text
        assert text.startswith("Out now\n\n")
        assert "Change number 0\n" in text
        assert text.endswith("\n…")
        assert len(text) < EXCERPT_CHARS_MAX + 20
    assert message_of(event({"notes": "x" * 5_000})).text == "x" * (EXCERPT_CHARS_MAX - 1) + "…"
    assert message_of(event({"notes": ["a", " "]})).text == "• a"
    for none in ([], [1], {"a": "b"}, "", " "):
        assert message_of(event({"changelog": none})).text == ""


def test_severity_and_link() -> None:
    certificate = message_of(event({}, "certificate.will_expire"))
    assert certificate.severity == "warning"
    assert message_of(event({"status": "failed"}, "build.processed")).severity == "error"
    assert message_of(event({"severity": "info"}, "certificate.will_expire")).severity == "info"
    inner = {"build": {"url": "https://apps.example/7"}}
    assert message_of(event(inner)).link == "https://apps.example/7"
    assert message_of(event(inner)).fields == ()
    assert message_of(event(inner, "other.created")).link is None


@pytest.mark.parametrize("type", ACTIONS)
@pytest.mark.parametrize("data", [{}, {"name": {"name": {}}}, {"name": 1e300, "user": ["x"]}])
def test_each_type_makes_a_message_of_anything(type: str, data: Any) -> None:
    made = message_of(event(data, type))
    assert isinstance(made, Message)
    assert made.title
    assert "  " not in made.title


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("version", "Version"),
        ("uploaded_by", "Uploaded by"),
        ("app.build_number", "App build number"),
        ("build.buildNumber", "Build number"),
        ("build.build", "Build build"),
        ("device.os", "Device OS"),
        ("osVersion", "OS version"),
        ("ios-version", "iOS version"),
        ("trace_id", "Trace ID"),
        ("SHA256", "SHA256"),
        ("größe", "Größe"),
        ("two words", "two words"),
        ("*bold*", "*bold*"),
        ("_x_", "_x_"),
        ("a..b", "a..b"),
        ("", ""),
    ],
)
def test_labels(path: str, said: str) -> None:
    assert label(path) == said


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        ("2026-11-21T22:04:00.000Z", "", "2026-11-21 22:04 UTC"),
        ("2026-11-21T22:04:00+02:00", "", "2026-11-21 20:04 UTC"),
        ("2026-11-21", "", "2026-11-21"),
        ("2026-99-21T22:04:00.000Z", "", "2026-99-21T22:04:00.000Z"),
        (48_100_000, "size", "48.1 MB"),
        (1_000, "fileSize", "1.0 kB"),
        (3e12, "bytes", "3000.0 GB"),
        (999, "size", "999"),
        (48_100_000, "count", "48100000"),
        ([1, "a", None, True], "", "1, a, true"),
    ],
)
def test_values(value: Any, name: str, said: str) -> None:
    assert readable(value, name) == said

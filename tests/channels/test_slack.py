"""Slack messages: examples to look at, Slack's limits, and no payload taken for markup."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.channels.block_kit import check_message, words
from tests.channels.contract import (
    CANARY,
    EVENTS,
    NOW_MS,
    ChannelTypeContract,
    event,
    reply,
    sending,
)

from tocsin.channels import channel_types, dump
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Request
from tocsin.domain.model import Event, Origin, People
from tocsin.domain.outcome import Delivered, Gone, Reason, Rejected, Retry
from tocsin.domain.text import MASK

SLACK = channel_types()["slack"]
URL = f"https://hooks.slack.com/services/T024F4A92/B07GBUE3Z/{CANARY}"
SETTINGS = SLACK.parse_settings({"url": URL})
EXAMPLES = Path(__file__).parent / "slack"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=12),
    max_leaves=30,
)

ALERT: dict[str, Any] = {
    "alert_rule": {"id": "7" * 24, "name": "Half of <it> fails", "rule_type": "failure_rate"},
    "trigger_reason": "24 of 40 attempts failed within 15 minutes: 60 %, more than 50 %.",
    "trigger_data": {
        "failure_rate": 0.6,
        "threshold": 0.5,
        "failed": 24,
        "attempts": 40,
        "window_minutes": 15,
    },
    "source_id": None,
    "destination_id": None,
}

NICE: dict[str, Event] = {
    "build.created": event(
        {
            "title": "Fjord 4.2.0 (118) is here",
            "message": "Maps work offline now, and the ferry timetable is right again.",
            "platform": "iOS",
            "branch": "release/4.2",
            "size": "48.1 MB",
            "uploaded_by": "Jörg Müller",
            "url": "https://apps.example/fjord/builds/118?tab=notes&from=slack",
        }
    ),
    "feedback.created": event(
        {
            "message": "Love the new map!\nCould it remember my last harbour?",
            "author": "Ana <ana@example.com>",
            "rating": 5,
            "app": {"name": "Fjord", "version": "4.2.0"},
            "link": "https://apps.example/fjord/feedback/7",
        },
        type="feedback.created",
    ),
    "bug.created": event(
        {
            "summary": "Crash when the ticket list is empty",
            "severity": "error",
            "device": "Pixel 9",
            "os": "Android 16",
            "stack": ["TicketList.kt:42", "Main.kt:7"],
        },
        type="bug.created",
    ),
    "build.from_ci": event(
        {
            "app": {"id": "5f1e0c1d2b3a4f5e6d7c8b9a", "name": "Fjord"},
            "build": {
                "version_name": "4.3.0",
                "version_code": 121,
                "platform": "android",
                "size": 50_462_720,
                "branch": "main",
                "uploaded_by": {"name": "Jörg Müller", "email": "joerg@fjord.example"},
                "uploaded_at": "2023-11-14T22:10:03.000Z",
                "changelog": ["Maps work offline.", "Tickets open <twice> as fast."],
            },
            "download_url": "https://apps.example/fjord/121.apk",
            "url": "https://apps.example/fjord/builds/121",
        }
    ),
    "build.failed": event(
        {
            "app": "Fjord",
            "version": "4.3.0",
            "build_number": "121",
            "os": "ios",
            "status": "failed",
            "reason": "The provisioning profile has expired.",
            "link": "https://apps.example/fjord/builds/121",
        },
        type="build.processed",
    ),
    "bug.reported": event(
        {
            "reporter": {"name": "Ana", "email": "ana@example.com"},
            "app": {"name": "Fjord", "version": "4.2.0"},
            "description": "The ticket list is empty after a call.",
            "device": {"model": "Pixel 9", "os_version": "Android 16"},
        },
        type="bug.created",
    ),
    "certificate.from_data": event(
        {
            "certificate": {"name": "Apple Push: com.example.fjord"},
            "expires_at": "2023-12-14T08:00:00Z",
            "url": "https://apps.example/certificates",
        },
        type="certificate.will_expire",
    ),
    "device.created": event(
        {"device": {"name": "Ana's iPhone", "model": "iPhone 17"}, "user": "ana@example.com"},
        type="apple.device.created",
    ),
    "certificate.will_expire": event(
        {"name": "Apple Push: com.example.fjord", "expires_at": "2023-12-14", "days_left": 30},
        type="certificate.will_expire",
        people=People(
            title="A certificate expires in 30 days",
            text="Renew it in time, or phones will not be reached any more.",
            severity="warning",
            link="https://apps.example/certificates",
        ),
    ),
    "generic": event({"order": {"id": 1042, "total": 17.5, "paid": True}}, type="shop.order.paid"),
    "alert.triggered": event(ALERT, type="alert.triggered"),
    "alert.resolved": event(
        ALERT | {"resolved_at": "2023-11-14T22:43:20.000Z"}, type="alert.resolved"
    ),
    "alert.issue_opened": event(
        {
            "alert_rule": {"id": "7" * 24, "name": "New trouble", "rule_type": "issue_opened"},
            "trigger_reason": "2 issues opened, among them: The target answers HTTP 503.",
            "trigger_data": {
                "count": 2,
                "issues": [
                    {
                        "id": "8" * 24,
                        "title": "The target answers HTTP 503",
                        "destination_id": "9" * 24,
                    },
                    {
                        "id": "9" * 24,
                        "title": "The target did not answer in time",
                        "destination_id": "9" * 24,
                    },
                ],
            },
            "source_id": None,
            "destination_id": None,
        },
        type="alert.triggered",
    ),
    "test": event({"message": "This is a test."}, type="tocsin.test"),
}


def origin_of(name: str) -> Origin:
    """Why an example is sent."""
    if name == "test":
        return Origin.TEST
    return Origin.ALERT if name.startswith("alert.") else Origin.EVENT


def message(of: Event, origin: Origin = Origin.EVENT) -> Any:
    built = SLACK.build(sending(of, origin=origin), SETTINGS)
    found = msgspec.json.decode(built.body)
    check_message(found)
    return found


def texts(found: Any) -> list[str]:
    """Every text that Slack reads, as it is sent."""
    if isinstance(found, dict):
        own = [found["text"]] if isinstance(found.get("text"), str) else []
        return own + [text for value in found.values() for text in texts(value)]
    return [text for one in found for text in texts(one)] if isinstance(found, list) else []


class TestSlack(ChannelTypeContract):
    type = SLACK
    settings = {"url": URL, "team": "Fjord AS", "channel": "#builds"}  # noqa: RUF012

    def check_request(self, request: Request) -> None:
        super().check_request(request)
        check_message(msgspec.json.decode(request.body))


@pytest.mark.parametrize("name", NICE)
def test_a_message_looks_like_its_example(name: str) -> None:
    wanted = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert message(NICE[name], origin_of(name)) == wanted


def test_without_labels_only_the_url_is_stored() -> None:
    assert dump(SETTINGS) == {"url": URL}
    assert SLACK.mask({"url": URL})["url"] == (
        f"https://hooks.slack.com/services/T024F4A92/B07GBUE3Z/{MASK}"
    )


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://chat.example/hooks/s3cret", f"https://chat.example/hooks/{MASK}"),
        ("https://chat.example:8065/hooks/s3cret/", f"https://chat.example:8065/hooks/{MASK}"),
        ("https://chat.example/hook?key=s3cret", f"https://chat.example/{MASK}"),
        ("https://chat.example/a/b#s3cret/x", f"https://chat.example/a/{MASK}"),
        ("https://chat.example?s3cret", f"https://chat.example/{MASK}"),
        ("https://chat.example", f"https://chat.example/{MASK}"),
        ("https://chat.example/s3cret", f"https://chat.example/{MASK}"),
        ("http://127.0.0.1:9/services/T/B/s3cret/x", f"http://127.0.0.1:9/services/T/B/{MASK}"),
        ("https://hooks.slack.com/services/T/B", f"https://hooks.slack.com/services/T/{MASK}"),
        (
            "https://discord.com/api/webhooks/17/s3cret/slack",
            f"https://discord.com/api/webhooks/17/{MASK}",
        ),
    ],
)
def test_the_secret_part_of_a_url_is_masked(url: str, masked: str) -> None:
    assert SLACK.mask({"url": url}) == {"url": masked}


def test_another_webhook_voids_what_was_known_of_the_old_one() -> None:
    stored = {"url": URL, "team": "Fjord AS", "channel": "#builds"}
    masked = SLACK.mask(stored)["url"]
    other = f"{URL}2"
    assert SLACK.merge_masked({"url": masked}, stored) == stored
    assert SLACK.merge_masked({"channel": "#ops"}, stored) == {**stored, "channel": "#ops"}
    assert SLACK.merge_masked({"url": other}, stored) == {"url": other}
    assert SLACK.merge_masked({"url": other, "team": "B"}, stored) == {"url": other, "team": "B"}
    with pytest.raises(Invalid, match=r"settings\.url"):
        SLACK.merge_masked({"url": masked.replace("B07", "B08")}, stored)


@pytest.mark.parametrize("name", ["team", "channel"])
def test_labels_are_bounded(name: str) -> None:
    SLACK.parse_settings({"url": URL, name: "x" * 256})
    for value in ("", "x" * 257):
        with pytest.raises(Invalid, match=rf"settings\.{name}"):
            SLACK.parse_settings({"url": URL, name: value})


@pytest.mark.parametrize(
    "words_of_somebody",
    [
        "<!channel>",
        "<!here|here>",
        "<!subteam^S0123>",
        "<@U024BE7LH>",
        "<#C024BE7LR>",
        "<https://evil.example|https://bank.example>",
        "@here",
        "@Channel",
        "hey @everyone!",
        "x@all",
        "&lt;!channel&gt;",
        "&amp;lt;!here>",
    ],
)
def test_nobody_is_called_and_nothing_is_linked(words_of_somebody: str) -> None:
    people = People(title=words_of_somebody, text=words_of_somebody)
    found = message(event({words_of_somebody: words_of_somebody}, people=people))
    for text in texts(found):
        assert "<" not in text
        assert "@here" not in text.lower()
        assert "@channel" not in text.lower()
    shown = words(found).replace("\u200b", "").splitlines()
    assert shown[0].endswith(f" {words_of_somebody}")
    assert shown[1:4] == [words_of_somebody] * 3


def test_addresses_of_people_stay_as_they_are() -> None:
    assert "\nmail ana@example.com now\n" in words(
        message(event({"text": "mail ana@example.com now"}))
    )


@pytest.mark.parametrize("markup", ["*bold*", "_x_", "~x~", "`x`", ":tada:", "a.b_ c", "- x", "*"])
def test_markup_is_shown_and_not_obeyed(markup: str) -> None:
    found = message(event({markup: markup, "text": markup}))
    assert found["mrkdwn"] is False
    fields = found["blocks"][2]["fields"]
    assert [one["type"] for one in fields] == ["plain_text", "plain_text"]
    assert [one["text"] for one in fields] == [markup, markup]
    assert found["blocks"][1]["text"] == {"type": "plain_text", "text": markup, "emoji": False}


def test_tame_labels_are_bold() -> None:
    found = message(event({"app": {"build_number": 7}, "Größe": 1, "two words": 2}))
    labels = found["blocks"][1]["fields"][::2]
    assert [one["text"] for one in labels] == ["*App build number*", "*Größe*", "*two words*"]


def test_limits_are_reached_and_not_crossed() -> None:
    fields = {f"{i} " + "&" * 100: "<" * 400 for i in range(30)}
    for char in ("x", "&", "🎉", "ü", "x ", "@a "):
        people = People(title=char * 256, text=char * 4096, fields=fields)
        found = message(event(people=people))
        sections = [block for block in found["blocks"] if "fields" in block]
        assert [len(block["fields"]) for block in sections] == [10, 10]
        shown = words(found).replace("\u200b", "")
        # The whole title and text are there, however many sections that takes.
        assert shown.replace("\n", "").replace(" ", "").count(char.strip()) >= 4096 // len(char)


def test_long_text_breaks_between_words() -> None:
    text = " ".join(["word"] * 800)
    found = message(event(people=People(text=text)))
    pieces = [block["text"]["text"] for block in found["blocks"][1:3]]
    assert " ".join(pieces) == text
    assert all(piece.endswith("word") for piece in pieces)


def test_a_link_says_where_it_leads() -> None:
    def link(url: str) -> Any:
        return message(event({"url": url}))["blocks"][1]

    assert link("https://ci.example.com/?a=1&b=2")["text"] == {
        "type": "mrkdwn",
        "text": "<https://ci.example.com/?a=1&amp;b=2|Open ci.example.com →>",
        "verbatim": True,
    }
    assert "|Open evil.example →>" in link("https://bank.example@evil.example/x")["text"]["text"]
    for odd in ("https://[::1/x", "https://müll.example/"):
        assert "|Open →>" in link(odd)["text"]["text"]
    long = "https://example.com/?" + "&" * 2000
    (button,) = link(long)["elements"]
    assert (button["url"], button["text"]["text"]) == (long, "Open example.com")


def test_the_fallback_tells_all_in_one_text() -> None:
    text = message(NICE["feedback.created"])["text"]
    assert text.splitlines() == [
        "💬 Feedback from Ana &lt;ana@example.com&gt; on Fjord 4.2.0",
        "Love the new map!",
        "Could it remember my last harbour?",
        "Rating: 5",
        "<https://apps.example/fjord/feedback/7>",
    ]


@pytest.mark.parametrize(
    ("type", "data", "icon"),
    [
        ("build.created", {"severity": "critical"}, "🚨"),
        ("build.created", {"level": "WARNING"}, "⚠️"),
        ("tocsin.channel.disabled", {}, "🔴"),
        ("tocsin.channel.recovered", {}, "✅"),
        ("alert.resolved", {}, "✅"),
        ("a.b", {}, "🔔"),
    ],
)
def test_an_icon_tells_how_bad_it_is(type: str, data: Any, icon: str) -> None:
    origin = Origin.OPERATIONAL if type.startswith("tocsin.") else Origin.EVENT
    assert message(event(data, type=type), origin)["text"].startswith(f"{icon} ")


def test_an_alert_is_told_as_one() -> None:
    data = {
        "alert_rule": {"id": "1", "name": "Too many failures"},
        "trigger_reason": "12 of 40 attempts failed",
        "trigger_data": {"failed": 12},
    }
    shown = words(message(event(data, type="alert.triggered"), Origin.ALERT)).splitlines()
    assert shown[:4] == ["🔴 Alert: Too many failures", data["trigger_reason"], "*Failed*", "12"]


@pytest.mark.parametrize("name", EVENTS)
def test_a_test_send_is_friendly_whatever_the_event(name: str) -> None:
    shown = words(message(EVENTS[name], Origin.TEST)).splitlines()
    assert shown[0] == "👋 Hello from Tocsin"
    assert "This is a test of the channel “The channel”." in shown[1]


@pytest.mark.parametrize(
    ("status", "body", "kind", "detail"),
    [
        (200, b"ok", Delivered, ""),
        (200, b"no_service", Delivered, ""),
        (400, b"invalid_blocks", Rejected, "400"),
        (400, b"invalid_payload", Rejected, "400"),
        (403, b"invalid_token", Rejected, "403 invalid_token: the webhook is not valid any more"),
        (403, b"action_prohibited", Rejected, "403 action_prohibited: "),
        (404, b"no_service", Rejected, "404 no_service: the webhook was removed"),
        (404, b"channel_not_found\n", Rejected, "404 channel_not_found: the Slack channel does"),
        (404, b"<html>", Rejected, "404"),
        (410, b"channel_is_archived", Gone, "410 channel_is_archived: the Slack channel is arch"),
        (429, b"", Retry, "429"),
        (500, b"rollback_error", Retry, "500"),
        (503, b"no_service", Retry, "503 no_service: "),
        (302, b"", Retry, "302"),
    ],
)
def test_what_slack_says_is_explained(status: int, body: bytes, kind: Any, detail: str) -> None:
    outcome = SLACK.judge(reply(status, "30", body), SETTINGS, NOW_MS)
    assert type(outcome) is kind
    if isinstance(outcome, Delivered):
        return
    assert outcome.reason is Reason.HTTP_STATUS
    if len(detail) == 3:
        assert outcome.detail == detail
    else:
        assert outcome.detail.startswith(detail)
    if isinstance(outcome, Retry):
        assert outcome.not_before_ms == 30_000
        assert outcome.holds_channel is (status in (429, 503))


@given(
    data=JSON,
    title=st.none() | st.text(max_size=256),
    text=st.none()
    | st.text(alphabet=st.sampled_from("<>&@ \n\0here!|*_`~x🎉ü\u202e"), max_size=4096),
    severity=st.sampled_from((None, "info", "warning", "error", "critical")),
    fields=st.none() | st.dictionaries(st.text(max_size=90), st.text(max_size=400), max_size=12),
    origin=st.sampled_from(Origin),
)
def test_whatever_happens_slack_takes_the_message(
    data: Any,
    title: str | None,
    text: str | None,
    severity: str | None,
    fields: dict[str, str] | None,
    origin: Origin,
) -> None:
    people = People(title=title, text=text, severity=severity, fields=fields)
    found = message(event(data, people=people), origin)
    assert not any("<!" in one or "<@" in one or "<#" in one for one in texts(found))

"""Discord messages: examples to look at, Discord's limits, and no payload taken for Markdown."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.channels.contract import CANARY, EVENTS, NOW_MS, ChannelTypeContract, event, reply
from tests.channels.contract import sending as sending_of
from tests.channels.test_slack import JSON, NICE, origin_of

from tocsin.channels import channel_types, dump
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Request
from tocsin.domain.model import Event, Origin, People
from tocsin.domain.outcome import Delivered, Gone, Reason, Rejected, Retry
from tocsin.domain.text import MASK

DISCORD = channel_types()["discord"]
URL = f"https://discord.com/api/webhooks/1181245711118483496/{CANARY}"
SETTINGS = DISCORD.parse_settings({"url": URL})
EXAMPLES = Path(__file__).parent / "discord"

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LIVE = re.compile(r"(?<!\\)(?:\\\\)*([*_~`|\[\]<>])")
_BARE_LINK = re.compile(r"https?://[A-Za-z0-9._/?#&=%+,;-]+")


def size(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def check_message(found: Any) -> None:
    """What Discord refuses, or would read as something else than words."""
    assert found.keys() <= {"content", "embeds", "allowed_mentions"}
    assert found["allowed_mentions"] == {"parse": []}
    assert 0 < size(found.get("content", "x")) <= 2000
    (embed,) = found["embeds"]
    assert embed.keys() <= {
        *("title", "url", "description", "color", "fields", "footer", "timestamp"),
    }
    assert 0 < size(embed["title"]) <= 256
    assert 0 < size(embed.get("description", "x")) <= 4096
    assert size(embed.get("url", "")) <= 2048
    assert 0 <= embed["color"] <= 0xFFFFFF
    assert len(embed.get("fields", ())) <= 25
    for one in embed.get("fields", ()):
        assert 0 < size(one["name"]) <= 256
        assert 0 < size(one["value"]) <= 1024
    assert sum(map(size, texts(embed))) <= 6000
    for text in (found.get("content", ""), *texts(embed)[:-1]):
        live = _LIVE.findall(_BARE_LINK.sub("", text))
        assert live == [], text
        assert "@everyone" not in text.lower()
        assert "@here" not in text.lower()


def texts(embed: Any) -> list[str]:
    """Everything that counts against the total, the footer last."""
    fields = [text for one in embed.get("fields", ()) for text in (one["name"], one["value"])]
    return [embed["title"], embed.get("description", ""), *fields, embed["footer"]["text"]]


def shown(text: str) -> str:
    """What people see of it."""
    return _ESCAPED.sub(r"\1", text).replace("\u200b", "")


def message(of: Event, origin: Origin = Origin.EVENT) -> Any:
    built = DISCORD.build(sending_of(of, origin=origin), SETTINGS)
    found = msgspec.json.decode(built.body)
    check_message(found)
    return found


def embed_of(of: Event, origin: Origin = Origin.EVENT) -> Any:
    return message(of, origin)["embeds"][0]


class TestDiscord(ChannelTypeContract):
    type = DISCORD
    settings = {"url": URL}  # noqa: RUF012
    body_bytes_max = 32_768

    def check_request(self, request: Request) -> None:
        super().check_request(request)
        check_message(msgspec.json.decode(request.body))


@pytest.mark.parametrize("name", NICE)
def test_a_message_looks_like_its_example(name: str) -> None:
    wanted = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    assert message(NICE[name], origin_of(name)) == wanted


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (f"{URL}?thread_id=7", f"https://discord.com/api/webhooks/1181245711118483496/{MASK}"),
        (
            "https://ptb.discord.com/api/v10/webhooks/17/s3cret",
            f"https://ptb.discord.com/api/v10/webhooks/17/{MASK}",
        ),
        (
            "http://127.0.0.1:9/api/webhooks/17/s3cret/",
            f"http://127.0.0.1:9/api/webhooks/17/{MASK}",
        ),
        ("https://chat.example/webhooks/s3cret", f"https://chat.example/webhooks/{MASK}"),
        ("https://chat.example/hook?key=s3cret", f"https://chat.example/{MASK}"),
        ("https://chat.example", f"https://chat.example/{MASK}"),
    ],
)
def test_the_token_is_masked(url: str, masked: str) -> None:
    assert DISCORD.mask({"url": url}) == {"url": masked}
    stored = dump(DISCORD.parse_settings({"url": url}))
    assert DISCORD.merge_masked({"url": masked}, stored) == stored


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com/api/webhooks/17",
        "https://discord.com/api/webhooks/17/token/slack",
        "https://discord.com/api/webhooks/17/token/github",
        "https://discord.com/channels/17/18",
        "https://DISCORD.com/api/webhooks/abc/token",
        "https://canary.discord.com/",
        "https://discordapp.com./api/webhooks/17",
    ],
)
def test_at_discord_only_a_webhook_works(url: str) -> None:
    with pytest.raises(Invalid, match=r"settings\.url"):
        DISCORD.parse_settings({"url": url})


@pytest.mark.parametrize(
    "url",
    [
        "https://discord.com/api/webhooks/17/token",
        "https://discordapp.com/api/webhooks/17/to-ke_n?thread_id=18",
        "https://canary.discord.com/api/v10/webhooks/17/token",
        "https://PTB.discord.com/api/webhooks/17/token",
        "https://discord.example/anything",
    ],
)
def test_urls_that_are_taken(url: str) -> None:
    DISCORD.parse_settings({"url": url})


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (URL, f"{URL}?wait=true"),
        (f"{URL}?thread_id=7", f"{URL}?thread_id=7&wait=true"),
        (f"{URL}?wait=false", f"{URL}?wait=false"),
        (f"{URL}#x", f"{URL}?wait=true"),
    ],
)
def test_discord_is_asked_to_say_whether_it_was_stored(url: str, asked: str) -> None:
    settings = DISCORD.parse_settings({"url": url})
    assert DISCORD.build(sending_of(), settings).url == asked


@pytest.mark.parametrize(
    "words",
    [
        "@everyone",
        "hey @HERE!",
        "<@80351110224678912>",
        "<@!80351110224678912>",
        "<@&165511591545143296>",
        "<#103735883630395392>",
        "<:mmLol:216154654256398347>",
        "<t:1618953630:R>",
        "</airhorn:816437322781949972>",
        "[bank](https://evil.example)",
        "<https://evil.example>",
        "**bold** __x__ *y* ~~z~~ ||spoiler||",
        "`code` ```block```",
        "> quote",
        "# heading",
        "-# small",
        "- item",
        "1. item",
        ":tada:",
        "back\\slash \\*x\\*",
        "a_b_c build_number",
    ],
)
def test_words_are_shown_and_not_obeyed(words: str) -> None:
    people = People(title=words, text=words)
    found = embed_of(event({"a": words}, people=people))
    for text in (found["title"].partition(" ")[2], found["description"]):
        assert shown(text) == words
        assert not re.search(r"(?<!\\):\w+:", text)
    assert not re.match(r"\s*(#|-#|[-+*] |>|[0-9]+\. )", found["description"])
    assert shown(found["fields"][0]["value"]) == words


def test_a_bare_link_stays_whole() -> None:
    text = "see https://ci.example/a_b_c?x=1&y=_2_ and *more*"
    assert embed_of(event({"text": text}))["description"] == (
        "see https://ci.example/a_b_c?x=1&y=_2_ and \\*more\\*"
    )


@pytest.mark.parametrize(
    "link", ["https://[::1/x", "https://müll.example/", "https://x_y.example/", "https://host/"]
)
def test_a_link_that_discord_may_refuse_stands_in_the_text(link: str) -> None:
    found = embed_of(event({"text": "words", "url": link}))
    assert "url" not in found
    assert shown(found["description"]) == f"words\n\n{link}"


def test_limits_are_reached_and_not_crossed() -> None:
    fields = {f"{i} " + "*" * 100: "_" * 400 for i in range(30)}
    for char in ("x", "*", "\\", "🎉", "ü", "x ", "@here ", "<@1>"):
        people = People(title=(char * 256)[:256], text=(char * 4096)[:4096], fields=fields)
        found = embed_of(event(people=people))
        assert size(found["description"]) > 2300
        assert found["description"].endswith("…")
        assert 5800 < sum(map(size, texts(found))) <= 6000
        people = People(title="t", text=(char * 4096)[:4096])
        assert size(embed_of(event({}, people=people))["description"]) >= 4000


def test_loud_news_are_told_outside_of_the_embed_too() -> None:
    assert "content" not in message(event({"title": "*a*"}))
    found = message(event({"title": "*a*", "severity": "critical"}))
    assert found["content"] == found["embeds"][0]["title"] == "🚨 \\*a\\*"


@pytest.mark.parametrize("name", EVENTS)
def test_a_test_send_is_friendly_whatever_the_event(name: str) -> None:
    found = embed_of(EVENTS[name], Origin.TEST)
    assert found["title"] == "👋 Hello from Tocsin"
    assert "This is a test of the channel “The channel”." in found["description"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "detail"),
    [
        (200, b'{"id": "1"}', Delivered, ""),
        (204, b"", Delivered, ""),
        (400, b'{"code": 50006, "message": "Cannot send an empty message"}', Rejected, "400"),
        (400, b'{"code": 220001}', Rejected, "400 220001: the webhook posts to a forum: add ?thre"),
        (401, b'{"code": 50027, "message": "x"}', Rejected, "401 50027: the webhook's token is no"),
        (404, b'{"code": 10015, "message": "Unknown Webhook"}', Rejected, "404 10015: the webhook"),
        (404, b'{"code": 10003}', Rejected, "404 10003: the Discord channel does not exist any mo"),
        (404, b'{"code": "10015"}', Rejected, "404"),
        (404, b"<html>", Rejected, "404"),
        (410, b"", Gone, "410"),
        (500, b'{"code": 0}', Retry, "500"),
        (302, b"", Retry, "302"),
    ],
)
def test_what_discord_says_is_explained(status: int, body: bytes, kind: Any, detail: str) -> None:
    outcome = DISCORD.judge(reply(status, None, body), SETTINGS, NOW_MS)
    assert type(outcome) is kind
    if isinstance(outcome, Delivered):
        return
    assert outcome.reason is Reason.HTTP_STATUS
    assert outcome.detail.startswith(detail)
    assert (outcome.detail == detail) is (len(detail) == 3)


@pytest.mark.parametrize(
    ("header", "body", "wait_ms"),
    [
        ("2", b"", 2000),
        ("0.65", b"", 650),
        ("1.0001", b'{"retry_after": 9}', 1001),
        (None, b'{"message": "x", "retry_after": 0.3, "global": false}', 300),
        (None, b'{"retry_after": 64}', 64_000),
        (None, b'{"retry_after": 1e300}', 86_400_000),
        ("999999.5", b"", 86_400_000),
        (None, b'{"retry_after": -1}', None),
        (None, b'{"retry_after": "3"}', None),
        (None, b"", None),
        ("-1.5", b'{"retry_after": 3.0}', None),
    ],
)
def test_a_rate_limit_holds_the_channel(
    header: str | None, body: bytes, wait_ms: int | None
) -> None:
    outcome = DISCORD.judge(reply(429, header, body), SETTINGS, NOW_MS)
    assert isinstance(outcome, Retry)
    assert outcome.not_before_ms == wait_ms
    assert outcome.holds_channel is (wait_ms is not None)


@given(
    data=JSON,
    title=st.none() | st.text(max_size=256),
    text=st.none()
    | st.text(alphabet=st.sampled_from("<>@[]()# \n\t-1.+:\\*_~`|here!🎉ü\u202e"), max_size=4096),
    severity=st.sampled_from((None, "info", "warning", "error", "critical")),
    fields=st.none() | st.dictionaries(st.text(max_size=90), st.text(max_size=400), max_size=12),
    origin=st.sampled_from(Origin),
)
def test_whatever_happens_discord_takes_the_message(
    data: Any,
    title: str | None,
    text: str | None,
    severity: str | None,
    fields: dict[str, str] | None,
    origin: Origin,
) -> None:
    people = People(title=title, text=text, severity=severity, fields=fields)
    message(event(data, people=people), origin)

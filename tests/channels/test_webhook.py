import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import standardwebhooks
import svix
from tests.channels.contract import CANARY, SECRET, ChannelTypeContract, event, sending

from tocsin import __version__
from tocsin.channels import channel_types
from tocsin.crypto.signing import new_secret
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Request
from tocsin.domain.model import Format, Origin, RetiringSecret, Secrets
from tocsin.domain.text import MASK

WEBHOOK = channel_types()["webhook"]
URL = "https://example.com/hook"


def now_s() -> int:
    """This moment: whoever verifies takes no signature of minutes ago."""
    return int(datetime.now(UTC).timestamp())


def signed(
    settings: dict[str, Any],
    *,
    secret: str = SECRET,
    retiring: tuple[RetiringSecret, ...] = (),
    format: Format | None = None,
    at_s: int | None = None,
) -> Request:
    this = sending(format=format)
    request = WEBHOOK.build(this, WEBHOOK.parse_settings(settings))
    secrets = Secrets(settings=settings, secret=secret, retiring=retiring)
    return WEBHOOK.sign(request, this, secrets, now_s() if at_s is None else at_s)


class TestWebhook(ChannelTypeContract):
    type = WEBHOOK
    settings = {  # noqa: RUF012
        "url": URL,
        "send_token": True,
        "signing_secret": f"{CANARY}-1",
        "auth": {"type": "basic", "username": "user", "password": f"{CANARY}-2"},
        "client_certificate": {"certificate": "chain", "private_key": f"{CANARY}-3"},
    }
    body_bytes_max = 262_144 + 1024


class TestWebhookWithABearerToken(TestWebhook):
    settings = TestWebhook.settings | {"auth": {"type": "bearer", "token": f"{CANARY}-2"}}


def test_the_request_of_a_delivery() -> None:
    request = WEBHOOK.build(
        sending(headers={"X-Api-Key": "abc"}), WEBHOOK.parse_settings({"url": URL})
    )
    assert request == Request(
        url=URL,
        headers=(
            ("content-type", "application/json"),
            ("user-agent", f"Tocsin/{__version__}"),
            ("tocsin-delivery", "5" * 24),
            ("tocsin-attempt", "3"),
            ("x-api-key", "abc"),
        ),
        body=(
            b'{"id":"333333333333333333333333","type":"build.created",'
            b'"timestamp":"2023-11-14T22:13:20.000Z","organization":"111111111111111111111111",'
            b'"project":"222222222222222222222222","data":{"n":1}}'
        ),
    )


@pytest.mark.parametrize(
    ("format", "content_type", "member"),
    [
        (None, "application/json", "id"),
        (Format.TOCSIN, "application/json", "id"),
        (Format.CLOUDEVENTS, "application/cloudevents+json", "specversion"),
        (Format.APPLIVERY, "application/json", "action"),
        (Format.HOOKSTREAM, "application/json", "event"),
    ],
)
def test_the_format_of_the_channel(format: Format | None, content_type: str, member: str) -> None:
    request = signed({"url": URL}, format=format)
    assert dict(request.headers)["content-type"] == content_type
    assert next(iter(msgspec.json.decode(request.body))) == member


@pytest.mark.parametrize("format", list(Format))
def test_foreign_libraries_verify_every_format(format: Format) -> None:
    secret, at_s = new_secret(), now_s()
    request = signed({"url": URL}, secret=secret, format=format, at_s=at_s)
    headers = dict(request.headers)
    assert headers["webhook-id"] == "3" * 24
    assert headers["webhook-timestamp"] == str(at_s)
    standardwebhooks.Webhook(secret).verify(request.body, headers)
    svix.Webhook(secret).verify(request.body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify(request.body + b" ", headers)


def test_a_retiring_secret_signs_until_its_time_is_up() -> None:
    old, gone, at_s = new_secret(), new_secret(), now_s()
    retiring = (
        RetiringSecret(old, (at_s + 1) * 1000),
        RetiringSecret(gone, at_s * 1000),
    )
    request = signed({"url": URL}, retiring=retiring, at_s=at_s)
    headers = dict(request.headers)
    for known in (SECRET, old):
        standardwebhooks.Webhook(known).verify(request.body, headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(gone).verify(request.body, headers)


@pytest.mark.parametrize("format", list(Format))
def test_hookstream_s_signature_comes_with_its_secret_whatever_the_format(format: Format) -> None:
    request = signed({"url": URL, "signing_secret": "hüsh"}, format=format)
    expected = hmac.new("hüsh".encode(), request.body, hashlib.sha256).hexdigest()
    assert dict(request.headers)["x-hookstream-signature"] == f"sha256={expected}"
    assert "x-hookstream-signature" not in dict(signed({"url": URL}).headers)


def test_the_token_is_sent_over_https_only_and_only_if_asked_for() -> None:
    asked = {"url": "HTTPS://example.com/hook", "send_token": True}
    assert dict(signed(asked).headers)["x-applivery-token"] == SECRET
    plain = {"url": "http://example.com/hook", "send_token": True}
    assert "x-applivery-token" not in dict(signed(plain).headers)
    assert "x-applivery-token" not in dict(signed({"url": URL}).headers)


def test_without_a_secret_nothing_is_sent() -> None:
    with pytest.raises(ValueError, match="signing secret"):
        WEBHOOK.sign(
            WEBHOOK.build(sending(), WEBHOOK.parse_settings({"url": URL})),
            sending(),
            Secrets(settings={"url": URL}),
            now_s(),
        )


def test_a_test_send_of_a_hookstream_channel() -> None:
    this = sending(event(type="tocsin.test"), origin=Origin.TEST, format=Format.HOOKSTREAM)
    body = msgspec.json.decode(WEBHOOK.build(this, WEBHOOK.parse_settings({"url": URL})).body)
    assert body["event"] == "test"
    assert body["channel"] == {"id": "4" * 24, "name": "The channel"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "ftp://example.com",
        "//example.com",
        "https://",
        "https:///x",
        "https://user@example.com",
        "https://user:pass@example.com/",
        "https://example.com/ x",
        "https://example.com\\@evil",
        "https://[::1%25eth0]/",
        "https://example.com:port/",
        f"https://example.com/{MASK}\x7f",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        WEBHOOK.parse_settings({"url": url})
    assert caught.value.problems[0].field == "settings.url"


def test_null_stands_for_the_default_and_omitted_keeps() -> None:
    stored = {"url": URL, "send_token": True, "signing_secret": "hush"}
    merged = WEBHOOK.merge_masked({"send_token": None, "signing_secret": MASK}, stored)
    assert merged == {"url": URL, "signing_secret": "hush"}
    assert WEBHOOK.merge_masked({"signing_secret": None}, stored) == {
        "url": URL,
        "send_token": True,
    }


def test_the_mask_in_a_url_is_refused() -> None:
    with pytest.raises(Invalid, match=r"settings\.url"):
        WEBHOOK.merge_masked({"url": f"https://example.com/{MASK}"}, {"url": URL})


def test_a_signing_secret_is_not_transmitted_and_survives_a_move() -> None:
    stored = {"url": URL, "signing_secret": "hush"}
    moved = {"url": "https://other.example/"}
    assert WEBHOOK.merge_masked(moved, stored)["signing_secret"] == "hush"
    assert WEBHOOK.merge_masked({**moved, "signing_secret": MASK}, stored) == {
        **moved,
        "signing_secret": "hush",
    }

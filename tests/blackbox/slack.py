"""A Slack to test against: the exchange of codes, and incoming webhooks that take Block Kit."""

import json
from typing import Any
from urllib.parse import parse_qs

from tests.blackbox.receiver import Answer, Receipt, Receiver, reply
from tests.channels.block_kit import check_message

ACCESS = "/api/oauth.v2.access"
CLIENT_ID = "4724469134.4644010092"
CLIENT_SECRET = "c1i3nt-53cr3t-0f-th3-4pp"
BOT_TOKEN = "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy"
REDIRECT_URI = "https://dashboard.example/slack/return"


class FakeSlack:
    """Knows codes; each gives a webhook once, unless `answers` has something else for it."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.answers: dict[str, Answer] = {}
        self.codes: dict[str, dict[str, Any]] = {}
        self.used: set[str] = set()
        receiver.behave(ACCESS, self._access)

    @property
    def api_url(self) -> str:
        return self.receiver.url("/api/")

    @property
    def asked(self) -> list[Receipt]:
        """Every exchange so far."""
        return self.receiver.at(ACCESS)

    def consent(self, code: str, *, team: Any = "Fjord AS", channel: Any = "#builds") -> str:
        """Somebody agrees on Slack's page; returns the path of the webhook of that code."""
        path = f"/services/T024F4A92/B07GBUE3Z/hook-of-{code}"
        self.receiver.behave(path, self._hook)
        self.codes[code] = {
            "ok": True,
            "access_token": BOT_TOKEN,
            "token_type": "bot",
            "scope": "incoming-webhook",
            "bot_user_id": "U0KRQLJ9H",
            "app_id": "A0KRD7HC3",
            "team": None if team is None else {"id": "T024F4A92", "name": team},
            "authed_user": {"id": "U1234"},
            "incoming_webhook": {
                "channel": channel,
                "channel_id": "C05002EAE",
                "configuration_url": "https://fjord.slack.com/services/B07GBUE3Z",
                "url": self.receiver.url(path),
            },
        }
        return path

    def webhook(self, name: str) -> str:
        """The URL of a webhook that was made by hand."""
        return self.receiver.url(f"/services/T024F4A92/B07GBUE3Z/{name}", self._hook)

    def _access(self, _number: int, receipt: Receipt) -> Answer:
        assert receipt.headers["content-type"] == "application/x-www-form-urlencoded"
        form = parse_qs(receipt.body.decode(), strict_parsing=True)
        (code,) = form["code"]
        if code in self.answers:
            return self.answers[code]
        if form["client_id"] != [CLIENT_ID]:
            return refusal("invalid_client_id")
        if form["client_secret"] != [CLIENT_SECRET]:
            return refusal("bad_client_secret")
        if code not in self.codes:
            return refusal("invalid_code")
        if form["redirect_uri"] != [REDIRECT_URI]:
            return refusal("bad_redirect_uri")
        if code in self.used:
            return refusal("code_already_used")
        self.used.add(code)
        return answer(self.codes[code])

    def _hook(self, _number: int, receipt: Receipt) -> Answer:
        try:
            check_message(receipt.json())
        except AssertionError:
            return reply(400, b"invalid_blocks")
        return reply(200, b"ok")


def answer(document: Any) -> Answer:
    """A JSON reply."""
    return reply(200, json.dumps(document).encode(), content_type="application/json")


def refusal(error: Any) -> Answer:
    """How Slack says no."""
    return answer({"ok": False, "error": error})

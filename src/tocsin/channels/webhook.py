"""Webhooks: a signed POST of the event in one of four envelopes, to a URL of the tenant's."""

from typing import Annotated

from msgspec import Meta

from tocsin.channels.base import USER_AGENT, ChannelType, Sending
from tocsin.channels.fields import SECRET_CHARS_MAX, URL_CHARS_MAX, Settings, field, secret
from tocsin.crypto.signing import hookstream_signature, sign
from tocsin.domain.envelope import CONTENT_TYPES, render
from tocsin.domain.exchange import Request
from tocsin.domain.model import Format, Secrets

_AGENT = ("user-agent", USER_AGENT)


class WebhookSettings(Settings, frozen=True):
    """Where the webhook goes and what proves its origin beside the standard signature."""

    url: Annotated[
        str,
        field(
            "URL",
            "Events are sent here as POST requests with a JSON body.",
            min_length=1,
            max_length=URL_CHARS_MAX,
        ),
    ]
    send_token: Annotated[
        bool,
        field(
            "Send the secret itself",
            "Adds the header X-Applivery-Token, for receivers that only compare a shared secret. "
            "Sent to https URLs only.",
        ),
    ] = False
    signing_secret: Annotated[
        Annotated[str, Meta(max_length=SECRET_CHARS_MAX)] | None,
        secret(
            "hookstream signing secret",
            "Adds the header X-hookstream-Signature: sha256= and the hex HMAC-SHA256 of the body.",
        ),
    ] = None


class Webhook(ChannelType[WebhookSettings]):
    """Signed by Standard Webhooks 1.0; every reply but 2xx and 410 is retried."""

    name = "webhook"
    title = "Webhook"
    docs_url = "https://www.standardwebhooks.com/"
    human = False
    has_headers = True
    has_format = True
    signs = True
    settings_type = WebhookSettings

    def build(self, sending: Sending, settings: WebhookSettings) -> Request:
        channel = sending.channel
        format = channel.format or Format.TOCSIN
        headers: tuple[tuple[str, str], ...] = (
            ("content-type", CONTENT_TYPES[format]),
            _AGENT,
            ("tocsin-delivery", sending.delivery_id),
            ("tocsin-attempt", str(sending.attempt_number)),
        )
        if sending.headers:
            headers += tuple([(name.lower(), value) for name, value in sending.headers.items()])
        return Request(
            url=settings.url,
            headers=headers,
            body=render(format, sending.event, sending.origin, channel),
        )

    def sign(
        self, request: Request, sending: Sending, secrets: Secrets, timestamp_s: int
    ) -> Request:
        """Add the Standard Webhooks triple, and the two older proofs where they are asked for.

        The message id is the event's, so that it is the same on every retry. Secrets that are
        being rotated out sign too until their time is up.
        """
        secret = secrets.secret
        if secret is None:
            raise ValueError("a webhook has a signing secret")
        keys = [secret]
        if secrets.retiring:
            keys += [old.secret for old in secrets.retiring if old.until_ms > timestamp_s * 1000]
        message_id = sending.event.id
        headers = (
            *request.headers,
            ("webhook-id", message_id),
            ("webhook-timestamp", str(timestamp_s)),
            ("webhook-signature", sign(keys, message_id, timestamp_s, request.body)),
        )
        own_secret = secrets.settings.get("signing_secret")
        if own_secret:
            proof = hookstream_signature(own_secret, request.body)
            headers += (("x-hookstream-signature", proof),)
        if secrets.settings.get("send_token") and request.url[:8].lower() == "https://":
            headers += (("x-applivery-token", secret),)
        return Request(url=request.url, headers=headers, body=request.body)


WEBHOOK = Webhook()

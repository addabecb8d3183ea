"""Webhooks: a signed POST of the event in one of four envelopes, to a URL of the tenant's."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from tocsin.channels.base import USER_AGENT, ChannelType, Sending
from tocsin.channels.fields import SECRET_CHARS_MAX, URL_CHARS_MAX, Settings, field, secret
from tocsin.crypto.certificates import PEM_CHARS_MAX, BadCertificate, check_pair, identity
from tocsin.crypto.signing import hookstream_signature, sign
from tocsin.domain.envelope import CONTENT_TYPES, render
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Request
from tocsin.domain.model import Format, Secrets
from tocsin.domain.text import MASK

USER_CHARS_MAX = 256
TOKEN_CHARS_MAX = 4000  # with "Bearer " before it, it fits where a header's value does

_AGENT = ("user-agent", USER_AGENT)


class BasicAuth(Settings, frozen=True, tag_field="type", tag="basic"):
    """User name and password, sent as `Authorization: Basic`."""

    username: Annotated[
        str,
        field("User name", "Without a colon.", min_length=1, max_length=USER_CHARS_MAX),
    ]
    password: Annotated[str, secret("Password", min_length=1, max_length=SECRET_CHARS_MAX)]


class BearerAuth(Settings, frozen=True, tag_field="type", tag="bearer"):
    """A token, sent as `Authorization: Bearer`."""

    token: Annotated[
        str,
        secret(
            "Token",
            "Printable ASCII without spaces.",
            min_length=1,
            max_length=TOKEN_CHARS_MAX,
        ),
    ]


class ClientCertificate(Settings, frozen=True):
    """What the target's TLS asks for; the certificate is readable, the key is not."""

    certificate: Annotated[
        str,
        field(
            "Certificate",
            "The client certificate and its chain in PEM, the client's own first.",
            min_length=1,
            max_length=PEM_CHARS_MAX,
        ),
    ]
    private_key: Annotated[
        str,
        secret(
            "Private key",
            "In PEM and not encrypted: RSA of 2048 to 4096 bits, P-256, P-384, P-521, or Ed25519.",
            min_length=1,
            max_length=PEM_CHARS_MAX,
        ),
    ]


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
    asymmetric_signature: Annotated[
        bool | UnsetType | None,
        field(
            "Sign with ed25519 too",
            "Adds a v1a signature of Standard Webhooks beside the v1 one; receivers verify it with "
            "the channel's public key, which is no secret.",
        ),
    ] = UNSET
    auth: Annotated[
        BasicAuth | BearerAuth | UnsetType | None,
        secret(
            "Authorization",
            "What the target is sent in the header Authorization. Forgotten when the URL gets "
            "another scheme, host or port.",
            transmitted=True,
        ),
    ] = UNSET
    client_certificate: Annotated[
        ClientCertificate | UnsetType | None,
        secret(
            "Client certificate",
            "For targets that ask for one in TLS; https URLs only. Forgotten when the URL gets "
            "another scheme, host or port.",
            transmitted=True,
        ),
    ] = UNSET


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

    def check(self, settings: WebhookSettings) -> None:
        super().check(settings)
        match settings.auth:
            case BasicAuth(username=username, password=password):
                if ":" in username:
                    raise Invalid("settings.auth.username", "must not contain a colon")
                _check_one_line(username, "settings.auth.username")
                _check_one_line(password, "settings.auth.password")
            case BearerAuth(token=token):
                if not (token.isascii() and token.isprintable()) or " " in token:
                    raise Invalid("settings.auth.token", "must be printable ASCII without spaces")
        if settings.client_certificate and not _secure(settings.url):
            raise Invalid("settings.client_certificate", "needs an https URL")

    def check_saved(self, settings: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """One Authorization only; a certificate and a key that belong together."""
        if settings.get("auth"):
            for name in headers:
                if name.lower() == "authorization":
                    raise Invalid(f"headers.{name}", "can't be given together with settings.auth")
        pair = settings.get("client_certificate")
        if pair:
            try:
                check_pair(pair["certificate"], pair["private_key"])
            except BadCertificate as error:
                where = f"settings.client_certificate.{error.member}"
                raise Invalid(where, str(error)) from None

    def signs_with_key(self, settings: Mapping[str, Any]) -> bool:
        return settings.get("asymmetric_signature") is True

    def mask_value(self, name: str, value: Any) -> Any:
        """Of an object only its secret members are masked."""
        if not isinstance(value, Mapping):
            return MASK
        shown = ("type", "username", "certificate")
        return {member: one if member in shown else MASK for member, one in value.items()}

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
        if settings.auth:
            headers += (("authorization", _authorization(settings.auth)),)
        pair = settings.client_certificate
        return Request(
            url=settings.url,
            headers=headers,
            body=render(format, sending.event, sending.origin, channel),
            identity=identity(pair.certificate, pair.private_key) if pair else None,
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
        if secrets.retiring or secrets.private_key is not None:
            keys = secrets.signing(timestamp_s * 1000)
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
        if secrets.settings.get("send_token") and _secure(request.url):
            headers += (("x-applivery-token", secret),)
        return Request(
            url=request.url, headers=headers, body=request.body, identity=request.identity
        )


def _secure(url: str) -> bool:
    return url[:8].lower() == "https://"


def _check_one_line(text: str, where: str) -> None:
    if "\n" in text or "\t" in text:
        raise Invalid(where, "must not contain control characters")


def _authorization(auth: BasicAuth | BearerAuth) -> str:
    if isinstance(auth, BearerAuth):
        return f"Bearer {auth.token}"
    return "Basic " + b64encode(f"{auth.username}:{auth.password}".encode()).decode()


WEBHOOK = Webhook()

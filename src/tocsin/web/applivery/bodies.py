"""What a client may send: unknown keys are ignored, null counts as absent."""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from tocsin.domain.applivery_events import flags_of
from tocsin.domain.errors import Invalid
from tocsin.domain.text import check_short
from tocsin.web import codec

DESCRIPTION_CHARS_MAX = 128
CODE_CHARS_MAX = 256
URL_CHARS_MAX = 256
URL_CHARS_MAX_ORGANIZATION = 500


class SetupIn(Struct):
    """Only the member that `type` names is read, so the other may hold anything."""

    slack: Any = None
    webhook: Any = None


class SlackIn(Struct, rename="camel"):
    """The answer of Slack's consent page."""

    code: str
    redirect_uri: str


class WebhookIn(Struct):
    """Where to send to."""

    url: str


class SetupChangeIn(Struct):
    """Of a change only the webhook is read; what else there is may hold anything."""

    webhook: Any = None


def _flags(name: str, *, organization_level: bool) -> type[Struct]:
    fields = [
        (flag.name, bool | None, None) for flag in flags_of(organization_level=organization_level)
    ]
    return msgspec.defstruct(name, fields, module=__name__)


ApplicationEventsIn = _flags("ApplicationEventsIn", organization_level=False)
OrganizationEventsIn = _flags("OrganizationEventsIn", organization_level=True)


class ApplicationNotificationIn(Struct):
    """A new notification of an application."""

    type: Literal["slack", "webhook"]
    events: ApplicationEventsIn | None = None  # type: ignore[valid-type]
    description: str | None = None
    setup: SetupIn | None = None


class OrganizationNotificationIn(Struct):
    """A new notification of an organization."""

    type: Literal["slack", "webhook"]
    events: OrganizationEventsIn  # type: ignore[valid-type]
    description: str | None = None
    setup: SetupIn | None = None


class ApplicationNotificationChangeIn(Struct):
    """Changes of a notification of an application; what is left out stays."""

    events: ApplicationEventsIn | None = None  # type: ignore[valid-type]
    description: str | None = None
    setup: SetupChangeIn | None = None


class OrganizationNotificationChangeIn(Struct):
    """Changes of a notification of an organization; what is left out stays."""

    events: OrganizationEventsIn | None = None  # type: ignore[valid-type]
    description: str | None = None
    setup: SetupChangeIn | None = None


def given_flags(events: Any) -> dict[str, bool]:
    """The flags that were said, by name."""
    if events is None:
        return {}
    flags: dict[str, bool | None] = msgspec.structs.asdict(events)
    return {name: value for name, value in flags.items() if value is not None}


def described(description: str | None) -> str | None:
    """The description within its bounds; an empty one is none."""
    if not description:
        return None
    check_short(description, "description", DESCRIPTION_CHARS_MAX)
    return description


def webhook_url(setup: SetupIn | SetupChangeIn | None, *, organization_level: bool) -> str:
    """The URL of a webhook; what it may be is the channel type's business."""
    webhook = _member(setup, "webhook", WebhookIn)
    url: str = webhook.url
    _bounded(url, "setup.webhook.url", _url_chars(organization_level))
    return url


def slack_consent(setup: SetupIn | None, *, organization_level: bool) -> SlackIn:
    """The code and URI to exchange at Slack."""
    consent: SlackIn = _member(setup, "slack", SlackIn)
    _bounded(consent.code, "setup.slack.code", CODE_CHARS_MAX)
    _bounded(consent.redirect_uri, "setup.slack.redirectUri", _url_chars(organization_level))
    return consent


def _url_chars(organization_level: bool) -> int:
    return URL_CHARS_MAX_ORGANIZATION if organization_level else URL_CHARS_MAX


def _member(setup: SetupIn | SetupChangeIn | None, name: str, type: Any) -> Any:
    raw = None if setup is None else getattr(setup, name)
    if raw is None:
        raise Invalid(f"setup.{name}", "is required")
    try:
        return msgspec.convert(raw, type)
    except msgspec.ValidationError as error:
        refused = codec.refusal(error)
        if not isinstance(refused, Invalid):
            raise refused from None
        (problem,) = refused.problems
        field = f"setup.{name}.{problem.field}".rstrip(".")
        raise Invalid(field, problem.message) from None


def _bounded(text: str, field: str, chars_max: int) -> None:
    check_short(text, field, chars_max)

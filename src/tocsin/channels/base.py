"""What a channel type is: a file with a settings struct, a pure `build`, at most a `judge`.

Retries, timeouts, the SSRF guard, body caps and breakers belong to engine and net; sealing and
merging of settings is the same for all types and stands here.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol

import msgspec
from msgspec import Struct

from tocsin import __version__
from tocsin.channels import fields
from tocsin.channels.fields import S
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.mail import Mail
from tocsin.domain.model import Channel, DeliveryId, Event, Origin, Secrets
from tocsin.domain.outcome import Delivered, Gone, Outcome, Reason, Rejected, Retry
from tocsin.domain.retry import parse_retry_after
from tocsin.domain.text import MASK

USER_AGENT = f"Tocsin/{__version__}"

_DELIVERED = Delivered()


class Sending(Struct, frozen=True, kw_only=True):
    """Everything one attempt is built from, beside the settings.

    `headers` are the channel's own, as they were checked; empty for types that have none.
    """

    delivery_id: DeliveryId
    attempt_number: int
    origin: Origin
    event: Event
    channel: Channel
    headers: Mapping[str, str]


class MailTransport(Protocol):
    """Who gives a mail to a mail server, for types that make mails."""

    async def send(
        self,
        mail: Mail,
        *,
        organization: str,
        timeout_seconds: float,
        may_write: Callable[[], bool],
    ) -> Reply:
        """The server's answer to the mail; its `status` is the SMTP code.

        `may_write` is asked once, directly before the mail is begun. That no answer came is
        raised, as the engine knows it.
        """
        ...


class Transports(Struct, frozen=True, kw_only=True):
    """What there is beside HTTP on this server; None is not configured."""

    mail: MailTransport | None = None


class ChannelType(Generic[S]):
    """One kind of target; an instance holds no state and is registered once.

    A type sets the class attributes and `settings_type`, and overrides `build`; `check`,
    `mask_value`, `judge`, `sign` where its target is different from others.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    docs_url: ClassVar[str | None] = None
    available: bool = True
    """Whether this installation can send to it; otherwise `install` says how to get there."""
    install: str | None = None
    human: ClassVar[bool] = True
    """Whether people read it: it then gets messages, and a 4xx reply is final."""
    has_headers: ClassVar[bool] = False
    has_format: ClassVar[bool] = False
    signs: ClassVar[bool] = False
    """Whether its channels have a Standard Webhooks secret, made with the channel."""
    speaks_http: ClassVar[bool] = True
    """Whether the engine sends what `build` made; otherwise it calls `send`."""

    settings_type: type[S]

    def __repr__(self) -> str:
        return f"<channel type {self.name}>"

    @property
    def secret_fields(self) -> frozenset[str]:
        """The settings that are masked wherever they are read."""
        return fields.marked(self.settings_type)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the settings; secrets are `writeOnly`."""
        return fields.schema(self.settings_type)

    def parse_settings(self, raw: Mapping[str, Any]) -> S:
        """The settings as their struct; raises Invalid naming `settings.<key>`."""
        settings = fields.parse(raw, self.settings_type)
        self.check(settings)
        return settings

    def check(self, settings: S) -> None:
        """Raise Invalid for what a struct's bounds can't say; `url` is checked for all types."""
        url = getattr(settings, "url", None)
        if isinstance(url, str):
            fields.check_url(url)

    def check_saved(self, settings: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Raise Invalid for settings and headers that don't go together, or that are too slow to
        check at every start; asked when either of them is saved. Nothing by default."""

    def signs_with_key(self, settings: Mapping[str, Any]) -> bool:
        """Whether a channel of these settings has an ed25519 key beside its secret."""
        return False

    def target_url(self, settings: Mapping[str, Any]) -> str | None:
        """The URL that deliveries go to, for the guard and for names; None where there is none."""
        url = settings.get("url")
        return url if isinstance(url, str) else None

    def moved(self, stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        """Whether the new settings point to another scheme, host or port than the stored."""
        before, after = self.target_url(stored), self.target_url(new)
        if before is None or after is None:
            return before is not after
        return fields.origin_of(before) != fields.origin_of(after)

    def mask_value(self, name: str, value: Any) -> Any:
        """What is shown in place of one secret value; must contain the mask."""
        return MASK

    def mask(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings as they are read by anyone."""
        hidden = self.secret_fields
        return {
            name: self.mask_value(name, value) if name in hidden and value is not None else value
            for name, value in settings.items()
        }

    def merge_masked(self, new: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        """The stored settings with the new members laid over; parse the result next.

        None stands for the default. Exactly today's masked text keeps a stored secret, any other
        value with the mask in it is Invalid. A secret that would be transmitted is forgotten when
        the URL gets another origin, and its masked text is then refused: else whoever may change
        the URL could read it. On create `stored` is empty.
        """
        today = self.mask(stored)
        hidden, known = self.secret_fields, self.settings_type.__struct_fields__
        merged = dict(stored)
        kept = set()
        for name, value in new.items():
            if value is None and name in known:
                merged.pop(name, None)
            elif not fields.has_mask(value):
                merged[name] = value
            elif name in hidden and name in stored and value == today[name]:
                kept.add(name)
            else:
                raise Invalid(f"settings.{name}", "is a masked value")
        if stored and self.moved(stored, merged):
            for name in fields.marked(self.settings_type, "transmitted"):
                if name in kept:
                    raise Invalid(
                        f"settings.{name}", "must be sent again, because the URL has another origin"
                    )
                if name not in new:
                    merged.pop(name, None)
        return merged

    def build(self, sending: Sending, settings: S) -> Request:
        """The request of an attempt, unsigned. Pure: the same input gives the same request."""
        raise NotImplementedError

    def sign(
        self, request: Request, sending: Sending, secrets: Secrets, timestamp_s: int
    ) -> Request:
        """The request as it is written, with what needs the moment of writing and the secrets."""
        return request

    def judge(self, reply: Reply, settings: S, now_ms: int) -> Outcome:
        """What a reply means for the delivery; `now_ms` is wall time, for dates in Retry-After."""
        return judge_status(reply, now_ms, patient=not self.human)

    def judge_failure(self, reason: Reason, detail: str = "") -> Outcome:
        """What it means that no reply came: always another try, never Rejected."""
        return Retry(reason, detail)

    def equipped(self, transports: Transports) -> "ChannelType[S]":
        """The type as it is on a server that has these transports: itself, unless it uses one."""
        return self

    async def send(
        self, sending: Sending, settings: S, may_write: Callable[[], bool]
    ) -> Reply | Outcome:
        """One attempt of a type that does not speak HTTP: a reply for `judge`, or the outcome.

        `may_write` is the send gate: it goes to the transport, which asks it directly before what
        can't be taken back. What a transport raises goes through. It must be cancellable at any
        point: the engine cancels it when the channel's timeout is over.
        """
        raise NotImplementedError


def judge_status(reply: Reply, now_ms: int, *, patient: bool) -> Outcome:
    """The outcome that a status code stands for; `patient` retries also a 4xx that people's
    targets mean for good.

    Retry-After on 429 and 503 holds the whole channel, on other statuses only this delivery.
    """
    status = reply.status
    if 200 <= status < 300:
        return _DELIVERED
    detail = str(status)
    if status == 410:
        return Gone(Reason.HTTP_STATUS, detail)
    if 400 <= status < 500 and status not in (408, 425, 429) and not patient:
        return Rejected(Reason.HTTP_STATUS, detail)
    wait_ms = parse_retry_after(reply.header("retry-after"), now_ms)
    return Retry(
        Reason.HTTP_STATUS,
        detail,
        not_before_ms=wait_ms,
        holds_channel=wait_ms is not None and status in (429, 503),
    )


def post_json(url: str, document: Any, headers: tuple[tuple[str, str], ...] = ()) -> Request:
    """A POST of a JSON document, for types whose target has its own message format."""
    return Request(
        url=url,
        headers=(("content-type", "application/json"), ("user-agent", USER_AGENT), *headers),
        body=msgspec.json.encode(document),
    )

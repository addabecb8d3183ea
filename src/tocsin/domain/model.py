"""The nouns of Tocsin, as frozen values. Times are integer milliseconds since the epoch, UTC."""

from enum import StrEnum
from typing import Any, NewType

from msgspec import Struct

OrganizationId = NewType("OrganizationId", str)
ProjectId = NewType("ProjectId", str)
KeyId = NewType("KeyId", str)
ChannelId = NewType("ChannelId", str)
EventId = NewType("EventId", str)
DeliveryId = NewType("DeliveryId", str)
JobId = NewType("JobId", str)
IssueId = NewType("IssueId", str)


class Origin(StrEnum):
    """Why a delivery exists. Only `event` (and `digest`) ones count in breaker and statistics."""

    EVENT = "event"
    TEST = "test"
    ALERT = "alert"
    OPERATIONAL = "operational"
    DIGEST = "digest"


class Status(StrEnum):
    """Where a delivery stands. `sending` is never stored: it is `waiting` held by a live node."""

    WAITING = "waiting"
    SENDING = "sending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    GROUPED = "grouped"


FINAL_STATUSES = (
    Status.DELIVERED,
    Status.EXHAUSTED,
    Status.REJECTED,
    Status.CANCELLED,
    Status.GROUPED,
)


class WaitingFor(StrEnum):
    """What a waiting delivery waits for, where it is not simply its turn."""

    RETRY = "retry"
    RATE_LIMIT = "rate_limit"
    BREAKER = "breaker"
    ORDER = "order"
    CHANNEL_DISABLED = "channel_disabled"
    QUIET_HOURS = "quiet_hours"
    DIGEST = "digest"


class Unmatched(StrEnum):
    """Why an event reached no channel."""

    NO_CHANNEL = "no_channel"
    NO_TYPE = "no_type"
    FILTERED = "filtered"


class IssueStatus(StrEnum):
    """Whether somebody has to look at an issue, is looking, or need not any more."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


class Role(StrEnum):
    """A named list of grants."""

    ADMIN = "admin"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class Format(StrEnum):
    """The envelope of a webhook body."""

    TOCSIN = "tocsin"
    CLOUDEVENTS = "cloudevents"
    APPLIVERY = "applivery"
    HOOKSTREAM = "hookstream"


class Organization(Struct, frozen=True, kw_only=True):
    """A tenant; nothing crosses its border."""

    id: OrganizationId
    name: str
    slug: str
    created_at: int
    updated_at: int


class Project(Struct, frozen=True, kw_only=True):
    """A part of an organization that emits events."""

    id: ProjectId
    organization_id: OrganizationId
    name: str
    slug: str
    created_at: int
    updated_at: int


class Key(Struct, frozen=True, kw_only=True):
    """A bearer credential of an organization, optionally of one project.

    `role` and `permissions` are united; neither means developer. `scopes` is the text a hookstream
    client gave, or None. The token itself is never kept, only its SHA-256.
    """

    id: KeyId
    organization_id: OrganizationId
    project_id: ProjectId | None
    name: str
    role: Role | None
    permissions: tuple[str, ...]
    scopes: str | None
    token_prefix: str
    expires_at: int | None
    last_used_at: int | None
    request_count: int
    created_at: int
    revoked_at: int | None = None


class Condition(Struct, frozen=True):
    """One line of a channel's filter; see `matching.py` for the semantics."""

    field: str
    op: str
    value: Any = None


class RateLimit(Struct, frozen=True, forbid_unknown_fields=True):
    """At most `count` sends per `per_seconds`, burst = count."""

    count: int
    per_seconds: int


class Breaker(Struct, frozen=True, forbid_unknown_fields=True):
    """Stop sending after `failures` in a row of different deliveries; probe every cooldown."""

    failures: int = 5
    cooldown_seconds: int = 60


DEFAULT_SCHEDULE = ("5s", "5m", "30m", "2h", "5h", "10h", "10h")


class Channel(Struct, frozen=True, kw_only=True):
    """One configured target of one channel type, as stored.

    `project_id` None is the whole organization. `sealed` is the encrypted `Secrets`; `version`
    rises with every change, so that an attempt made with older settings can be told.
    `schedule` holds the retry steps as the caller wrote them (`"5s"`).
    """

    id: ChannelId
    organization_id: OrganizationId
    project_id: ProjectId | None
    type: str
    name: str
    description: str | None
    event_types: tuple[str, ...]
    filter: tuple[Condition, ...]
    format: Format | None
    schedule: tuple[str, ...]
    timeout_seconds: float
    rate_limit: RateLimit | None
    max_in_flight: int | None
    ordered: bool
    breaker: Breaker | None
    enabled: bool
    disabled_reason: str | None
    sealed: bytes
    version: int
    created_at: int
    updated_at: int


class RetiringSecret(Struct, frozen=True):
    """A rotated signing secret, with the key of its time: both still sign until `until_ms`."""

    secret: str
    until_ms: int
    private_key: str | None = None


class Secrets(Struct, frozen=True, kw_only=True):
    """Everything of a channel that is sealed as one blob: settings, headers, signing secrets.

    `settings` is the type's own settings as plain JSON members; `secret` the Standard Webhooks
    signing secret (`whsec_…`) of types that sign, else None; `private_key` the ed25519 key
    (`whsk_…`) of those that were asked for one.
    """

    settings: dict[str, Any]
    headers: dict[str, str] = {}
    secret: str | None = None
    private_key: str | None = None
    retiring: tuple[RetiringSecret, ...] = ()

    def signing(self, now_ms: int) -> list[str]:
        """All that signs at this moment, today's first."""
        pairs = [(self.secret, self.private_key)]
        pairs += [(old.secret, old.private_key) for old in self.retiring if old.until_ms > now_ms]
        return [key for pair in pairs for key in pair if key is not None]


class Tracking(Struct, frozen=True, kw_only=True):
    """What a channel's lane remembers of its attempts."""

    last_sent_at: int | None = None
    error_count: int = 0
    last_error: str | None = None
    failing_streak: int = 0


class ChannelState(Struct, frozen=True, kw_only=True):
    """A channel with its tracking, as lists and reads show it."""

    channel: Channel
    tracking: Tracking


class People(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parts of an event that channels which people read may use; all optional."""

    title: str | None = None
    text: str | None = None
    severity: str | None = None
    link: str | None = None
    fields: dict[str, str] | None = None


class Event(Struct, frozen=True, kw_only=True):
    """A type, a JSON payload, a moment; immutable. `data` is the payload's bytes, verbatim."""

    id: EventId
    organization_id: OrganizationId
    project_id: ProjectId | None
    type: str
    data: bytes
    occurred_at: int
    created_at: int
    people: People | None = None


class StoredEvent(Struct, frozen=True, kw_only=True):
    """An event as reads show it."""

    event: Event
    idempotency_key: str | None
    deliveries: int
    unmatched: Unmatched | None


class Delivery(Struct, frozen=True, kw_only=True):
    """One event on its way to one channel, as reads show it (`status` may be `sending`)."""

    id: DeliveryId
    event_id: EventId
    event_type: str
    organization_id: OrganizationId
    channel_id: ChannelId
    project_id: ProjectId | None
    origin: Origin
    status: Status
    waiting_for: WaitingFor | None
    attempt_count: int
    next_attempt_at: int | None
    created_at: int
    finished_at: int | None
    last_status_code: int | None
    last_error: str | None


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of a delivery. `error` begins with a `Reason`; `response_body` is bounded text."""

    number: int
    started_at: int
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None
    superseded: bool = False


class Job(Struct, frozen=True, kw_only=True):
    """A durable piece of work in bounded steps."""

    id: JobId
    organization_id: OrganizationId
    kind: str
    channel_id: ChannelId | None
    status: str
    total: int | None
    done: int
    created_at: int
    finished_at: int | None


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who changed what, through which dialect, from where; secrets never."""

    id: str
    organization_id: OrganizationId
    at: int
    actor_kind: str
    actor_id: str | None
    actor_name: str
    dialect: str
    address: str | None
    action: str
    target_kind: str
    target_id: str
    changes: dict[str, Any]


class Issue(Struct, frozen=True, kw_only=True):
    """One kind of trouble with one channel, for as long as it lasts and whenever it comes back.

    `fingerprint` is the kind of error (`domain.issues`). `opened_at` is when it was opened last.
    `channel_name` is None once the channel is deleted.
    """

    id: IssueId
    organization_id: OrganizationId
    project_id: ProjectId | None
    channel_id: ChannelId
    channel_name: str | None
    fingerprint: str
    title: str
    status: IssueStatus
    snoozed_until: int | None
    occurrence_count: int
    first_seen_at: int
    last_seen_at: int
    opened_at: int
    resolved_at: int | None
    last_delivery_id: DeliveryId | None
    last_attempt_number: int | None
    last_event_id: EventId | None
    last_error: str | None
    last_status_code: int | None
    created_at: int
    updated_at: int

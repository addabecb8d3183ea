"""The objects of the native dialect: every field always there, times as ISO 8601."""

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.model import (
    Attempt,
    AuditEntry,
    Breaker,
    ChannelState,
    Condition,
    Delivery,
    Job,
    Key,
    Organization,
    Project,
    RateLimit,
    StoredEvent,
)
from tocsin.domain.streak import FAILING_AFTER
from tocsin.domain.text import iso
from tocsin.service.channels import Channels, SigningKeys
from tocsin.service.sight import Listing

T = TypeVar("T")


class ListOut(Struct, Generic[T]):
    """A page, newest first; `scanned_to` says where a long walk stopped before it was full."""

    data: list[T]
    next_cursor: str | None
    scanned_to: str | UnsetType = UNSET


class OrganizationOut(Struct):
    """A tenant."""

    id: str
    name: str
    slug: str
    created_at: str
    updated_at: str


class ProjectOut(Struct):
    """A part of an organization that emits events."""

    id: str
    organization_id: str
    name: str
    slug: str
    created_at: str
    updated_at: str


class KeyOut(Struct):
    """A bearer credential; `token` is there in the reply that makes it and never again."""

    id: str
    name: str
    role: str | None
    permissions: list[str]
    project_id: str | None
    token_prefix: str
    expires_at: str | None
    last_used_at: str | None
    created_at: str
    token: str | UnsetType = UNSET


class RetryOut(Struct):
    """How long to wait after each failed attempt."""

    schedule: list[str]


class ChannelOut(Struct, kw_only=True):
    """A configured target; `secret` is there in the reply that makes a webhook."""

    id: str
    organization_id: str
    project_id: str | None
    name: str
    type: str
    description: str | None
    settings: dict[str, Any]
    event_types: list[str]
    filter: list[Condition]
    enabled: bool
    headers: dict[str, str] | None
    format: str | None
    retry: RetryOut
    timeout_seconds: int | float
    rate_limit: RateLimit | None
    max_in_flight: int | None
    ordered: bool
    breaker: Breaker | None
    status: str
    disabled_reason: str | None
    last_sent_at: str | None
    error_count: int
    last_error: str | None
    created_at: str
    updated_at: str
    public_key: str | UnsetType = UNSET
    secret: str | UnsetType = UNSET


class EventOut(Struct, kw_only=True):
    """A published event; `deliveries` is a count in lists, the objects on a single read."""

    id: str
    organization_id: str
    project_id: str | None
    type: str
    data: msgspec.Raw
    idempotency_key: str | None
    occurred_at: str
    created_at: str
    deliveries: "int | list[DeliveryOut]"
    unmatched: str | None


class AttemptOut(Struct, kw_only=True):
    """One try of a delivery."""

    number: int
    started_at: str
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None
    superseded: bool


class DeliveryOut(Struct, kw_only=True):
    """One event on its way to one channel; a single read adds its attempts."""

    id: str
    event_id: str
    event_type: str
    channel_id: str
    project_id: str | None
    origin: str
    status: str
    waiting_for: str | None
    attempt_count: int
    next_attempt_at: str | None
    created_at: str
    finished_at: str | None
    last_status_code: int | None
    last_error: str | None
    attempts: list[AttemptOut] | UnsetType = UNSET


class JobOut(Struct, kw_only=True):
    """A piece of work in the background."""

    id: str
    kind: str
    channel_id: str | None
    status: str
    total: int | None
    done: int
    created_at: str
    finished_at: str | None


class ActorOut(Struct):
    """Who did something."""

    kind: str
    id: str | None
    name: str


class TargetOut(Struct):
    """What something was done to."""

    kind: str
    id: str


class AuditOut(Struct, kw_only=True):
    """A change that somebody made."""

    id: str
    at: str
    actor: ActorOut
    dialect: str
    address: str | None
    action: str
    target: TargetOut
    changes: dict[str, Any]


class SecretOut(Struct):
    """The signing secret of a webhook, and what verifies its `v1a` signatures if it has any."""

    secret: str
    public_key: str | UnsetType = UNSET


class TestOut(Struct):
    """How a test send went."""

    success: bool
    attempt: AttemptOut


class ChannelTypeOut(Struct):
    """A kind of target; `install` says what is missing where it is not available."""

    name: str
    title: str
    schema: dict[str, Any]
    secret_fields: list[str]
    docs_url: str | None
    available: bool
    install: str | None


class ChannelTypesOut(Struct):
    """Every channel type of this installation."""

    data: list[ChannelTypeOut]


def listed(listing: Listing[Any], items: list[T], cursor: str | None) -> ListOut[T]:
    """A page of a list."""
    scanned = UNSET if listing.scanned_to is None else iso(listing.scanned_to)
    return ListOut(items, cursor, scanned)


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso(ms)


def organization(o: Organization) -> OrganizationOut:
    """As shown."""
    return OrganizationOut(o.id, o.name, o.slug, iso(o.created_at), iso(o.updated_at))


def project(p: Project) -> ProjectOut:
    """As shown."""
    return ProjectOut(p.id, p.organization_id, p.name, p.slug, iso(p.created_at), iso(p.updated_at))


def key(k: Key, token: str | UnsetType = UNSET) -> KeyOut:
    """As shown; with the token only when it was just made."""
    return KeyOut(
        k.id,
        k.name,
        k.role,
        list(k.permissions),
        k.project_id,
        k.token_prefix,
        _iso(k.expires_at),
        _iso(k.last_used_at),
        iso(k.created_at),
        token,
    )


def channel(
    state: ChannelState, channels: Channels, secret: str | UnsetType | None = UNSET
) -> ChannelOut:
    """As shown, masked; with the secret only when it was just made."""
    c, tracking = state.channel, state.tracking
    settings, headers = channels.masked(state)
    seconds = c.timeout_seconds
    if not c.enabled:
        status = "disabled"
    else:
        status = "failing" if tracking.failing_streak >= FAILING_AFTER else "active"
    return ChannelOut(
        id=c.id,
        organization_id=c.organization_id,
        project_id=c.project_id,
        name=c.name,
        type=c.type,
        description=c.description,
        settings=settings,
        event_types=list(c.event_types),
        filter=list(c.filter),
        enabled=c.enabled,
        headers=headers,
        format=c.format,
        retry=RetryOut(list(c.schedule)),
        timeout_seconds=int(seconds) if seconds == int(seconds) else seconds,
        rate_limit=c.rate_limit,
        max_in_flight=c.max_in_flight,
        ordered=c.ordered,
        breaker=c.breaker,
        status=status,
        disabled_reason=c.disabled_reason,
        last_sent_at=_iso(tracking.last_sent_at),
        error_count=tracking.error_count,
        last_error=tracking.last_error,
        created_at=iso(c.created_at),
        updated_at=iso(c.updated_at),
        public_key=channels.public_key(state, settings) or UNSET,
        secret=secret or UNSET,
    )


def signing_keys(keys: SigningKeys) -> SecretOut:
    """As shown, in clear."""
    return SecretOut(keys.secret, keys.public_key or UNSET)


def event(stored: StoredEvent, deliveries: list[Delivery] | None = None) -> EventOut:
    """As shown; with its deliveries when it is read alone."""
    e = stored.event
    return EventOut(
        id=e.id,
        organization_id=e.organization_id,
        project_id=e.project_id,
        type=e.type,
        data=msgspec.Raw(e.data),
        idempotency_key=stored.idempotency_key,
        occurred_at=iso(e.occurred_at),
        created_at=iso(e.created_at),
        deliveries=(
            stored.deliveries if deliveries is None else [delivery(one) for one in deliveries]
        ),
        unmatched=stored.unmatched,
    )


def delivery(d: Delivery, attempts: list[Attempt] | None = None) -> DeliveryOut:
    """As shown; with its attempts when it is read alone."""
    return DeliveryOut(
        id=d.id,
        event_id=d.event_id,
        event_type=d.event_type,
        channel_id=d.channel_id,
        project_id=d.project_id,
        origin=d.origin,
        status=d.status,
        waiting_for=d.waiting_for,
        attempt_count=d.attempt_count,
        next_attempt_at=_iso(d.next_attempt_at),
        created_at=iso(d.created_at),
        finished_at=_iso(d.finished_at),
        last_status_code=d.last_status_code,
        last_error=d.last_error,
        attempts=UNSET if attempts is None else [attempt(one) for one in attempts],
    )


def attempt(a: Attempt) -> AttemptOut:
    """As shown."""
    return AttemptOut(
        number=a.number,
        started_at=iso(a.started_at),
        duration_ms=a.duration_ms,
        outcome=a.outcome,
        status_code=a.status_code,
        error=a.error,
        response_body=a.response_body,
        superseded=a.superseded,
    )


def job(j: Job) -> JobOut:
    """As shown."""
    return JobOut(
        id=j.id,
        kind=j.kind,
        channel_id=j.channel_id,
        status=j.status,
        total=j.total,
        done=j.done,
        created_at=iso(j.created_at),
        finished_at=_iso(j.finished_at),
    )


def audit_entry(a: AuditEntry) -> AuditOut:
    """As shown."""
    return AuditOut(
        id=a.id,
        at=iso(a.at),
        actor=ActorOut(a.actor_kind, a.actor_id, a.actor_name),
        dialect=a.dialect,
        address=a.address,
        action=a.action,
        target=TargetOut(a.target_kind, a.target_id),
        changes=a.changes,
    )

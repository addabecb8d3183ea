"""Publishing: a plain ASGI handler in front of the framework, because it is what there is most of.

`POST /api/v1/organizations/{org}/events` and `…/events/batch`. Same credentials, checks, order,
limits and errors as every native call, but for the request rate limit, which it does not have.
"""

import re
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tocsin.clock import Clock
from tocsin.domain.errors import (
    Forbidden,
    Invalid,
    Loop,
    PayloadTooLarge,
    RateLimited,
    TocsinError,
    Unauthenticated,
    Unavailable,
    UnsupportedEncoding,
)
from tocsin.domain.model import People, Unmatched
from tocsin.domain.permissions import Caller
from tocsin.domain.text import iso, parse_time
from tocsin.limits import TokenBuckets
from tocsin.service.publish import Accepted, EventDraft, Publisher
from tocsin.service.sight import Sight
from tocsin.telemetry.counts import RequestCounts
from tocsin.web import batch, codec
from tocsin.web.auth import Gate
from tocsin.web.dialects import Dialect, refuse
from tocsin.web.native.problems import Problem, problem
from tocsin.web.replies import (
    ClientGone,
    Pairs,
    Receive,
    Scope,
    Send,
    read_body,
    send_refusal,
    send_reply,
)

EVENT_BYTES_MAX = 262_144
BODY_BYTES_MAX = 1_048_576
BATCH_BYTES_MAX = 8 * 1_048_576
KEY_CHARS_MAX = 256
TITLE_CHARS_MAX = 256
TEXT_CHARS_MAX = 4_096
LINK_CHARS_MAX = 2_048
FIELDS_MAX = 50
FIELD_CHARS_MAX = 1_024
CHANNELS_MAX = 1_000

_YEAR_2000_MS = 946_684_800_000
_DAY_MS = 86_400_000
_PATH = re.compile(r"/+api/+v1/+organizations/+([^/]+)/+events(/+batch)?/*")
_PLAIN_PATH = re.compile(rb"/api/v1/organizations/([0-9a-f]{24})/events(/batch)?")
_UNUSUAL = frozenset(
    {
        b"content-encoding",
        b"expect",
        b"idempotency-key",
        b"tocsin-delivery",
        b"transfer-encoding",
        b"upgrade",
    }
)
_LINK = re.compile(r"https?://[^\s\x00-\x20\x7f\\]+", re.IGNORECASE)


class EventIn(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """An event to publish."""

    type: str
    data: msgspec.Raw
    project: str | None = None
    idempotency_key: str | None = None
    occurred_at: str | None = None
    channel_ids: list[str] | None = None
    title: str | None = None
    text: str | None = None
    severity: Literal["info", "warning", "error", "critical"] | None = None
    link: str | None = None
    fields: dict[str, str] | None = None


class BatchIn(Struct, forbid_unknown_fields=True):
    """1 to 1000 events; each is accepted or refused by itself."""

    events: list[EventIn]


class AcceptedOut(Struct, gc=False):
    """A stored event; with `duplicate`, the first one of its idempotency key."""

    id: str
    type: str
    created_at: str
    duplicate: bool
    mismatch: bool
    deliveries: int
    unmatched: Unmatched | None


class RefusedOut(Struct):
    """Why an event of a batch was not stored."""

    error: Problem


class _Results(Struct):
    results: list[AcceptedOut | RefusedOut]


class ResultOut(Struct):
    """What became of one event of a batch: as if published alone, or its error."""

    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    created_at: str | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    mismatch: bool | UnsetType = UNSET
    deliveries: int | UnsetType = UNSET
    unmatched: Unmatched | UnsetType | None = UNSET
    error: Problem | UnsetType = UNSET


class BatchOut(Struct):
    """One result per event, in order."""

    results: list[ResultOut]


_event = codec.decoder(EventIn)
_plain_batch = codec.decoder(BatchIn).decode
_encode = msgspec.json.Encoder().encode


class Known(Struct):
    """A publish whose sender is known before anything had to be waited for."""

    caller: Caller
    sight: Sight
    batch: bool


class _Head(Struct):
    """What the headers of a publish say."""

    looped: bool = False
    keys: tuple[bytes, ...] = ()


class PublishHandler:
    """Answers publishes; `matches` says which requests are some."""

    def __init__(
        self,
        *,
        gate: Gate,
        publisher: Publisher,
        clock: Clock,
        events_per_second: int = 0,
        counts: RequestCounts | None = None,
    ) -> None:
        self._gate = gate
        self._publisher = publisher
        self._clock = clock
        self._counts = counts or RequestCounts()
        self._calls = self._counts.calls(Dialect.NATIVE.value, "write")
        self._rate = TokenBuckets(events_per_second * 60, clock.monotonic, burst=events_per_second)

    @staticmethod
    def matches(scope: Scope) -> re.Match[str] | None:
        """The path's parts: organization, and whether it is a batch."""
        return _PATH.fullmatch(scope["path"])

    def known(self, path: bytes, headers: Pairs, peer: str | None) -> Known | None:
        """Who publishes, if the head says it all: a key at hand, in its own organization.

        None for whatever is not as usual: such a request goes the long way, which refuses it or
        does what it asks for.
        """
        match = _PLAIN_PATH.fullmatch(path)
        if match is None:
            return None
        token = length = None
        for name, value in headers:
            if name == b"authorization" and token is None:
                token = value
            elif name == b"content-length":
                length = value
            elif name in _UNUSUAL:
                return None
        most = BATCH_BYTES_MAX if match[2] else BODY_BYTES_MAX
        if token is None or length is None or not length.isdigit() or int(length[:19]) > most:
            return None
        try:
            caller = self._gate.at_hand(token, headers, peer)
        except Unauthenticated:
            return None
        own = None if caller is None else caller.organization_id
        if caller is None or own is None or own != match[1].decode():
            return None
        if not caller.may("event.publish"):
            return None
        sight = Sight(own, caller.project_id)
        return Known(caller, sight, match[2] is not None)

    async def answer(self, known: Known, body: bytes) -> bytes:
        """What a whole publish is answered with 202; raises what it is refused with."""
        if known.batch:
            return await self._many(known.caller, known.sight, body)
        return await self._one(known.caller, known.sight, body, None)

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, path: re.Match[str]
    ) -> None:
        """Answer one publish."""
        began = self.began()
        try:
            one_by_one = self._batch if path[2] else self._single
            body = await one_by_one(scope, receive, path[1])
        except ClientGone:
            return
        except Exception as error:
            refusal = refuse(scope, error)
            self.refused(began, refusal.status, error)
            await send_refusal(send, refusal)
        else:
            self.accepted(began)
            await send_reply(send, 202, body)

    def began(self) -> float:
        """A moment, for `accepted` and `refused`."""
        return self._clock.monotonic()

    def accepted(self, began: float) -> None:
        """Count a publish that began then and is answered with 202."""
        self._calls.answered(202, self._clock.monotonic() - began)

    def refused(self, began: float, status: int, error: Exception) -> None:
        """Count one that is answered with an error."""
        self._calls.answered(status, self._clock.monotonic() - began)
        self._counts.refused(error.code if isinstance(error, TocsinError) else TocsinError.code)

    async def _single(self, scope: Scope, receive: Receive, organization: str) -> bytes:
        gate = self._gate
        caller = await gate.identify(scope, Dialect.NATIVE)
        sight = await gate.sight(caller, organization)
        if not caller.may("event.publish"):
            raise Forbidden()
        head = _head(scope)
        body = await read_body(scope, receive, BODY_BYTES_MAX)
        if head.looped:
            raise Loop()
        return await self._one(caller, sight, body, _header_key(head))

    async def _one(self, caller: Caller, sight: Sight, body: bytes, key: str | None) -> bytes:
        if len(body) > EVENT_BYTES_MAX:
            body = body.strip(b" \t\r\n")
        draft = self._draft(body, key)
        self._count(sight, 1)
        (answer,) = await self._publisher.accept(caller, sight, (draft,))
        if isinstance(answer, TocsinError):
            raise answer
        return _encode(_accepted(answer))

    async def _batch(self, scope: Scope, receive: Receive, organization: str) -> bytes:
        gate = self._gate
        caller = await gate.identify(scope, Dialect.NATIVE)
        sight = await gate.sight(caller, organization)
        if not caller.may("event.publish"):
            raise Forbidden()
        head = _head(scope)
        body = await read_body(scope, receive, BATCH_BYTES_MAX)
        if head.looped:
            raise Loop()
        if head.keys:
            raise Invalid("Idempotency-Key", "a batch takes idempotency_key in each event")
        return await self._many(caller, sight, body)

    async def _many(self, caller: Caller, sight: Sight, body: bytes) -> bytes:
        drafts = self._plain_drafts(body)
        if drafts is None:
            drafts = []
            for part in await batch.split(body):
                try:
                    drafts.append(self._draft(part, None, checked=True))
                except TocsinError as error:
                    drafts.append(error)
        self._count(sight, len(drafts))
        answers = await self._publisher.accept(caller, sight, drafts)
        if all(isinstance(answer, Unavailable) for answer in answers):
            assert isinstance(answers[0], Unavailable)
            raise answers[0]
        for answer in answers:
            if isinstance(answer, TocsinError):
                self._counts.refused(answer.code)
        results = [
            RefusedOut(problem(answer)) if isinstance(answer, TocsinError) else _accepted(answer)
            for answer in answers
        ]
        return _encode(_Results(results))

    def _count(self, sight: Sight, events: int) -> None:
        budget = self._rate.take(sight.organization_id, events)
        if not budget.allowed:
            raise RateLimited("Too many events.", budget.retry_after_seconds)

    def _plain_drafts(self, body: bytes) -> list[EventDraft | TocsinError] | None:
        """All events of a small batch, decoded in one go; None if any of them needs a closer look.

        None of them can be larger than an event may be, and whatever is wrong is found again.
        """
        if len(body) > EVENT_BYTES_MAX or not codec.finite(body):
            return None
        try:
            body.decode()
            events = _plain_batch(body).events
            if 1 <= len(events) <= batch.EVENTS_MAX:
                return [self._checked(event, None) for event in events]
        except (ValueError, RecursionError, TocsinError):
            pass
        return None

    def _draft(self, body: bytes, key: str | None, checked: bool = False) -> EventDraft:
        """Decode and check one event; `checked` bytes are known to be UTF-8."""
        if len(body) > EVENT_BYTES_MAX:
            raise PayloadTooLarge(f"The event is larger than {EVENT_BYTES_MAX} bytes.")
        if not checked:
            codec.check_utf8(body)
        event = codec.decode_as(body, _event)
        codec.check_data(bytes(event.data))
        return self._checked(event, key)

    def _checked(self, event: EventIn, key: str | None) -> EventDraft:
        """The draft of an event whose numbers are known to be finite."""
        data = bytes(event.data)
        codec.check_data_depth(data)
        if event.idempotency_key is not None:
            _check_key(event.idempotency_key, "idempotency_key")
            if key is not None and key != event.idempotency_key:
                raise Invalid("idempotency_key", "differs from the header Idempotency-Key")
            key = event.idempotency_key
        draft = EventDraft(event.type, data, event.project, key)
        if event.occurred_at is not None:
            draft.occurred_at = self._occurred_at(event.occurred_at)
        if event.channel_ids is not None:
            draft.channel_ids = _channel_ids(event.channel_ids)
        if event.title or event.text or event.severity or event.link or event.fields:
            draft.people = _people(event)
        return draft

    def _occurred_at(self, text: str) -> int:
        moment = parse_time(text)
        if not _YEAR_2000_MS <= moment <= self._clock.wall_ms() + _DAY_MS:
            raise Invalid("occurred_at", "must be from 2000-01-01 to a day from now")
        return moment


def _head(scope: Scope) -> _Head:
    head = _Head()
    for name, value in scope["headers"]:
        if name == b"content-encoding":
            if value.strip().lower() not in (b"", b"identity"):
                raise UnsupportedEncoding()
        elif name == b"tocsin-delivery":
            head.looped = True
        elif name == b"idempotency-key":
            head.keys += (value,)
    return head


def _header_key(head: _Head) -> str | None:
    """The key of the header, checked: like the body it comes after encoding and size."""
    if not head.keys:
        return None
    if len(set(head.keys)) > 1:
        raise Invalid("Idempotency-Key", "is given twice")
    try:
        key = head.keys[0].decode()
    except UnicodeDecodeError:
        raise Invalid("Idempotency-Key", "must be UTF-8") from None
    _check_key(key, "Idempotency-Key")
    return key


def _check_key(key: str, field: str) -> None:
    if not (0 < len(key) <= KEY_CHARS_MAX and key.isprintable()):
        raise Invalid(field, f"must be 1 to {KEY_CHARS_MAX} printable characters")


def _channel_ids(ids: list[str]) -> list[str]:
    if not 1 <= len(ids) <= CHANNELS_MAX:
        raise Invalid("channel_ids", f"must name 1 to {CHANNELS_MAX} channels")
    return ids


def _people(event: EventIn) -> People:
    _check_long(event.title, "title", TITLE_CHARS_MAX)
    _check_long(event.text, "text", TEXT_CHARS_MAX)
    _check_long(event.link, "link", LINK_CHARS_MAX)
    if event.link and not _LINK.fullmatch(event.link):
        raise Invalid("link", "must be an absolute http or https URL")
    if event.fields:
        if len(event.fields) > FIELDS_MAX:
            raise Invalid("fields", f"must have at most {FIELDS_MAX} members")
        for name, value in event.fields.items():
            _check_long(name, "fields", TITLE_CHARS_MAX)
            _check_long(value, "fields", FIELD_CHARS_MAX)
    return People(
        title=event.title,
        text=event.text,
        severity=event.severity,
        link=event.link,
        fields=event.fields,
    )


def _check_long(text: str | None, field: str, chars_max: int) -> None:
    if text is not None and len(text) > chars_max:
        raise Invalid(field, f"must be at most {chars_max} characters long")


def _accepted(answer: Accepted) -> AcceptedOut:
    return AcceptedOut(
        answer.id,
        answer.type,
        iso(answer.created_at),
        answer.duplicate,
        answer.mismatch,
        answer.deliveries,
        answer.unmatched,
    )

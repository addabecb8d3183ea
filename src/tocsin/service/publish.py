"""Publish: match an event against its organization's routes and commit it with its deliveries.

The way of an event: `accept` matches, a batcher gathers concurrent publishes, ONE transaction
stores events and deliveries, and what this node claimed at birth goes straight to its lanes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import msgspec
from msgspec import Struct

from tocsin.batching import Batcher
from tocsin.clock import Clock
from tocsin.domain.errors import (
    Forbidden,
    Invalid,
    InvalidToken,
    NotFound,
    TocsinError,
    Unavailable,
)
from tocsin.domain.ids import IdMaker
from tocsin.domain.matching import type_reserved, type_valid
from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    People,
    ProjectId,
    Unmatched,
)
from tocsin.domain.permissions import Caller
from tocsin.service.intake import UNBOUNDED, Intake
from tocsin.service.notices import SOURCE, Notice, event_of
from tocsin.service.ports import Dispatch, Wanted
from tocsin.service.routing import Route, Routes, Routing
from tocsin.service.sight import Sight
from tocsin.storage.base import (
    DELIVERIES_PER_TRANSACTION_MAX,
    EVENTS_PER_TRANSACTION_MAX,
    Added,
    DataPlane,
    Duplicate,
    Held,
    NewDelivery,
    NewEvent,
    Stale,
    Stored,
)
from tocsin.telemetry.counts import PublishCounts
from tocsin.telemetry.families import PUBLISHES_WAITING
from tocsin.telemetry.instruments import Sample
from tocsin.telemetry.traces import Traces

EVENTS_WAITING_MAX = 20_000
DELIVERIES_PER_EVENT = DELIVERIES_PER_TRANSACTION_MAX // EVENTS_PER_TRANSACTION_MAX
EVENT_BYTES = 16 * 1024
"""So a transaction holds at most 2,000 events, 10,000 deliveries and 32 MiB, and what waits for
one ten times as much."""
REMATCHES_MAX = 20
_HOUR_MS = 3_600_000
_encode_people = msgspec.json.encode


class EventDraft(Struct):
    """A published event as decoded: `data` is its JSON text, verbatim and already vetted."""

    type: str
    data: bytes
    project: str | None = None
    idempotency_key: str | None = None
    occurred_at: int | None = None
    channel_ids: list[str] | None = None
    people: People | None = None


class Accepted(Struct):
    """The answer to one publish: committed, or the first event with the same key."""

    id: EventId
    type: str
    created_at: int
    duplicate: bool
    mismatch: bool
    deliveries: int
    unmatched: Unmatched | None


Answer = Accepted | TocsinError

_Match = tuple[EventDraft, ProjectId | None, Sequence[Route], Unmatched | None]
"""A draft with its project and the routes that want it, or why there is none."""


class Publisher:
    """Accepts events for an organization. A returned `Accepted` is committed."""

    def __init__(
        self,
        *,
        store: DataPlane,
        routing: Routing,
        dispatch: Dispatch,
        clock: Clock,
        ids: IdMaker,
        idempotency_hours: int,
        intake: Intake = UNBOUNDED,
    ) -> None:
        self._store = store
        self._routing = routing
        self._dispatch = dispatch
        self._clock = clock
        self._ids = ids
        self._intake = intake
        self._key_ms = idempotency_hours * _HOUR_MS
        self.counts = PublishCounts()
        self.traces: Traces | None = None
        self._batcher: Batcher[list[NewEvent], list[Added | Exception]] = Batcher(
            self._store_groups, weight_max=EVENTS_PER_TRANSACTION_MAX, turn=store.turn
        )

    async def close(self) -> None:
        """Wait for the transactions under way."""
        await self._batcher.close()

    def samples(self) -> Iterator[Sample]:
        """What a scrape of the metrics asks for."""
        yield from self.counts.samples()
        yield Sample(PUBLISHES_WAITING, (), self._batcher.waiting)

    async def accept(
        self, caller: Caller, sight: Sight, drafts: Sequence[EventDraft | TocsinError]
    ) -> list[Answer]:
        """Store events; one answer per draft, in order, each event atomic with its deliveries.

        Raises Forbidden, NotFound, InvalidToken, RateLimited or Unavailable when no draft can be
        taken; the last two for a flood of this organization. From the transaction on its outcome
        is the answer, whatever becomes of the caller.
        """
        if not caller.may("event.publish"):
            raise Forbidden()
        self._intake.admit(sight.organization_id)
        answers: list[Answer | None] = [
            draft if isinstance(draft, TocsinError) else None for draft in drafts
        ]
        left = [at for at, answer in enumerate(answers) if answer is None]
        for turn in range(REMATCHES_MAX):
            try:
                routes = await self._routes(caller, sight)
            except TocsinError as error:
                if not turn:
                    raise
                # Some may be stored by now: each has its own answer.
                return [error if answer is None else answer for answer in answers]
            # Nothing is waited for between this and the queue: many at once can't all pass.
            if not turn and not self._batcher.fits(sight.organization_id, EVENTS_WAITING_MAX):
                raise Unavailable("Too many publishes of this organization are waiting.")
            places, events = self._planned(routes, sight, drafts, left, answers)
            left = []
            stored = await self._submit(sight.organization_id, events)
            for place, event, added in zip(places, events, stored, strict=True):
                if type(added) is Stale:
                    left.append(place)
                else:
                    answers[place] = _answer(event, added)
            if not left:
                break
            if self._routing.cached(sight.organization_id) is routes:
                # Not what somebody else has read again by now.
                self._routing.invalidate(sight.organization_id)
        return [_moving() if answer is None else answer for answer in answers]

    async def tell(self, notice: Notice) -> bool:
        """Store an event of Tocsin's own, once, past what bounds and counts tenants' publishes.

        False when it was told before, or nobody is to get it: then nothing is stored. Raises
        Unavailable, or what the database has against it.
        """
        organization_id = notice.organization_id
        for _ in range(REMATCHES_MAX):
            try:
                routes = await self._routing.load(organization_id)
            except NotFound:
                return False
            event = event_of(
                notice, routes, clock=self._clock, new_id=self._ids.make, key_ms=self._key_ms
            )
            if event is None:
                return False
            # In a line of its own, past what its organization has waiting.
            (added,) = await self._batcher.submit([event], _weight(event), SOURCE)
            if isinstance(added, Exception):
                raise added
            if type(added) is not Stale:
                return type(added) is Stored
            if self._routing.cached(organization_id) is routes:
                self._routing.invalidate(organization_id)
        raise _moving()

    async def _routes(self, caller: Caller, sight: Sight) -> Routes:
        organization_id = sight.organization_id
        routes = self._routing.cached(organization_id)
        if routes is None:
            routes = await self._routing.load(organization_id)
        if caller.kind == "key" and caller.id not in routes.keys:
            raise InvalidToken()
        if sight.project_id is not None and not routes.has_project(sight.project_id):
            raise NotFound()
        return routes

    def _planned(
        self,
        routes: Routes,
        sight: Sight,
        drafts: Sequence[EventDraft | TocsinError],
        left: list[int],
        answers: list[Answer | None],
    ) -> tuple[list[int], list[NewEvent]]:
        """The drafts at the places `left` as events to store; an error is answered at once."""
        wall_ms = self._clock.wall_ms()
        due_ms = self._clock.storage_ms()
        places: list[int] = []
        matched: list[_Match] = []
        ids = 0
        for at in left:
            try:
                match = self._match(routes, sight, cast(EventDraft, drafts[at]))
            except TocsinError as error:
                answers[at] = error
            else:
                places.append(at)
                matched.append(match)
                ids += 1 + len(match[2])
        new_ids = iter(self._ids.make_many(wall_ms, ids))
        return places, [
            self._plan(routes, sight, match, wall_ms, due_ms, new_ids) for match in matched
        ]

    async def _submit(self, name: str, events: list[NewEvent]) -> list[Added | Exception]:
        if len(events) == 1:
            return await self._batcher.submit(events, _weight(events[0]), name)
        added: list[Added | Exception] = []
        for group, weight in _groups(events):
            try:
                added += await self._batcher.submit(group, weight, name)
            except Unavailable as error:
                # Of this group only: another one may be stored.
                added += [error] * len(group)
        return added

    def _match(self, routes: Routes, sight: Sight, draft: EventDraft) -> "_Match":
        project_id = _project(routes, sight, draft.project)
        wanted = routes.known(project_id, draft.type)
        if wanted is None:
            # What is known was valid when it was asked for first.
            if not type_valid(draft.type) or type_reserved(draft.type):
                raise Invalid("type", _type_trouble(draft.type))
            wanted = routes.wanting(project_id, draft.type)
        targets: Sequence[Route] = wanted.routes
        unmatched: Unmatched | None = None
        if draft.channel_ids is not None:
            targets = _named(routes, sight, draft.channel_ids)
        else:
            if wanted.filters:
                targets = _passing(wanted.routes, draft.data)
            if not targets:
                unmatched = routes.why_unmatched(project_id, wanted)
        return draft, project_id, targets, unmatched

    def _plan(
        self,
        routes: Routes,
        sight: Sight,
        match: "_Match",
        wall_ms: int,
        due_ms: int,
        new_ids: Iterator[str],
    ) -> NewEvent:
        draft, project_id, targets, unmatched = match
        event = Event(
            id=EventId(next(new_ids)),
            organization_id=sight.organization_id,
            project_id=project_id,
            type=draft.type,
            data=draft.data,
            occurred_at=wall_ms if draft.occurred_at is None else draft.occurred_at,
            created_at=wall_ms,
            people=draft.people,
        )
        planned = NewEvent(
            event=event,
            deliveries=[
                NewDelivery(DeliveryId(next(new_ids)), route.channel_id, False, route.ordered)
                for route in targets
            ],
            version=routes.version,
            due_ms=due_ms,
            unmatched=unmatched,
        )
        if draft.people is not None:
            planned.people = _encode_people(draft.people)
        if draft.idempotency_key is not None:
            planned.idempotency_key = draft.idempotency_key
            planned.digest = hashlib.sha256(draft.type.encode() + b"\0" + draft.data).digest()
            planned.key_expired_before = wall_ms - self._key_ms
        return planned

    async def _store_groups(
        self, groups: list[list[NewEvent]]
    ) -> list[list[Added | Exception] | BaseException]:
        events = [event for group in groups for event in group]
        wanted: list[Wanted] = []
        deliveries: list[NewDelivery] = []
        for event in events:
            organization_id, size = event.event.organization_id, len(event.event.data)
            for delivery in event.deliveries:
                wanted.append((organization_id, delivery.channel_id, size))
                deliveries.append(delivery)
        granted = self._dispatch.reserve(wanted)
        for delivery, grant in zip(deliveries, granted, strict=True):
            delivery.claim = grant
        held: list[Held] = []
        try:
            added = await self._store.add(events)
            self.counts.batches.observe(len(events))
            held = self._stored(events, added)
        except Unavailable:
            self.counts.refused += len(events)
            raise
        finally:
            self._hand_over(wanted, deliveries, events[0].due_ms, held)
        answers = iter(added)
        return [list(islice(answers, len(group))) for group in groups]

    def _stored(self, events: list[NewEvent], added: Sequence[Added | Exception]) -> list[Held]:
        """Count what became of events; returns what this node has claimed of them."""
        held: list[Held] = []
        waiting: dict[OrganizationId, int] = {}
        published, counts = Origin.EVENT, self.counts
        for item, answer in zip(events, added, strict=True):
            if type(answer) is Stored:
                event, deliveries = item.event, len(item.deliveries)
                organization_id = event.organization_id
                waiting[organization_id] = waiting.get(organization_id, 0) + deliveries
                counts.deliveries += deliveries
                if item.origin is published:
                    counts.accepted += 1
                    counts.unmatched += not deliveries
                    if self.traces is not None:
                        self.traces.published(event, deliveries, self._clock.wall_ms())
                if answer.claimed:
                    held += _held(item, answer)
            elif type(answer) is Duplicate:
                counts.duplicate += item.origin is published
            elif isinstance(answer, Unavailable):
                counts.refused += 1
        for organization_id, deliveries in waiting.items():
            self._intake.stored(organization_id, deliveries)
        return held

    def _hand_over(
        self,
        wanted: list[Wanted],
        deliveries: list[NewDelivery],
        due_ms: int,
        held: list[Held],
    ) -> None:
        """Offer what was claimed; what was reserved in vain or inserted free is the worker's."""
        if len(held) < len(wanted):
            claimed = {item.id for item in held}
            vain = [
                want
                for want, delivery in zip(wanted, deliveries, strict=True)
                if delivery.claim and delivery.id not in claimed
            ]
            self._dispatch.unreserve(vain)
            self._dispatch.wake(due_ms)
        self._dispatch.offer(held)


def _groups(events: list[NewEvent]) -> list[tuple[list[NewEvent], int]]:
    """Split between events where one transaction would hold too much; each part has its weight."""
    weights = [_weight(event) for event in events]
    if sum(weights) <= EVENTS_PER_TRANSACTION_MAX:
        return [(events, sum(weights))] if events else []
    groups: list[tuple[list[NewEvent], int]] = []
    group: list[NewEvent] = []
    total = 0
    for event, weight in zip(events, weights, strict=True):
        if group and total + weight > EVENTS_PER_TRANSACTION_MAX:
            groups.append((group, total))
            group, total = [], 0
        group.append(event)
        total += weight
    return [*groups, (group, total)]


def _weight(event: NewEvent) -> int:
    """A part of a transaction, in events: one of few deliveries and few bytes counts as one."""
    return 1 + len(event.deliveries) // DELIVERIES_PER_EVENT + len(event.event.data) // EVENT_BYTES


def _held(event: NewEvent, stored: Stored) -> list[Held]:
    deliveries = event.deliveries
    if len(stored.claimed) < len(deliveries):
        claimed = set(stored.claimed)
        deliveries = [delivery for delivery in deliveries if delivery.id in claimed]
    return [
        Held(
            delivery.id,
            1,
            delivery.channel_id,
            event.event,
            event.origin,
            1,
            0,
            0,
            event.due_ms,
        )
        for delivery in deliveries
    ]


def _moving() -> Unavailable:
    return Unavailable("The organization's channels change too fast.")


def _answer(event: NewEvent, added: Added | Exception) -> Answer:
    if type(added) is Stored:
        return Accepted(
            event.event.id,
            event.event.type,
            event.event.created_at,
            False,
            False,
            len(event.deliveries),
            event.unmatched,
        )
    if isinstance(added, Duplicate):
        return Accepted(
            added.event_id,
            added.type,
            added.created_at,
            True,
            added.mismatch,
            added.deliveries,
            added.unmatched,
        )
    if isinstance(added, TocsinError):
        return added
    if isinstance(added, Exception):
        # The driver has found this one event to be what the database refuses.
        return Invalid("", "The event can't be stored.")
    raise AssertionError("a stale answer is matched again before this")


def _type_trouble(text: str) -> str:
    if type_reserved(text):
        return "is reserved: it can't be published"
    return "must be segments of letters, digits, '_' and '-' joined by '.', at most 128 characters"


def _project(routes: Routes, sight: Sight, reference: str | None) -> ProjectId | None:
    bound = sight.project_id
    if reference is None:
        return bound
    project_id = routes.project(reference)
    if project_id is None or (bound is not None and project_id != bound):
        raise Invalid("project", "is unknown")
    return project_id


def _named(routes: Routes, sight: Sight, channel_ids: list[str]) -> list[Route]:
    """The channels an event names: past patterns, filter and level, but in the caller's sight."""
    if not channel_ids:
        raise Invalid("channel_ids", "must name at least one channel")
    found: dict[ChannelId, Route] = {}
    for at, channel_id in enumerate(channel_ids):
        route = routes.by_id.get(ChannelId(channel_id.lower()))
        if route is None or (sight.project_id is not None and route.project_id != sight.project_id):
            raise Invalid(f"channel_ids[{at}]", "is unknown")
        found[route.channel_id] = route
    return list(found.values())


def _passing(wanted: tuple[Route, ...], data: bytes) -> list[Route]:
    decoded = msgspec.json.decode(data)
    return [route for route in wanted if route.passes is None or route.passes(decoded)]

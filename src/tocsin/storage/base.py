"""What a store can do: a plural data plane, and a control plane of plain functions.

Every store is an async context manager. Its data plane is plural, each call is one transaction or
joins one; a failing item never fails another's (the driver splits the batch until the culprit is
alone). The control plane runs functions of a SQLAlchemy `Connection` (see `control.py`), reads in
a snapshot that can't write, writes in a transaction of their own.

Errors: `Unavailable` when the store can't be reached, is full, or the outcome of a commit is
unknown. Everything else a driver raises is translated in the driver, once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, TypeVar

from msgspec import Struct
from sqlalchemy import Connection

from tocsin.domain.model import (
    Breaker,
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    Status,
    Unmatched,
)
from tocsin.telemetry.instruments import Sample

T = TypeVar("T")

EVENTS_PER_TRANSACTION_MAX = 2_000
DELIVERIES_PER_TRANSACTION_MAX = 10_000
ROWS_PER_STEP_MAX = 5_000
NO_ROOMS: Mapping[ChannelId, int] = MappingProxyType({})


class NewDelivery(Struct):
    """A delivery to insert. `claim` asks for it to be claimed at birth by this node.

    `ordered`: its channel is. It gets its lane's next number (`lanes.last_seq`) in this transaction
    and is never claimed at birth.
    """

    id: DeliveryId
    channel_id: ChannelId
    claim: bool = False
    ordered: bool = False


class NewEvent(Struct):
    """An event to insert with its deliveries, matched against `version` of its organization.

    `due_ms` is storage time. `idempotency_key` is unique per (organization, project, `source`);
    a key older than `key_expired_before` (wall ms) is free again. `digest` tells a mismatch.
    """

    event: Event
    deliveries: list[NewDelivery]
    version: int
    due_ms: int
    unmatched: Unmatched | None = None
    origin: Origin = Origin.EVENT
    idempotency_key: str | None = None
    source: str = "api"
    digest: bytes = b""
    key_expired_before: int = 0
    people: bytes | None = None


class Stored(Struct):
    """The event and its deliveries are committed; `claimed` are in this node's hands."""

    claimed: list[DeliveryId]


class Duplicate(Struct):
    """The key was taken: nothing was stored; this is the first event."""

    event_id: EventId
    type: str
    created_at: int
    deliveries: int
    unmatched: Unmatched | None
    mismatch: bool


class Stale(Struct):
    """The organization has moved on since the event was matched: match again; nothing stored."""


Added = Stored | Duplicate | Stale


class Held(Struct):
    """A delivery claimed by this node: what a send needs, and the fence to settle it with.

    `number` is the attempt's number (from 1), `step` the index into the retry schedule, `lost`
    how often the delivery was lost with a node after its send began.
    """

    id: DeliveryId
    claim: int
    channel_id: ChannelId
    event: Event
    origin: Origin
    number: int
    step: int
    lost: int
    due_ms: int


class Claims(Struct):
    """What a claim got, and the moment (storage ms) the next lane falls due, if any."""

    held: list[Held]
    next_due_ms: int | None


class AttemptRecord(Struct):
    """What is kept of one try; `outcome` is delivered, retry, rejected or gone."""

    number: int
    started_at: int
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None


class Settlement(Struct):
    """How a held delivery goes on after its attempt.

    `status` is a final one, or `waiting` with `due_ms` and `step`. `hold_until_ms` holds the
    whole channel. `park` disables the channel for that reason (status must be waiting).
    `version` is the channel's version the attempt used: tracking always counts, but a hold, a
    park, the breaker or the failing streak only apply to the channel's current version.
    `breaker` is the channel's; what the attempt does to it is `domain.breaking.effect_of`. It
    matters for failures only: a success closes whatever is open.
    """

    id: DeliveryId
    claim: int
    organization_id: OrganizationId
    channel_id: ChannelId
    origin: Origin
    version: int
    status: Status
    finished_at: int
    due_ms: int
    step: int
    attempt: AttemptRecord
    hold_until_ms: int = 0
    park: str | None = None
    counts_in_streak: bool = True
    breaker: Breaker | None = None


class Settled(Struct):
    """What a settle did: which items did not apply any more, which channels it disabled, and whose
    breaker it opened, with the moment (storage ms) of the first probe. `noted`: something is to be
    told (see `outbox`), as far as is known."""

    superseded: list[DeliveryId]
    disabled: list[tuple[OrganizationId, ChannelId]]
    opened: list[tuple[ChannelId, int]] = []
    noted: bool = False


class Purged(Struct):
    """What a step of a purge has removed, and counted in the same transaction.

    `more`: there may be more to remove. `seconds` is how long others waited for this step.
    """

    events: int = 0
    deliveries: int = 0
    attempts: int = 0
    more: bool = False
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.events + self.deliveries + self.attempts


class DataPlane(Protocol):
    """The hot operations, each plural and atomic per item."""

    @property
    def node(self) -> int:
        """This process's node number, never used before."""
        ...

    async def turn(self) -> None:
        """Wait until what is submitted would begin at once; whoever gathers does so until then.

        What several submit after it goes as one transaction where that is cheaper.
        """
        ...

    async def add(self, events: Sequence[NewEvent]) -> list[Added | Exception]:
        """Store events with their deliveries; one answer per event, in order."""
        ...

    async def claim(
        self,
        *,
        now_ms: int,
        room: int,
        bytes_max: int,
        lane_room: int,
        full: Sequence[ChannelId],
        over: Sequence[OrganizationId] = (),
        rooms: Mapping[ChannelId, int] = NO_ROOMS,
    ) -> Claims:
        """Claim free due deliveries, oldest lane first, but for lanes in `full` and of
        organizations in `over`.

        A lane in `rooms` has room for so many instead of `lane_room`. Of an ordered lane the rows
        come by number, and only while no node holds any of it; a head that is not due yet, or
        fails and waits, keeps the rest. Of a lane whose breaker is not closed only a probe is
        claimed, from `breaker_until_ms` on.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Settled:
        """Record attempts and move their deliveries on, where id and claim still match."""
        ...

    async def release(self, held: Sequence[tuple[DeliveryId, int, ChannelId]]) -> None:
        """Give claimed deliveries back, untouched and uncounted (id, claim, channel)."""
        ...

    async def purge(self, before_ms: int) -> Purged:
        """Remove a bounded step of what is final and was made before a moment (wall ms)."""
        ...

    async def check_lanes(self, now_ms: int) -> int:
        """Repair lanes whose next due moment is wrong; returns how many were."""
        ...


class ControlPlane(Protocol):
    """Runs control-plane functions of a connection (see `control.py`)."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run in a read-only snapshot, at most 5 s."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run in a transaction of its own; an exception of `work` rolls back and is raised."""
        ...


class Store(DataPlane, ControlPlane, Protocol):
    """Both planes of one database, open."""

    @property
    def floor_ms(self) -> int:
        """The latest time stored before this process; ids are made above it."""
        ...

    @property
    def lease_until(self) -> float:
        """The moment (monotonic, s) until which what this node holds is its own for sure: no send
        starts that could outlast it. Infinite where there can be no other node."""
        ...

    @property
    def epoch(self) -> int:
        """Rises when this node's lease was lost: what was claimed before must not be sent."""
        ...

    def samples(self) -> Iterable[Sample]:
        """What a scrape of the metrics asks for; it may look at files."""
        ...

    async def note_time(self) -> None:
        """Store the storage time, for a later process to go on from."""
        ...

    async def ping(self) -> None:
        """Return when the database has answered; raises Unavailable."""
        ...

    async def forget_keys(self, before_ms: int, limit: int) -> int:
        """Delete up to `limit` idempotency keys made before a moment; returns how many."""
        ...

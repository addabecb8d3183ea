"""Rows of a lane become held: few at a time, as one value, within the room there is."""

import sqlite3

import msgspec

from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    People,
    ProjectId,
)
from tocsin.storage.base import Held
from tocsin.storage.sqlite.adding import one_value
from tocsin.storage.sqlite.rows import Row

ROWS_PER_LOOK = 64
ROWS_PER_LOOK_MAX = 512
LOOK_BYTES = 1024 * 1024
"""What is read in one look should be about so much, as far as the last one lets guess."""

# Rows come as one JSON value: fetched one by one, each would hand the interpreter lock to the
# event loop and wait to get it back.
_ROWS = """
    SELECT json_group_array(json_array(id, channel_id, claim, due_ms, attempt_count, step, lost,
        origin, event_id, organization_id, project_id, type, length(data), CAST(data AS TEXT),
        occurred_at, created_at, CAST(people AS TEXT))) FROM (
        SELECT d.id, d.channel_id, d.claim, d.due_ms, d.attempt_count, d.step, d.lost, d.origin,
            e.id AS event_id, e.organization_id, e.project_id, e.type, e.data, e.occurred_at,
            e.created_at, e.people
        FROM deliveries AS d {index} JOIN events AS e ON e.id = d.event_id
        WHERE {where} LIMIT ?)
"""

_HOLD = """
    UPDATE deliveries SET claim = claim + 1, node = ?
    WHERE id IN (SELECT value FROM json_each(?))
"""


def due_rows(where: str, index: str = "") -> str:
    """The statement that gives rows for `Taking.hold`; its last parameter is how many at most."""
    return _ROWS.format(index=index and f"INDEXED BY {index}", where=where)


class Due(msgspec.Struct, array_like=True):
    """One due delivery with its event, as `due_rows` gives it; `size` is that of its data."""

    id: DeliveryId
    channel_id: ChannelId
    claim: int
    due_ms: int
    attempt_count: int
    step: int
    lost: int
    origin: Origin
    event_id: EventId
    organization_id: OrganizationId
    project_id: ProjectId | None
    type: str
    size: int
    data: str
    occurred_at: int
    created_at: int
    people: str | None


_decode_due = msgspec.json.Decoder(list[Due]).decode
_decode_people = msgspec.json.Decoder(People).decode


class Taking:
    """What a claim has taken so far, and how much more it may."""

    def __init__(
        self, connection: sqlite3.Connection, node: int, room: int, bytes_room: int
    ) -> None:
        self.connection = connection
        self._node = node
        self.room = room
        self.bytes_room = bytes_room
        self.held: list[Due] = []

    @property
    def over(self) -> bool:
        """Whether there is no room for any more."""
        return self.room <= 0 or self.bytes_room <= 0

    def look(self, statement: str, parameters: Row) -> list[Due]:
        """What a statement of `due_rows` finds; nothing is held by it."""
        return _decode_due(one_value(self.connection, statement, parameters))

    def hold(self, found: list[Due]) -> int:
        """Hold as many as there is room for; returns how many."""
        kept = _within(found[: self.room], self.bytes_room)
        if kept:
            ids = msgspec.json.encode([item.id for item in kept]).decode()
            self.connection.execute(_HOLD, (self._node, ids))
        self.held += kept
        self.room -= len(kept)
        self.bytes_room -= sum(item.size for item in kept)
        return len(kept)


def held(row: Due) -> Held:
    """What is held of a row; made on the event loop, as the writer has better to do."""
    return Held(
        id=row.id,
        claim=row.claim + 1,
        channel_id=row.channel_id,
        event=Event(
            id=row.event_id,
            organization_id=row.organization_id,
            project_id=row.project_id,
            type=row.type,
            data=row.data.encode(),
            occurred_at=row.occurred_at,
            created_at=row.created_at,
            people=None if row.people is None else _decode_people(row.people),
        ),
        origin=row.origin,
        number=row.attempt_count + 1,
        step=row.step,
        lost=row.lost,
        due_ms=row.due_ms,
    )


def rows_to_look(found: list[Due]) -> int:
    """How many rows the next look may ask for, if they are as large as these."""
    size = sum(item.size for item in found) // len(found) + 1
    return max(1, min(LOOK_BYTES // size, ROWS_PER_LOOK_MAX))


def _within(items: list[Due], bytes_max: int) -> list[Due]:
    """As many as fit; the first always does, or a large event would wait for ever."""
    kept: list[Due] = []
    for item in items:
        if kept and bytes_max <= 0:
            break
        bytes_max -= item.size
        kept.append(item)
    return kept

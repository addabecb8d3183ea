"""Rows of lanes become held, within the room there is."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tocsin.domain.model import ChannelId, Event, Origin, People
from tocsin.storage.base import Held
from tocsin.storage.postgres.writer import Transaction

FOUND = """
    d.id, d.claim, d.due_ms, d.attempt_count, d.step, d.lost, d.origin, d.event_id,
    octet_length(e.data)
"""
"""What is read of a delivery and its event before it is held: the payload's length only."""

# Payloads are read of what is held and nothing else.
_HOLD = """
    WITH held AS (
        UPDATE deliveries SET claim = claim + 1, node = $1
        WHERE id = ANY ($2::text[]) AND id BETWEEN $3 AND $4
    )
    SELECT id, organization_id, project_id, type, data, occurred_at, created_at, people
    FROM events WHERE id = ANY ($5::text[]) AND id BETWEEN $6 AND $7
"""

Found = Any
"""A row of `FOUND`."""

_decode_people = msgspec.json.Decoder(People).decode


class Taking:
    """What a claim has taken so far, and how much more it may."""

    def __init__(self, at: Transaction, room: int, bytes_room: int) -> None:
        self.at = at
        self.room = room
        self.bytes_room = bytes_room
        self.held: list[Held] = []

    @property
    def over(self) -> bool:
        """Whether there is no room for any more."""
        return self.room <= 0 or self.bytes_room <= 0

    async def hold(self, found: Sequence[tuple[ChannelId, Found]]) -> None:
        """Hold as many as there is room for; the caller has locked them."""
        kept: list[tuple[ChannelId, Found]] = []
        for channel_id, row in found[: self.room]:
            # The first always fits, or a large event would wait for ever.
            if (kept or self.held) and self.bytes_room <= 0:
                break
            self.bytes_room -= row[8]
            kept.append((channel_id, row))
        self.room -= len(kept)
        if not kept:
            return
        ids = sorted(row[0] for _, row in kept)
        event_ids = sorted({row[7] for _, row in kept})
        events = await self.at.connection.fetch(
            _HOLD, self.at.node, ids, ids[0], ids[-1], event_ids, event_ids[0], event_ids[-1]
        )
        by_id = {row[0]: _event(row) for row in events}
        self.held += [_held(row, channel_id, by_id[row[7]]) for channel_id, row in kept]


def _event(row: Any) -> Event:
    people = row[7]
    return Event(
        id=row[0],
        organization_id=row[1],
        project_id=row[2],
        type=row[3],
        data=row[4],
        occurred_at=row[5],
        created_at=row[6],
        people=None if people is None else _decode_people(people),
    )


def _held(row: Found, channel_id: ChannelId, event: Event) -> Held:
    return Held(
        id=row[0],
        claim=row[1] + 1,
        channel_id=channel_id,
        event=event,
        origin=Origin(row[6]),
        number=row[3] + 1,
        step=row[4],
        lost=row[5],
        due_ms=row[2],
    )

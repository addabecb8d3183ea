"""What the event loop makes of a batch before it goes to the writer.

The writer's thread shares the interpreter with a busy event loop, and every time it needs it, it
waits for it. So it should have little left to do but hand over to the database what is ready.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tocsin.domain.model import ChannelId, Status
from tocsin.storage.base import NewEvent, Settlement
from tocsin.storage.notes import minute_rows, project_rows
from tocsin.storage.settlements import tallied
from tocsin.storage.sqlite.rows import Row, texts

SMALL_BYTES = 4_096
"""Payloads up to here go to the database many at a time."""


B = TypeVar("B")
T = TypeVar("T")


def made(kind: Callable[[Sequence[T], int], B], items: Sequence[T], node: int) -> B | None:
    """The batch of these items, or None if something in one of them can't go into one: the writer
    meets that again, and splits until the culprit is alone."""
    try:
        return kind(items, node)
    except Exception:
        return None


class AddBatch:
    """Events to store.

    Their rows are in the order of the statements in `adding.py`; one of a delivery says whether it
    is to be claimed at birth, if its lane is open. The moments are storage ms.
    """

    __slots__ = (
        "counts",
        "deliveries",
        "free",
        "large",
        "numbered",
        "plain",
        "small",
        "unwanted",
        "wanted",
    )

    def __init__(self, items: Sequence[NewEvent], node: int) -> None:
        small: list[Row] = []
        plain: list[Row] = []
        self.large: list[Row] = []
        self.numbered: dict[ChannelId, list[Row]] = {}
        # Channels to be claimed from, with the due moment of the first delivery that is.
        self.wanted: dict[ChannelId, int] = {}
        # The earliest moment of what stays free if its lane is shut, and of what does anyway.
        self.free: dict[ChannelId, int] = {}
        self.unwanted: dict[ChannelId, int] = {}
        for item in items:
            self._event(item, small)
            event_id, due_ms, origin = item.event.id, item.due_ms, item.origin
            for delivery in item.deliveries:
                channel_id, claim = delivery.channel_id, delivery.claim
                if claim:
                    self.wanted.setdefault(channel_id, due_ms)
                elif due_ms < self.unwanted.get(channel_id, due_ms + 1):
                    self.unwanted[channel_id] = due_ms
                if due_ms < self.free.get(channel_id, due_ms + 1):
                    self.free[channel_id] = due_ms
                row = (delivery.id, event_id, channel_id, origin, due_ms, claim)
                if delivery.ordered:
                    self.numbered.setdefault(channel_id, []).append(row)
                else:
                    plain.append(row)
        self.small = texts(small)
        self.plain = texts(plain)
        self.deliveries = sum(len(item.deliveries) for item in items)
        self.counts = project_rows(items, node)

    def _event(self, item: NewEvent, small: list[Row]) -> None:
        event = item.event
        rest = (
            event.id,
            event.organization_id,
            event.project_id,
            event.type,
            item.people,
            item.idempotency_key,
            event.occurred_at,
            event.created_at,
            len(item.deliveries),
            item.unmatched,
        )
        as_text = _as_text(event.data, item.people)
        if as_text is None:
            self.large.append((event.data, *rest))
        else:
            small.append((as_text[0], *rest[:4], as_text[1], *rest[5:]))


def _as_text(data: bytes, people: bytes | None) -> tuple[str, str | None] | None:
    """A small payload and what is for people as texts that come back as the very same bytes; None
    where that is not certain."""
    if len(data) > SMALL_BYTES or b"\0" in data or (people is not None and b"\0" in people):
        return None
    try:
        return data.decode(), None if people is None else people.decode()
    except UnicodeDecodeError:
        return None


class SettleBatch:
    """Settlements, all of which should apply: nearly all are `plain` successes."""

    __slots__ = ("items", "minutes", "others", "plain", "tallies")

    def __init__(self, items: Sequence[Settlement], node: int) -> None:
        plain: list[Row] = []
        self.items = items
        self.others: list[Settlement] = []
        for item in items:
            row = _plain_row(item)
            if row is None:
                self.others.append(item)
            else:
                plain.append(row)
        self.plain = texts(plain)
        self.tallies = tallied(items)
        self.minutes = minute_rows(items, node)


def _plain_row(item: Settlement) -> Row | None:
    """A success as a row, if there is nothing to tell of it; its moment and step stay."""
    attempt = item.attempt
    body = attempt.response_body
    if (
        item.status is not Status.DELIVERED
        or attempt.error is not None
        or (body is not None and "\0" in body)
    ):
        return None
    return (
        item.id,
        item.claim,
        item.organization_id,
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        attempt.outcome,
        attempt.status_code,
        body,
        item.finished_at,
    )

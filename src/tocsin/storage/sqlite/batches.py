"""What the event loop makes of a batch before it goes to the writer.

The writer's thread shares the interpreter with a busy event loop, and every time it needs it, it
waits for it. So it should have little left to do but hand over to the database what is ready.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tocsin.domain.model import ChannelId, Origin, Status
from tocsin.storage.base import NewEvent, Settlement
from tocsin.storage.notes import minute_rows, project_rows
from tocsin.storage.settlements import tallied
from tocsin.storage.sqlite.rows import Layout, Row, texts

WAITING = Layout(24, 24, 24, 1, 15, 15)
"""A new delivery: id, event, channel, whether to claim it, due moment, number (blank where its
channel is not ordered), and its origin."""
DONE = Layout(24, 10, 3, 15, 24, 10, 15, 10, 1)
"""A plain success: delivery, claim, status code (0: none), end, organization, number, start,
duration, whether there is a body, and the body."""

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
    """Events to store, their deliveries, and what these mean for their lanes; see `adding.py`.

    A delivery's row says whether it is to be claimed at birth, if its lane is open. The moments are
    storage ms.
    """

    __slots__ = (
        "counts",
        "deliveries",
        "events",
        "free",
        "numbered",
        "plain",
        "unwanted",
        "wanted",
    )

    def __init__(self, items: Sequence[NewEvent], node: int) -> None:
        plain: list[str] = []
        self.events: list[Row] = []
        # What is to be numbered: the fields before that, and the origin.
        self.numbered: dict[ChannelId, list[tuple[Row, str]]] = {}
        # Channels to be claimed from, with the due moment of the first delivery that is.
        self.wanted: dict[ChannelId, int] = {}
        # The earliest moment of what stays free if its lane is shut, and of what does anyway.
        self.free: dict[ChannelId, int] = {}
        self.unwanted: dict[ChannelId, int] = {}
        self.deliveries = 0
        before, origin = Origin.EVENT, Origin.EVENT.value
        for item in items:
            event, due_ms = item.event, item.due_ms
            if item.origin is not before:  # an enum's value takes long to find
                before, origin = item.origin, item.origin.value
            event_id, deliveries = event.id, item.deliveries
            self.events.append(
                (
                    event_id,
                    event.organization_id,
                    event.project_id,
                    event.type,
                    event.data,
                    item.people,
                    item.idempotency_key,
                    event.occurred_at,
                    event.created_at,
                    len(deliveries),
                    item.unmatched,
                )
            )
            self.deliveries += len(deliveries)
            for delivery in deliveries:
                channel_id, claim = delivery.channel_id, delivery.claim
                if claim:
                    self.wanted.setdefault(channel_id, due_ms)
                elif due_ms < self.unwanted.get(channel_id, due_ms + 1):
                    self.unwanted[channel_id] = due_ms
                if due_ms < self.free.get(channel_id, due_ms + 1):
                    self.free[channel_id] = due_ms
                fields = (delivery.id, event_id, channel_id, int(claim), due_ms)
                if delivery.ordered:
                    self.numbered.setdefault(channel_id, []).append((fields, origin))
                else:
                    plain.append(waiting_row(fields, "", origin))
        self.plain = texts(plain)
        self.counts = project_rows(items, node)


def waiting_row(fields: Row, number: int | str, origin: str) -> str:
    """The row of a new delivery; raises ValueError if something in it is too long."""
    head = WAITING.template % (*fields, number)
    if len(head) != WAITING.chars:
        raise ValueError("an id or a moment is not as long as it must be")
    return head + origin


class SettleBatch:
    """Settlements, all of which should apply: nearly all are `plain` successes."""

    __slots__ = ("items", "minutes", "others", "plain", "tallies")

    def __init__(self, items: Sequence[Settlement], node: int) -> None:
        plain: list[str] = []
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


def _plain_row(item: Settlement) -> str | None:
    """A success as a row, if there is nothing to tell of it; its moment and step stay."""
    attempt = item.attempt
    body = attempt.response_body
    if (
        item.status is not Status.DELIVERED
        or attempt.error is not None
        or (body is not None and "\0" in body)
    ):
        return None
    head = DONE.template % (
        item.id,
        item.claim,
        attempt.status_code or 0,
        item.finished_at,
        item.organization_id,
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        int(body is not None),
    )
    if len(head) != DONE.chars:
        return None
    return f"{head}{body}" if body else head

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
from tocsin.storage.sqlite.rows import Row, texts

HEAD_CHARS = 24 + 24 + 24 + 1 + 15
PLAIN_CHARS = 24 + 10 + 3 + 15 + 24 + 10 + 15 + 10 + 1
_NO_NUMBER = " " * 15

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
        # Rows that lack their number: what stands before and behind it.
        self.numbered: dict[ChannelId, list[tuple[str, str]]] = {}
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
                head = "%s%s%s%d%15d" % (delivery.id, event_id, channel_id, claim, due_ms)  # noqa: UP031 - hot
                if len(head) != HEAD_CHARS:
                    raise ValueError("an id or a moment is not as long as it must be")
                if delivery.ordered:
                    self.numbered.setdefault(channel_id, []).append((head, origin))
                else:
                    plain.append(f"{head}{_NO_NUMBER}{origin}")
        self.plain = texts(plain)
        self.counts = project_rows(items, node)


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
    head = "%s%10d%3d%15d%s%10d%15d%10d%d" % (  # noqa: UP031 - hot
        item.id,
        item.claim,
        attempt.status_code or 0,
        item.finished_at,
        item.organization_id,
        attempt.number,
        attempt.started_at,
        attempt.duration_ms,
        body is not None,
    )
    if len(head) != PLAIN_CHARS:
        return None
    return f"{head}{body}" if body else head

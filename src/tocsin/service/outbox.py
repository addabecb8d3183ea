"""The outbox: publishes what was decided to be told, each row as one event, and then deletes it.

Whatever happens between the two, and on however many nodes it is done at once, there is one event:
the row's id is the event's, and its idempotency key. What nobody is to get leaves no trace.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tocsin.domain.envelope import AlertData
from tocsin.domain.errors import Unavailable
from tocsin.domain.matching import type_valid
from tocsin.domain.model import ChannelId, EventId, Origin, ProjectId
from tocsin.domain.streak import DISABLED, FAILING, RECOVERED
from tocsin.service.notices import Notice
from tocsin.service.publish import Publisher
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import outbox
from tocsin.storage.control.outbox import ALERT, Pending, Subject

LOOK_SECONDS = 1.0
ROWS_PER_STEP = 100
OPERATIONAL = (FAILING, RECOVERED, DISABLED)
"""The kinds of rows that are operational events: `tocsin.` and the kind is the event's type."""

_log = logging.getLogger(__name__)


class _Alert(Struct, frozen=True):
    """The body of an alert's row."""

    type: str
    project_id: ProjectId | None
    channel_ids: tuple[ChannelId, ...]
    data: Raw


_decode_alert = msgspec.json.Decoder(_Alert).decode
_decode_data = msgspec.json.Decoder(AlertData).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class Outbox:
    """Empties the outbox; any node may, at any time."""

    def __init__(self, store: ControlPlane, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._alone = asyncio.Lock()
        """A process tells nothing twice at once: one batch holds an event only once."""
        self.soon: Callable[[], None] = _nothing
        """Called when something was noted; whoever runs this again and again sets it."""

    async def run_once(self) -> int:
        """Tell all that there is, oldest first; returns how many events were stored.

        Raises Unavailable when some could not be told yet. A row that never can be is logged and
        deleted.
        """
        told = 0
        async with self._alone:
            while True:
                rows = await self._store.read(lambda c: outbox.pending(c, limit=ROWS_PER_STEP))
                if not rows:
                    return told
                answers = await asyncio.gather(*map(self._tell, rows), return_exceptions=True)
                told += sum(answer is True for answer in answers)
                await self._remove(rows, answers)
                for answer in answers:
                    if isinstance(answer, Unavailable | asyncio.CancelledError):
                        raise answer
                if len(rows) < ROWS_PER_STEP:
                    return told

    async def _tell(self, row: Pending) -> bool:
        notice = _notice(row)
        return False if notice is None else await self._publisher.tell(notice)

    async def _remove(self, rows: list[Pending], answers: list[bool | BaseException]) -> None:
        done: list[str] = []
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, Unavailable | asyncio.CancelledError):
                continue
            done.append(row.id)
            if isinstance(answer, BaseException):
                _log.error(
                    "%s (%s) can't be told and is left out", row.id, row.kind, exc_info=answer
                )
        if done:
            await self._store.write(lambda c: outbox.remove(c, done))


def _nothing() -> None:
    pass


def _notice(row: Pending) -> Notice | None:
    """What a row says; None where its channel is gone. Raises for a row that says nothing."""
    if row.kind == ALERT:
        alert = _decode_alert(row.body)
        if not type_valid(alert.type):
            raise ValueError(f"not an event type: {alert.type!r}")
        _decode_data(alert.data)  # what a channel makes of it must not fail there
        return Notice(
            id=EventId(row.id),
            organization_id=row.organization_id,
            project_id=alert.project_id,
            type=alert.type,
            data=bytes(alert.data),
            occurred_at=row.at,
            origin=Origin.ALERT,
            channel_ids=alert.channel_ids,
        )
    if row.kind not in OPERATIONAL:
        raise ValueError(f"no such kind: {row.kind!r}")
    if row.subject is None:
        return None
    return operational(
        row.id, row.kind, row.subject, at=row.at, members=_decode_members(row.body or "{}")
    )


def operational(
    id: str, kind: str, subject: Subject, *, at: int, members: dict[str, Any]
) -> Notice:
    """An operational event about a channel; see `docs/operational-events.md` for its members."""
    channel = {"id": subject.id, "name": subject.name, "type": subject.type}
    return Notice(
        id=EventId(id),
        organization_id=subject.organization_id,
        project_id=subject.project_id,
        type=f"tocsin.{kind}",
        data=msgspec.json.encode({"channel": channel} | members),
        occurred_at=at,
        origin=Origin.OPERATIONAL,
    )

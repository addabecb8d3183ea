"""Tells of deliveries that were given up: an event per channel and minute, with their number.

It is made from the statistics some seconds after the minute. Its id follows from channel and
minute, so any number of nodes that look, however often, store one. What is recorded for a minute
after its event is in the statistics only; a minute without an event yet is told for a while.
"""

import asyncio
import logging

from tocsin.domain.errors import Unavailable
from tocsin.domain.ids import derived
from tocsin.domain.text import iso
from tocsin.service.outbox import operational
from tocsin.service.publish import Publisher
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import outbox
from tocsin.storage.control.outbox import GivenUp

LOOK_SECONDS = 5.0
AFTER_MS = 5_000
"""So long after a minute it is taken to be counted."""
MINUTE_MS = 60_000
LATE_MINUTES = 5
"""So far back each look goes: a node may have been unable to record what it knew."""
FIRST_MINUTES = 15
"""And so far the first look of a process: what another one did not come to tell."""
MISSED_MINUTES_MAX = 720
"""What a node makes up for that was kept from looking, by its database say."""
CHANNELS_PER_STEP = 500

KIND = "delivery.exhausted"

_log = logging.getLogger(__name__)


class Exhausted:
    """Tells of the minutes that are over."""

    def __init__(self, store: ControlPlane, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher
        self._through = 0
        self._told: set[tuple[int, str]] = set()
        self._alone = asyncio.Lock()

    async def run_once(self, now_ms: int) -> int:
        """Tell of what is over at this moment (wall time); returns how many events were stored.

        Cheap while no further minute is over. Raises Unavailable.
        """
        last = (now_ms - AFTER_MS) // MINUTE_MS - 1
        async with self._alone:
            if last == self._through:
                return 0
            first = last - FIRST_MINUTES + 1
            if 0 < self._through <= last:  # else the clock was set back
                first = max(self._through - LATE_MINUTES + 1, last - MISSED_MINUTES_MAX)
            told = 0
            for minute in range(first, last + 1):
                told += await self._minute(minute)
            self._through = last
            kept = range(last - FIRST_MINUTES, last + 1)
            self._told = {one for one in self._told if one[0] in kept}
            return told

    async def _minute(self, minute: int) -> int:
        told, above = 0, ""
        while True:
            at = above
            found, further = await self._store.read(
                lambda c, at=at: outbox.given_up(  # type: ignore[misc]
                    c, minute=minute, above=at, limit=CHANNELS_PER_STEP
                )
            )
            new = [one for one in found if (minute, one.subject.id) not in self._told]
            answers = await asyncio.gather(*map(self._tell, new), return_exceptions=True)
            for one, answer in zip(new, answers, strict=True):
                if isinstance(answer, Unavailable | asyncio.CancelledError):
                    raise answer
                self._told.add((minute, one.subject.id))
                if isinstance(answer, BaseException):
                    _log.error("what %s gave up can't be told", one.subject.id, exc_info=answer)
                else:
                    told += answer
            if further is None:
                return told
            above = further

    async def _tell(self, one: GivenUp) -> bool:
        at = one.minute * MINUTE_MS
        members = {"minute": iso(at), "count": one.count, "last_error": one.last_error}
        notice = operational(
            event_id(one.subject.id, one.minute), KIND, one.subject, at=at, members=members
        )
        return await self._publisher.tell(notice)


def event_id(channel_id: str, minute: int) -> str:
    """The id of the event of this channel and minute: made, by its looks, when the minute ended."""
    return derived((minute + 1) * MINUTE_MS, KIND, channel_id, str(minute))

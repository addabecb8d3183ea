"""Failing channels: those with nothing but failures for too long are disabled.

Each node looks at all lanes now and then. A channel is disabled when its failures alone go back the
hours that the setting says, at least `FAILURES_MIN` of them, and one more has come since this node
found that: a channel to which nothing was sent for days is left alone.
"""

import logging

from msgspec.structs import replace

from tocsin.domain.errors import NotFound
from tocsin.domain.model import Channel, ChannelId
from tocsin.domain.permissions import Caller
from tocsin.service.changes import Changes, Made, Target
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, channels, failing, lanes
from tocsin.storage.control.failing import Failure

FAILURES_MIN = 10
LANES_PER_STEP = 5_000
FAILING = "failing"
"""The `disabled_reason`."""

HOUR_MS = 3_600_000
SYSTEM = Caller(kind="system", name="tocsin")

_log = logging.getLogger(__name__)


class Failing:
    """Disables channels that have failed for `hours`; 0 is off."""

    def __init__(self, changes: Changes, *, hours: int) -> None:
        self._changes = changes
        self._hours = hours
        self._seen: dict[ChannelId, Failure] = {}

    async def run_once(self) -> int:
        """Look at all lanes; returns how many channels were disabled."""
        if not self._hours:
            return 0
        before, self._seen = self._seen, {}
        disabled, above = 0, ""
        while True:
            found, further = await self._look(above)
            for one in found:
                was = before.get(one.channel_id)
                if was is not None and was.since_ms == one.since_ms and was.streak < one.streak:
                    disabled += await self.disable(one)
                else:
                    self._seen[one.channel_id] = was if was in before.values() else one
            if further is None:
                return disabled
            above = further

"""Failing channels: those with nothing but failures for too long are disabled.

Each node looks at all lanes now and then. A channel is disabled when its failures alone go back the
hours that the setting says, at least `FAILURES_MIN` of them, and one more has come since this node
found that: a channel to which nothing was sent for days is left alone.
"""

import logging
from typing import Any

from msgspec.structs import replace

from tocsin.domain.errors import NotFound
from tocsin.domain.model import ChannelId
from tocsin.domain.permissions import Caller
from tocsin.domain.streak import DISABLED
from tocsin.domain.text import iso
from tocsin.service.changes import Changes, Made, Target
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, channels, failing, lanes, outbox
from tocsin.storage.control.failing import Failure
from tocsin.telemetry.families import CHANNELS_DISABLED
from tocsin.telemetry.instruments import Tally

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
        self.disabled = Tally(CHANNELS_DISABLED)

    async def run_once(self) -> int:
        """Look at all lanes; returns how many channels were disabled."""
        if not self._hours:
            return 0
        before_ms = self._changes.clock.wall_ms() - self._hours * HOUR_MS
        seen: dict[ChannelId, Failure] = {}
        disabled, above = 0, ""
        while True:
            found, further = await self._look(above, before_ms)
            for failure in found:
                first = self._seen.get(failure.channel_id)
                if first is None or first.since_ms != failure.since_ms:
                    first = failure
                seen[failure.channel_id] = first
                if failure.streak > first.streak:
                    disabled += await self.disable(failure)
            if further is None:
                break
            above = further
        self._seen = seen
        return disabled

    async def _look(self, above: str, before_ms: int) -> tuple[list[Failure], str | None]:
        return await self._changes.store.read(
            lambda c: failing.look(
                c, above=above, limit=LANES_PER_STEP, before_ms=before_ms, streak_min=FAILURES_MIN
            )
        )

    async def disable(self, failure: Failure) -> bool:
        """Disable one as a person does; False when it does not fail any more, or is gone.

        When this returns no send to it starts on this node. What waits is parked.
        """
        sight = Sight(failure.organization_id)
        now_ms, notice_id = self._changes.clock.wall_ms(), self._changes.new_id()

        def work(connection: Connection) -> Made[bool]:
            try:
                before = channels.get(connection, sight, failure.channel_id).channel
            except NotFound:
                return Made(False)
            after = replace(
                before,
                enabled=False,
                disabled_reason=FAILING,
                version=before.version + 1,
                updated_at=max(now_ms, before.updated_at),
            )
            if not before.enabled or not failing.still(connection, sight, failure):
                return Made(False)
            if not channels.replace(connection, sight, after, expected_version=before.version):
                return Made(False)
            lanes.park(connection, sight, after.id, version=after.version)
            outbox.put(
                connection,
                sight,
                id=notice_id,
                kind=DISABLED,
                channel_id=after.id,
                at=now_ms,
                body=_told(failure),
            )
            return Made(True, _said(failure))

        target = Target("channel", failure.channel_id)
        done = await self._changes.make(SYSTEM, sight, "channel.update", target, work)
        if done:
            self.disabled[()] += 1
            _log.warning("channel %s is disabled: it has only failed", failure.channel_id)
        return done


def _said(failure: Failure) -> dict[str, Any]:
    return {
        "enabled": {"from": True, "to": False},
        "disabled_reason": FAILING,
        "failing_since": iso(failure.since_ms),
        "failures": failure.streak,
    }


def _told(failure: Failure) -> dict[str, Any]:
    return {
        "reason": FAILING,
        "failing_since": iso(failure.since_ms),
        "failures": failure.streak,
    }

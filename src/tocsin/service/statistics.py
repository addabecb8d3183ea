"""Statistics: what was accepted, tried, delivered and given up, in steps of time; and how old
counts are rolled up."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from msgspec import Struct

from tocsin.domain.errors import Invalid, NotFound
from tocsin.domain.ids import normalize_id
from tocsin.domain.latency import BUCKETS, percentile
from tocsin.domain.model import ChannelId, ProjectId
from tocsin.domain.permissions import Caller
from tocsin.service.changes import Changes, permit
from tocsin.service.directory import Directory
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, channels, rolling, statistics
from tocsin.storage.control.statistics import ChannelSums, ProjectSums

STEPS_MAX = 1_500
"""In one reply."""
CHANNELS_PER_READ = 50
"""A read lasts a few seconds at most, and others are let in between two."""

MINUTE_MS = 60_000
MINUTES_KEPT = 3 * rolling.DAY
HOURS_KEPT = 90 * rolling.DAY
DAYS_KEPT = 400 * rolling.DAY
"""All in minutes: how old minutes, hours and days become before they are rolled up."""


class Bucket(StrEnum):
    """How long a step is."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


_SIZES = {Bucket.MINUTE: 1, Bucket.HOUR: rolling.HOUR, Bucket.DAY: rolling.DAY}
_DEFAULT_STEPS = {Bucket.MINUTE: 60, Bucket.HOUR: 24, Bucket.DAY: 30}


class Latency(Struct, frozen=True):
    """How long attempts took, in milliseconds: so many percent took no longer."""

    p50: float
    p95: float
    p99: float


class Step(Struct, frozen=True, kw_only=True):
    """What happened from `start_ms` on, for one bucket."""

    start_ms: int
    channel_id: ChannelId | None
    project_id: ProjectId | None
    accepted: int
    attempts: int
    delivered: int
    failed: int
    exhausted: int
    latency: Latency | None

    @property
    def failure_rate(self) -> float | None:
        """The share of attempts that failed; None without any."""
        return self.failed / self.attempts if self.attempts else None


class _Scope(Struct, frozen=True):
    """Whose counts are wanted: one channel's, one project's, or the organization's."""

    channel_id: ChannelId | None
    project_id: ProjectId | None


class Statistics:
    """Reads of the counts; and the chore that keeps them few."""

    def __init__(self, *, changes: Changes, directory: Directory) -> None:
        self._store = changes.store
        self._clock = changes.clock
        self._directory = directory

    async def read(
        self,
        caller: Caller,
        sight: Sight,
        *,
        channel: str | None = None,
        project: str | None = None,
        bucket: Bucket = Bucket.HOUR,
        after: int | None = None,
        before: int | None = None,
    ) -> list[Step]:
        """Every step from the one that `after` (ms) lies in to the last that starts before
        `before`, oldest first, empty ones included.

        Of one channel (id), one project (id or slug), or all in sight. Raises Invalid.
        """
        permit(caller, "stats.get")
        if channel is not None and project is not None:
            raise Invalid("project", "must not be given together with channel")
        size = _SIZES[bucket]
        since, until = self._period(bucket, size, after, before)
        scope = await self._scope(sight, channel, project)
        tried = await self._tried(sight, scope, since, until, size)
        accepted: dict[int, ProjectSums] = {}
        if scope.channel_id is None:
            accepted = await self._store.read(
                lambda c: statistics.project_series(
                    c,
                    sight,
                    project_id=scope.project_id,
                    since_minute=since,
                    until_minute=until,
                    size=size,
                )
            )
        return [
            _step(scope, start, tried.get(start), accepted.get(start))
            for start in range(since, until, size)
        ]

    def _period(
        self, bucket: Bucket, size: int, after: int | None, before: int | None
    ) -> tuple[int, int]:
        """The first minute of the first step, and the one after the last step."""
        if before is None:
            before = self._clock.wall_ms() + 1
        until = -(-before // (size * MINUTE_MS)) * size
        if after is None:
            since = until - _DEFAULT_STEPS[bucket] * size
        else:
            since = after // (size * MINUTE_MS) * size
        if since >= until:
            raise Invalid("after", "must be earlier than before")
        if (until - since) // size > STEPS_MAX:
            raise Invalid("after", f"the period has more than {STEPS_MAX} buckets of a {bucket}")
        return max(since, 0), max(until, 0)

    async def _scope(self, sight: Sight, channel: str | None, project: str | None) -> _Scope:
        if channel is not None:
            wanted = normalize_id(channel)
            if wanted is None:
                raise Invalid("channel", "must be an id")
            try:
                found = await self._store.read(lambda c: channels.get(c, sight, wanted))
            except NotFound:
                raise Invalid("channel", "does not exist") from None
            return _Scope(found.channel.id, found.channel.project_id)
        if project is not None:
            return _Scope(None, (await self._directory.project_in(sight, project)).id)
        return _Scope(None, sight.project_id)

    async def _tried(
        self, sight: Sight, scope: _Scope, since: int, until: int, size: int
    ) -> dict[int, ChannelSums]:
        def series(some: Sequence[ChannelId]) -> Callable[[Connection], dict[int, ChannelSums]]:
            return lambda c: statistics.channel_series(
                c, sight, some, since_minute=since, until_minute=until, size=size
            )

        def next_ones(above: str) -> Callable[[Connection], list[ChannelId]]:
            return lambda c: statistics.channels_of(
                c, sight, project_id=scope.project_id, above=above, limit=CHANNELS_PER_READ
            )

        if scope.channel_id is not None:
            return await self._store.read(series([scope.channel_id]))
        sums: dict[int, ChannelSums] = {}
        above = ""
        while True:
            some = await self._store.read(next_ones(above))
            if some:
                for start, found in (await self._store.read(series(some))).items():
                    before = sums.get(start)
                    sums[start] = found if before is None else statistics.added(before, found)
            if len(some) < CHANNELS_PER_READ:
                return sums
            above = some[-1]

    async def roll_up(self) -> int:
        """Roll up what is old; returns how many rows that were."""
        now = self._clock.wall_ms() // MINUTE_MS
        due = (
            (rolling.MINUTES, (now - MINUTES_KEPT) // rolling.HOUR * rolling.HOUR),
            (rolling.HOURS, (now - HOURS_KEPT) // rolling.DAY * rolling.DAY),
            (rolling.DAYS, (now - DAYS_KEPT) // rolling.DAY * rolling.DAY),
        )
        rolled = 0
        for moves, before in due:
            for move in moves:
                rolled += await self._move(move, before)
        return rolled

    async def _move(self, move: rolling.Move, before: int) -> int:
        limit = rolling.ROWS_PER_STEP_MAX
        rolled = 0
        while True:
            rows = await self._store.write(
                lambda c: rolling.step(c, move, before_minute=before, limit=limit)
            )
            rolled += rows
            if rows < limit:
                return rolled


def _step(
    scope: _Scope, start: int, tried: ChannelSums | None, accepted: ProjectSums | None
) -> Step:
    return Step(
        start_ms=start * MINUTE_MS,
        channel_id=scope.channel_id,
        project_id=scope.project_id,
        accepted=0 if accepted is None else accepted.accepted,
        attempts=0 if tried is None else tried.attempts,
        delivered=0 if tried is None else tried.delivered,
        failed=0 if tried is None else tried.failed,
        exhausted=0 if tried is None else tried.exhausted,
        latency=None if tried is None else _latency(tried.latency),
    )


def _latency(counts: Sequence[int]) -> Latency | None:
    assert len(counts) == BUCKETS
    found = [percentile(counts, percent) for percent in (50, 95, 99)]
    if None in found:
        return None
    p50, p95, p99 = (round(ms or 0.0, 1) for ms in found)
    return Latency(p50, p95, p99)

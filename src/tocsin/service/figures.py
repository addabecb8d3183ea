"""What alert rules look at: sums over their windows, read once for all rules.

All windows end at the same minute. So they are read from there backwards, each minute once: what a
longer window needs is added to what the shorter ones have had.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from tocsin.domain.alerts import (
    MINUTE_MS,
    AlertRule,
    Config,
    Figures,
    OpenedIssue,
    RuleType,
)
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import alerting, statistics
from tocsin.storage.control.alerting import Opened
from tocsin.storage.control.statistics import ChannelSums, ProjectSums

MINUTES_PER_READ_MAX = 60
CHANNELS_KNOWN_MAX = 200_000
RECENT_MINUTES = 10
"""Rules that have told of issues up to this long ago share one statement."""


class Watched(Struct, frozen=True):
    """A rule to evaluate, with its config read."""

    rule: AlertRule
    type: RuleType
    config: Config

    @property
    def back(self) -> int:
        """So many minutes back it looks."""
        window = self.config.window_minutes
        return 2 * window if self.type is RuleType.VOLUME_DROP else window

    @property
    def counts_events(self) -> bool:
        """Whether it looks at what a project has accepted, not at what was sent to channels."""
        return self.type is RuleType.VOLUME_DROP and self.rule.destination_id is None

    @property
    def scope(self) -> str:
        """The channel, or else the project, that it watches."""
        return self.rule.destination_id or self.rule.watched_project_id


class Reach(Struct, frozen=True):
    """How far back anybody looks, by what they look at."""

    channels: int
    latency: int
    events: int

    @staticmethod
    def of(watched: Sequence[Watched]) -> "Reach":
        """That of all of these."""

        def most(backs: Iterable[int]) -> int:
            return max(backs, default=0)

        return Reach(
            channels=most(one.back for one in watched if not one.counts_events),
            latency=most(one.back for one in watched if one.type is RuleType.LATENCY),
            events=most(one.back for one in watched if one.counts_events),
        )


class _Sums:
    """Added up so far, by channel and by project."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = defaultdict(int)
        self.failed: dict[str, int] = defaultdict(int)
        self.delivered: dict[str, int] = defaultdict(int)
        self.exhausted: dict[str, int] = defaultdict(int)
        self.accepted: dict[str, int] = defaultdict(int)
        self.latency: dict[str, Sequence[int]] = {}

    def add_channel(self, places: Iterable[str], sums: ChannelSums) -> None:
        for place in places:
            self.attempts[place] += sums.attempts
            self.failed[place] += sums.failed
            self.delivered[place] += sums.delivered
            self.exhausted[place] += sums.exhausted
            if sums.latency:
                before = self.latency.get(place)
                self.latency[place] = (
                    sums.latency
                    if before is None
                    else [a + b for a, b in zip(before, sums.latency, strict=True)]
                )

    def events(self, one: Watched) -> int:
        """What came in: events of a project, or those that a channel got."""
        return (self.accepted if one.counts_events else self.delivered).get(one.scope, 0)

    def figures(self, one: Watched, recent: int | None, *, known: bool) -> Figures:
        if one.type is RuleType.VOLUME_DROP:
            if recent is None or not known:
                return Figures()
            return Figures(events=recent, events_before=self.events(one) - recent)
        place = one.scope
        return Figures(
            attempts=self.attempts.get(place, 0),
            failed=self.failed.get(place, 0),
            exhausted=self.exhausted.get(place, 0),
            latency=self.latency.get(place, ()),
        )


class Reader:
    """Reads what happened before a minute; keeps which project a channel belongs to."""

    def __init__(self, store: ControlPlane) -> None:
        self._store = store
        self._projects: dict[ChannelId, ProjectId | None] = {}

    async def figures(
        self, minute: int, watched: Sequence[Watched]
    ) -> AsyncIterator[list[tuple[Watched, Figures]]]:
        """All of them with their figures, those that look back least first.

        Raises what the store does; what was given before stays right.
        """
        sums, near, reach = _Sums(), 0, Reach.of(watched)
        recent: dict[str, int] = {}
        known = await self._known(minute, watched)
        halves = defaultdict(list)
        ends = defaultdict(list)
        for one in watched:
            ends[one.back].append(one)
            if one.type is RuleType.VOLUME_DROP:
                halves[one.config.window_minutes].append(one)
        for back in sorted({*ends, *halves}):
            await self._add(sums, minute, near, back, reach)
            near = back
            recent |= {one.rule.id: sums.events(one) for one in halves[back]}
            if ends[back]:
                yield [
                    (one, sums.figures(one, recent.get(one.rule.id), known=one.back <= known))
                    for one in ends[back]
                ]

    async def _known(self, minute: int, watched: Sequence[Watched]) -> int:
        """How many minutes back some node accepted events without a break."""
        most = max((one.back for one in watched if one.type is RuleType.VOLUME_DROP), default=0)
        if not most:
            return 0
        served = await self._store.read(
            lambda c: alerting.served(c, since_minute=minute - most, until_minute=minute)
        )
        return next((back for back in range(most) if minute - 1 - back not in served), most)

    async def _add(self, sums: _Sums, minute: int, near: int, back: int, reach: Reach) -> None:
        """Add the minutes from `near` to `back` before a minute, as far as somebody needs them."""
        for start, end in _steps(minute - back, minute - near):
            if reach.channels >= back:
                latency = reach.latency >= back
                found = await self._store.read(_channel_sums(start, end, latency=latency))
                await self._learn(found)
                for channel_id, sent in found.items():
                    project_id = self._projects.get(channel_id)
                    places = (channel_id,) if project_id is None else (channel_id, project_id)
                    sums.add_channel(places, sent)
            if reach.events >= back:
                accepted = await self._store.read(_project_sums(start, end))
                for (_, project_id), counted in accepted.items():
                    if project_id is not None:
                        sums.accepted[project_id] += counted.accepted

    async def _learn(self, found: Mapping[ChannelId, Any]) -> None:
        """A channel never changes its project: it is looked up once."""
        new = found.keys() - self._projects.keys()
        if not new:
            return
        if len(self._projects) + len(new) > CHANNELS_KNOWN_MAX:
            self._projects.clear()
            new = set(found)
        self._projects |= await self._store.read(lambda c: alerting.projects_of(c, new))

    async def issues(
        self, minute: int, rules: Sequence[Watched], *, now_ms: int
    ) -> list[tuple[Watched, Figures]]:
        """What opened in the scope of each rule since it told of issues last."""
        recent = [one for one in rules if one.rule.evaluated_minute >= minute - RECENT_MINUTES]
        until_ms = minute * MINUTE_MS
        made: list[tuple[Watched, Figures]] = []
        if recent:
            since = min(one.rule.evaluated_minute for one in recent) * MINUTE_MS
            opened = await self._store.read(_opened(since, until_ms, now_ms))
            by_scope: dict[str, list[Opened]] = defaultdict(list)
            for each in opened:
                by_scope[each.issue.channel_id].append(each)
                if each.project_id is not None:
                    by_scope[each.project_id].append(each)
            made += [(one, _told(one, by_scope.get(one.scope, ()))) for one in recent]
        for one in rules:
            if one.rule.evaluated_minute < minute - RECENT_MINUTES:
                since = one.rule.evaluated_minute * MINUTE_MS
                opened = await self._store.read(
                    _opened(since, until_ms, now_ms, one.rule.organization_id)
                )
                mine = [o for o in opened if one.scope in (o.issue.channel_id, o.project_id)]
                made.append((one, _told(one, mine)))
        return made


def _steps(since: int, until: int) -> Iterable[tuple[int, int]]:
    """Short enough for a read each."""
    for start in range(since, until, MINUTES_PER_READ_MAX):
        yield start, min(start + MINUTES_PER_READ_MAX, until)


def _channel_sums(
    since: int, until: int, *, latency: bool
) -> Callable[[Any], dict[ChannelId, ChannelSums]]:
    return lambda c: statistics.channel_sums(
        c, since_minute=since, until_minute=until, latency=latency
    )


def _project_sums(
    since: int, until: int
) -> Callable[[Any], dict[tuple[OrganizationId, ProjectId | None], ProjectSums]]:
    return lambda c: statistics.project_sums(c, since_minute=since, until_minute=until)


def _opened(
    since_ms: int, until_ms: int, now_ms: int, organization_id: OrganizationId | None = None
) -> Callable[[Any], list[Opened]]:
    return lambda c: alerting.opened_issues(
        c,
        since_ms=since_ms,
        until_ms=until_ms,
        now_ms=now_ms,
        organization_id=organization_id,
    )


def _told(one: Watched, opened: Iterable[Opened]) -> Figures:
    """Those that this rule has not told of: none from before it was made."""
    since_ms = max(one.rule.evaluated_minute * MINUTE_MS, one.rule.created_at)
    issues: list[OpenedIssue] = [o.issue for o in opened if o.opened_at >= since_ms]
    return Figures(issues=issues)

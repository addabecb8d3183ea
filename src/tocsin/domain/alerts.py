"""Alert rules: what they may say, whether one's condition holds, and what follows from that; pure.

A rule watches the deliveries of a project or of one channel, a window at a time. A minute counts
from its beginning, as minutes since 1970; what is evaluated at a minute is the window before it.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, assert_never

from msgspec import Struct

from tocsin.domain.errors import Invalid
from tocsin.domain.ids import derived
from tocsin.domain.latency import percentile
from tocsin.domain.model import ChannelId, OrganizationId, ProjectId
from tocsin.domain.wording import counted

MINUTE_MS = 60_000
RESOLVED_AFTER_MINUTES = 30
"""So long the condition must have been false."""

WINDOW_MINUTES_DEFAULT = 5
WINDOW_MINUTES_MAX = 1_440
"""Twice as much is kept of statistics by the minute, with something to spare."""
COOLDOWN_MINUTES_DEFAULT = 60
COOLDOWN_MINUTES_MAX = 43_200
CHANNELS_MAX = 100
ISSUES_TOLD_MAX = 10

_COUNT_MAX = 1_000_000_000
_LATENCY_MS_MAX = 3_600_000


class RuleType(StrEnum):
    """What a rule looks at."""

    FAILURE_RATE = "failure_rate"
    LATENCY = "latency"
    DLQ = "dlq"
    VOLUME_DROP = "volume_drop"
    ISSUE_OPENED = "issue_opened"


class AlertRule(Struct, frozen=True, kw_only=True):
    """A rule of a project, as stored.

    `rule_config` is JSON text, as it was given. `source_id` and `destination_id` narrow what it
    watches: another project, one channel. `channel_ids` are told; those of deleted channels are
    left out. `version` rises with every change and every trigger. `evaluated_minute` is the last
    minute of which a decision was noted, or, of `issue_opened`, up to which issues were told.
    """

    id: str
    organization_id: OrganizationId
    project_id: ProjectId
    name: str
    description: str | None
    rule_type: str
    rule_config: str
    source_id: ProjectId | None
    destination_id: ChannelId | None
    channel_ids: tuple[ChannelId, ...]
    cooldown_minutes: int
    enabled: bool
    version: int
    evaluated_minute: int
    firing_since: int | None = None
    last_true_at: int | None = None
    last_triggered_at: int | None = None
    trigger_count: int = 0
    created_at: int
    updated_at: int

    @property
    def watched_project_id(self) -> ProjectId:
        """Whose channels and events it watches, where it is not one channel."""
        return self.source_id or self.project_id


class Trigger(Struct, frozen=True, kw_only=True):
    """One time that a rule triggered, as its history shows it."""

    id: str
    organization_id: OrganizationId
    project_id: ProjectId
    alert_rule_id: str
    trigger_reason: str
    trigger_data: str
    channels_notified: str
    created_at: int


class Config(Struct, frozen=True, kw_only=True):
    """A `rule_config` with every default.

    `threshold` is a fraction for `failure_rate`, milliseconds for `latency`, percent for
    `volume_drop`, a count for `dlq`; `least` is `min_attempts` or `min_events`.
    """

    window_minutes: int = WINDOW_MINUTES_DEFAULT
    threshold: float = 0.0
    least: int = 0
    percentile: float = 95.0


def rule_type_of(text: str) -> RuleType:
    """The type; raises Invalid naming `rule_type`."""
    try:
        return RuleType(text)
    except ValueError:
        raise Invalid("rule_type", f"must be one of {', '.join(RuleType)}") from None


def config_of(rule_type: RuleType, members: Mapping[str, Any]) -> Config:
    """The config that these members stand for; raises Invalid naming `rule_config.<member>`."""
    given = dict(members)
    window = _whole(given, "window_minutes", 1, WINDOW_MINUTES_MAX, WINDOW_MINUTES_DEFAULT)
    match rule_type:
        case RuleType.FAILURE_RATE:
            threshold = _number(given, "threshold", 0, 100)
            config = Config(
                window_minutes=window,
                threshold=threshold if threshold <= 1 else threshold / 100,
                least=_whole(given, "min_attempts", 1, _COUNT_MAX, 5),
            )
        case RuleType.LATENCY:
            both = "threshold_ms" in given and "threshold" in given
            if both:
                raise Invalid("rule_config.threshold", "is another name of threshold_ms")
            name = "threshold" if "threshold" in given else "threshold_ms"
            config = Config(
                window_minutes=window,
                threshold=_number(given, name, 1, _LATENCY_MS_MAX),
                percentile=_number(given, "percentile_target", 1, 99.9, 95),
            )
        case RuleType.VOLUME_DROP:
            config = Config(
                window_minutes=window,
                threshold=_number(given, "threshold", 0, 100),
                least=_whole(given, "min_events", 1, _COUNT_MAX, 20),
            )
        case RuleType.DLQ:
            threshold = _number(given, "threshold", 0, _COUNT_MAX)
            config = Config(window_minutes=window, threshold=threshold)
        case RuleType.ISSUE_OPENED:
            config = Config(window_minutes=window)
        case _:
            assert_never(rule_type)
    for name in given:
        raise Invalid(f"rule_config.{name[:64]}", f"is not known to a {rule_type} rule")
    return config


def _number(
    given: dict[str, Any], name: str, least: float, most: float, default: float | None = None
) -> float:
    """Take a member out; without a default it must be there."""
    field = f"rule_config.{name}"
    if name not in given:
        if default is None:
            raise Invalid(field, "is required")
        return default
    value = given.pop(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Invalid(field, f"must be a number from {least} to {most}")
    return value


def _whole(given: dict[str, Any], name: str, least: int, most: int, default: int) -> int:
    value = given.pop(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Invalid(f"rule_config.{name}", f"must be a whole number from {least} to {most}")
    return value


class OpenedIssue(Struct, frozen=True, kw_only=True):
    """An issue that has opened."""

    id: str
    title: str
    channel_id: ChannelId


class Figures(Struct, frozen=True, kw_only=True):
    """What happened within a rule's window, in all that it watches.

    `events` and `events_before` are those of the window and of the one before it; None where a
    minute is unknown: nobody was there to accept events. `issues` are those that a rule has not
    told of yet.
    """

    attempts: int = 0
    failed: int = 0
    exhausted: int = 0
    latency: Sequence[int] = ()
    events: int | None = None
    events_before: int | None = None
    issues: Sequence[OpenedIssue] = ()


class Verdict(Struct, frozen=True):
    """Whether a condition holds (None: it can't be told), and what is to say about it if so."""

    holds: bool | None
    reason: str = ""
    data: Mapping[str, Any] = {}


NO = Verdict(False)


def judge(rule_type: RuleType, config: Config, figures: Figures) -> Verdict:
    """Whether the condition of a rule holds."""
    match rule_type:
        case RuleType.FAILURE_RATE:
            return _failure_rate(config, figures)
        case RuleType.LATENCY:
            return _latency(config, figures)
        case RuleType.DLQ:
            return _dlq(config, figures)
        case RuleType.VOLUME_DROP:
            return _volume_drop(config, figures)
        case RuleType.ISSUE_OPENED:
            return _issue_opened(figures)
    assert_never(rule_type)


def _failure_rate(config: Config, figures: Figures) -> Verdict:
    if figures.attempts < max(config.least, 1):
        return NO
    rate = figures.failed / figures.attempts
    if not rate > config.threshold:
        return NO
    reason = (
        f"{figures.failed} of {_counted(figures.attempts, 'attempt')} failed within "
        f"{_minutes(config)}: {_percent(rate * 100)}, more than {_percent(config.threshold * 100)}."
    )
    data = {
        "failure_rate": round(rate, 4),
        "threshold": config.threshold,
        "failed": figures.failed,
        "attempts": figures.attempts,
        "window_minutes": config.window_minutes,
    }
    return Verdict(True, reason, data)


def _latency(config: Config, figures: Figures) -> Verdict:
    found = percentile(figures.latency, config.percentile)
    if found is None or not found > config.threshold:
        return NO
    shown = round(found)
    reason = (
        f"The p{config.percentile:g} latency of {_counted(figures.attempts, 'attempt')} within "
        f"{_minutes(config)} was {shown:,} ms, more than {counted(config.threshold)} ms."
    )
    data = {
        "latency_ms": shown,
        "threshold_ms": config.threshold,
        "percentile": config.percentile,
        "attempts": figures.attempts,
        "window_minutes": config.window_minutes,
    }
    return Verdict(True, reason, data)


def _dlq(config: Config, figures: Figures) -> Verdict:
    if not figures.exhausted > config.threshold:
        return NO
    reason = (
        f"{_counted(figures.exhausted, 'delivery', 'deliveries')} ran out of retries within "
        f"{_minutes(config)}, more than {counted(config.threshold)}."
    )
    data = {
        "exhausted": figures.exhausted,
        "threshold": config.threshold,
        "window_minutes": config.window_minutes,
    }
    return Verdict(True, reason, data)


def _volume_drop(config: Config, figures: Figures) -> Verdict:
    events, before = figures.events, figures.events_before
    if events is None or before is None:
        return Verdict(None)
    if before < max(config.least, 1):
        return NO
    drop = (before - events) * 100 / before
    if not drop > config.threshold:
        return NO
    reason = (
        f"{_counted(events, 'event')} within {_minutes(config)} after {before:,} in the "
        f"{_minutes(config)} before: {_percent(drop)} fewer, more than "
        f"{_percent(config.threshold)}."
    )
    data = {
        "drop_percent": round(drop, 2),
        "threshold": config.threshold,
        "events": events,
        "events_before": before,
        "window_minutes": config.window_minutes,
    }
    return Verdict(True, reason, data)


def _issue_opened(figures: Figures) -> Verdict:
    told = figures.issues[:ISSUES_TOLD_MAX]
    if not told:
        return NO
    count = len(figures.issues)
    reason = f"An issue opened: {told[0].title}."
    if count > 1:
        reason = f"{count:,} issues opened, among them: {told[0].title}."
    issues = [{"id": one.id, "title": one.title, "destination_id": one.channel_id} for one in told]
    return Verdict(True, reason, {"count": count, "issues": issues})


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _minutes(config: Config) -> str:
    return "a minute" if config.window_minutes == 1 else f"{config.window_minutes:,} minutes"


def _percent(value: float) -> str:
    return f"{round(value, 2):g} %"


class Decision(Struct, frozen=True, kw_only=True):
    """What an evaluation makes of a rule: the state to note, and what to tell."""

    evaluated_minute: int
    firing_since: int | None
    last_true_at: int | None
    triggers: bool = False
    resolves: bool = False


def decide(rule: AlertRule, holds: bool | None, *, minute: int, now_ms: int) -> Decision | None:
    """What follows for a rule from its condition at a minute; None: nothing is to be noted.

    A condition that can't be told changes nothing, and such a minute counts as neither true nor
    false; nor does one in which nobody evaluated.
    """
    at = minute * MINUTE_MS
    if holds:
        return _held(rule, minute, now_ms)
    if rule.firing_since is None:
        return None
    seen = minute if holds is None else minute - 1
    skipped = max(0, seen - rule.evaluated_minute)
    last_true_at = (rule.last_true_at or at) + skipped * MINUTE_MS
    if holds is None or at - last_true_at < RESOLVED_AFTER_MINUTES * MINUTE_MS:
        return Decision(
            evaluated_minute=minute, firing_since=rule.firing_since, last_true_at=last_true_at
        )
    told = rule.last_triggered_at is not None and rule.last_triggered_at >= rule.firing_since
    return Decision(evaluated_minute=minute, firing_since=None, last_true_at=None, resolves=told)


def _held(rule: AlertRule, minute: int, now_ms: int) -> Decision:
    waiting = cooling(rule, minute)
    # Issues that opened during the cooldown are told after it: they stay those not told yet.
    waits = waiting and rule.rule_type == RuleType.ISSUE_OPENED
    return Decision(
        evaluated_minute=rule.evaluated_minute if waits else minute,
        firing_since=now_ms if rule.firing_since is None else rule.firing_since,
        last_true_at=minute * MINUTE_MS,
        triggers=not waiting,
    )


def untold(rule: AlertRule) -> bool:
    """Whether a rule of issues waits for the end of its cooldown to tell of some."""
    return (
        rule.firing_since is not None
        and rule.last_true_at is not None
        and rule.evaluated_minute * MINUTE_MS < rule.last_true_at
    )


def cooling(rule: AlertRule, minute: int) -> bool:
    """Whether it is too early for a rule to trigger again."""
    return (
        rule.last_triggered_at is not None
        and minute < rule.last_triggered_at // MINUTE_MS + rule.cooldown_minutes
    )


def notice_id(rule_id: str, minute: int, kind: str) -> str:
    """The id of what a rule tells at a minute: the same, whoever makes it, however often."""
    return derived(minute * MINUTE_MS, "alert", rule_id, kind)

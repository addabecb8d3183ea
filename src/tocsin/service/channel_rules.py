"""What each member of a channel may be; an error names the member by its path.

A create is a change of a channel that has every default, so there is one set of rules. None means
the default (for a breaker: off), `UNSET` leaves a member as it is.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tocsin.channels import AnyChannelType
from tocsin.domain.errors import Invalid
from tocsin.domain.matching import check_filter, check_patterns
from tocsin.domain.model import DEFAULT_SCHEDULE, Breaker, Channel, Format, RateLimit
from tocsin.domain.retry import parse_schedule
from tocsin.domain.text import check_short
from tocsin.service.drafts import ChannelDraft, ChannelPatch

NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 1_024
TIMEOUT_SECONDS_DEFAULT = 15
TIMEOUT_SECONDS_MAX = 30
IN_FLIGHT_MAX = 1_000
RATE_PER_SECOND_MAX = 10_000
RATE_SECONDS_MAX = 86_400
FAILURES_MAX = 100
COOLDOWN_SECONDS_MAX = 86_400
OVERLAP_SECONDS_MAX = 7 * 86_400

DEFAULT_PATTERNS = ("*",)
DEFAULT_BREAKER = Breaker()

PLAIN = (
    "name",
    "description",
    "event_types",
    "filter",
    "format",
    "schedule",
    "timeout_seconds",
    "rate_limit",
    "max_in_flight",
    "ordered",
    "breaker",
    "enabled",
)
"""The members of `Channel` that are not secret, as the audit names them."""


def with_changes(
    channel: Channel, change: ChannelDraft | ChannelPatch, type: AnyChannelType
) -> Channel:
    """The channel with its plain members changed; raises Invalid. Settings and headers are not
    looked at, beyond whether the type has headers at all."""
    if change.headers is not UNSET and change.headers is not None and not type.has_headers:
        raise Invalid("headers", f"{type.name} channels have none")
    ordered = channel.ordered if change.ordered is UNSET else bool(change.ordered)
    return replace(
        channel,
        name=_name(channel.name, change.name),
        description=_description(channel.description, change.description),
        event_types=_event_types(channel.event_types, change.event_types),
        filter=channel.filter if change.filter is UNSET else check_filter(change.filter or ()),
        format=_format(channel.format, change.format, type),
        schedule=_schedule(channel.schedule, change.retry),
        timeout_seconds=_timeout(channel.timeout_seconds, change.timeout_seconds),
        rate_limit=_rate_limit(channel.rate_limit, change.rate_limit),
        max_in_flight=_in_flight(channel.max_in_flight, change.max_in_flight),
        ordered=ordered,
        breaker=_breaker(channel.breaker, change.breaker, ordered),
        enabled=_enabled(channel.enabled, change.enabled),
    )


def _enabled(today: bool, new: bool | UnsetType | None) -> bool:
    if new is UNSET:
        return today
    return True if new is None else new


def _name(today: str, new: str | UnsetType) -> str:
    if new is UNSET:
        return today
    check_short(new, "name", NAME_CHARS_MAX)
    return new


def _description(today: str | None, new: str | UnsetType | None) -> str | None:
    if new is UNSET or new is None:
        return today if new is UNSET else None
    check_short(new, "description", DESCRIPTION_CHARS_MAX, chars_min=0)
    return new


def _event_types(today: tuple[str, ...], new: list[str] | UnsetType | None) -> tuple[str, ...]:
    if new is UNSET:
        return today
    if new is None:
        return DEFAULT_PATTERNS
    check_patterns(new)
    return tuple(new)


def _format(
    today: Format | None, new: str | UnsetType | None, type: AnyChannelType
) -> Format | None:
    if new is UNSET:
        return today
    if not type.has_format:
        if new is not None:
            raise Invalid("format", f"{type.name} channels have none")
        return None
    if new is None:
        return Format.TOCSIN
    try:
        return Format(new)
    except ValueError:
        raise Invalid("format", f"must be one of {', '.join(Format)}") from None


def _schedule(today: tuple[str, ...], new: Mapping[str, Any] | UnsetType | None) -> tuple[str, ...]:
    if new is UNSET:
        return today
    if new is None:
        return DEFAULT_SCHEDULE
    _known(new, "retry", ("schedule",))
    if "schedule" not in new:
        raise Invalid("retry.schedule", "is required")
    steps = new["schedule"]
    if not isinstance(steps, list | tuple):
        raise Invalid("retry.schedule", "must be an array of durations")
    for index, step in enumerate(steps):
        if not isinstance(step, str):
            raise Invalid(f"retry.schedule[{index}]", "must be a duration like 30s, 5m, 2h or 1d")
    parse_schedule(steps)
    return tuple(steps)


def _timeout(today: float, new: float | UnsetType | None) -> float:
    if new is UNSET:
        return today
    if new is None:
        return TIMEOUT_SECONDS_DEFAULT
    if isinstance(new, bool) or not 1 <= new <= TIMEOUT_SECONDS_MAX:
        raise Invalid("timeout_seconds", f"must be from 1 to {TIMEOUT_SECONDS_MAX}")
    # Kept in milliseconds; whole seconds read back as they are written.
    rounded = round(new, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def _in_flight(today: int | None, new: int | UnsetType | None) -> int | None:
    if new is UNSET or new is None:
        return today if new is UNSET else None
    return _whole(new, "max_in_flight", IN_FLIGHT_MAX)


def _rate_limit(
    today: RateLimit | None, new: Mapping[str, Any] | UnsetType | None
) -> RateLimit | None:
    if new is UNSET or new is None:
        return today if new is UNSET else None
    _known(new, "rate_limit", ("count", "per_seconds"))
    for name in ("count", "per_seconds"):
        if name not in new:
            raise Invalid(f"rate_limit.{name}", "is required")
    per_seconds = _whole(new["per_seconds"], "rate_limit.per_seconds", RATE_SECONDS_MAX)
    count = _whole(new["count"], "rate_limit.count", RATE_PER_SECOND_MAX * per_seconds)
    return RateLimit(count=count, per_seconds=per_seconds)


def _breaker(
    today: Breaker | None, new: Mapping[str, Any] | UnsetType | None, ordered: bool
) -> Breaker | None:
    """Merged by member. An ordered channel has none: its default is off, setting one is refused,
    and a channel that becomes ordered loses the one it had."""
    if new is UNSET:
        return None if ordered else today
    if new is None:
        return None
    if ordered:
        raise Invalid("breaker", "an ordered channel has none")
    _known(new, "breaker", ("failures", "cooldown_seconds"))
    today = today or DEFAULT_BREAKER
    failures = new.get("failures", today.failures)
    cooldown = new.get("cooldown_seconds", today.cooldown_seconds)
    if failures is None:
        failures = DEFAULT_BREAKER.failures
    if cooldown is None:
        cooldown = DEFAULT_BREAKER.cooldown_seconds
    return Breaker(
        failures=_whole(failures, "breaker.failures", FAILURES_MAX),
        cooldown_seconds=_whole(cooldown, "breaker.cooldown_seconds", COOLDOWN_SECONDS_MAX),
    )


def _whole(value: Any, field: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise Invalid(field, f"must be a whole number from 1 to {most}")
    return value


def _known(members: Any, field: str, names: tuple[str, ...]) -> None:
    if not isinstance(members, Mapping):
        raise Invalid(field, "must be an object")
    for name in members:
        if name not in names:
            raise Invalid(f"{field}.{name[:64]}", "is not known")


def check_overlap(seconds: int) -> None:
    """Raise Invalid unless an old secret may go on signing for so long."""
    if isinstance(seconds, bool) or not 0 <= seconds <= OVERLAP_SECONDS_MAX:
        raise Invalid("overlap_seconds", f"must be from 0 to {OVERLAP_SECONDS_MAX}")

"""When to try again: durations, schedules, jitter, and what a target asks for by Retry-After."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

from tocsin.domain.errors import Invalid

SECOND_MS = 1_000
DAY_MS = 86_400_000

STEPS_MAX = 20
STEP_MS_MAX = 7 * DAY_MS
SCHEDULE_MS_MAX = 11 * DAY_MS
RETRY_AFTER_MS_MAX = DAY_MS
JITTER = 0.2

_UNITS_MS = {"s": SECOND_MS, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
_DURATION = re.compile(r"([1-9][0-9]*)([smhd])", re.ASCII)
# More digits could not be within any limit, and would only cost time to read.
_DURATION_CHARS_MAX = 12

_SECONDS = re.compile(r"([0-9]+)(?:\.[0-9]*)?", re.ASCII)
_SECONDS_DIGITS_MAX = 9
_DATE_CHARS_MAX = 64


def parse_duration(text: str) -> int | None:
    """Milliseconds of a duration such as `30s`, `5m`, `2h` or `1d`; None for anything else."""
    match = _DURATION.fullmatch(text) if len(text) <= _DURATION_CHARS_MAX else None
    return int(match[1]) * _UNITS_MS[match[2]] if match else None


def parse_schedule(texts: Sequence[str], field: str = "retry.schedule") -> tuple[int, ...]:
    """The steps in milliseconds; raises Invalid naming the step, or the field for the whole."""
    if len(texts) > STEPS_MAX:
        raise Invalid(field, f"at most {STEPS_MAX} steps")
    steps = []
    for index, text in enumerate(texts):
        step_ms = parse_duration(text)
        if step_ms is None:
            raise Invalid(f"{field}[{index}]", "must be a duration like 30s, 5m, 2h or 1d")
        if step_ms > STEP_MS_MAX:
            raise Invalid(f"{field}[{index}]", "must be at most 7d")
        steps.append(step_ms)
    if sum(steps) > SCHEDULE_MS_MAX:
        raise Invalid(field, "the steps must add up to at most 11d")
    return tuple(steps)


def next_delay_ms(schedule_ms: Sequence[int], step: int, random: Callable[[], float]) -> int | None:
    """How long to wait after a failure that has used `step` steps before; None at the end.

    `random` gives [0, 1): the wait is within 20 % of the step, so that what failed together does
    not return together.
    """
    if step >= len(schedule_ms):
        return None
    return round(schedule_ms[step] * (1 - JITTER + 2 * JITTER * random()))


def parse_retry_after(value: str | None, now_ms: int) -> int | None:
    """How many milliseconds a target asks to wait, 0..24 h; None when it does not say.

    Takes seconds and HTTP dates (RFC 9110, 10.2.3) by the caller's wall clock; a date that has
    passed is 0. What a target sends is untrusted: anything unreadable counts as not said.
    """
    if value is None:
        return None
    value = value.strip(" \t")
    seconds = _SECONDS.fullmatch(value)
    if seconds:
        digits = seconds[1].lstrip("0")
        if len(digits) > _SECONDS_DIGITS_MAX:
            return RETRY_AFTER_MS_MAX
        wait_ms = int(digits or "0") * SECOND_MS
    else:
        date_ms = _http_date_ms(value)
        if date_ms is None:
            return None
        wait_ms = date_ms - now_ms
    return min(max(wait_ms, 0), RETRY_AFTER_MS_MAX)


def _http_date_ms(value: str) -> int | None:
    # Every form of an HTTP date has a time of day; without one the reader below guesses.
    if len(value) > _DATE_CHARS_MAX or not value.isascii() or ":" not in value:
        return None
    try:
        date = parsedate_to_datetime(value)
        # RFC 9110: every HTTP date is GMT, also where the form does not say so.
        date = date.replace(tzinfo=UTC) if date.tzinfo is None else date
        return int(date.timestamp()) * SECOND_MS
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

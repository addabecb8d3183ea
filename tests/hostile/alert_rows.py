"""What the fields of an alert rule may hold, by its contract."""

from typing import Any

from tests.hostile.rules import (
    ANYTHING,
    ASTRAL,
    REQUIRED,
    Cases,
    absent,
    bad,
    good,
    null,
    optional,
    text,
    types,
    whole,
    words,
)

RULES = "/v1/alert-rules"
RULE: dict[str, Any] = {"name": "n", "rule_type": "dlq", "rule_config": {"threshold": 0}}

CONFIGS: dict[str, dict[str, Any]] = {
    "failure_rate": {"threshold": 0.5},
    "latency": {"threshold_ms": 1000},
    "volume_drop": {"threshold": 50},
    "issue_opened": {},
}
"""A sufficient `rule_config` of each other type."""

_KEPT = absent(ok=True) + null(ok=False)
_WINDOW = whole(1, 1440) + optional(null_ok=False)


def _number(least: float, most: float) -> Cases:
    """A number, with a fraction or without."""
    cases = types("integer", "number") + good(least=least, most=most, between=least + 0.5)
    return cases + bad(below=least - 0.1, above=most + 0.1, huge=10**30, tiny=-1e300, word="1")


def _id(own: str, *refused: str) -> Cases:
    """An id, with a prefix or in capitals."""
    cases = types("string") + optional()
    cases += good(id=f"{{{own}}}", prefixed=f"x_{{{own}}}", capitals=f"{{{own.upper()}}}")
    cases += bad(none="{none}", word="nowhere", empty="", dash=f"x-{{{own}}}", nul="a\0")
    return cases + bad(
        astral=ASTRAL, longer=f"{{{own}}}0", **{one: f"{{{one}}}" for one in refused}
    )


_CHANNELS = types("array") + good(
    none=[], one=["{channel}"], prefixed=["ch_{CHANNEL}"], most=["{channel}"] * 100
)
_CHANNELS += bad(
    too_many=["{channel}"] * 101,
    missing=["{channel}", "{none}"],
    of_another_project=["{elsewhere}"],
    of_the_organization=["{whole}"],
    number_inside=[1],
    null_inside=[None],
    empty_inside=[""],
    text="{channel}",
)

_PLAIN: dict[str, Cases] = {
    "description": text(0, 1024) + optional(),
    "source_id": _id("project", "channel"),
    "destination_id": _id("channel", "whole", "project"),
    "cooldown_minutes": whole(0, 43200) + optional(null_ok=False),
    "channel_ids": _CHANNELS + _KEPT,
    "rule_config.threshold": _number(0, 1_000_000_000) + REQUIRED,
    "rule_config.window_minutes": _WINDOW,
    "rule_config.min_attempts": bad(of_another_type=5),
    "rule_config.percentile_target": bad(of_another_type=95),
    "rule_config.unknown": bad(text="x", null=None),
    "id": ANYTHING,
    "trigger_count": ANYTHING,
}
_TYPES = ("failure_rate", "latency", "dlq", "volume_drop", "issue_opened")
NEW: dict[str, Cases] = _PLAIN | {
    "name": text(1, 128) + REQUIRED,
    # What the other types want in their config is not there.
    "rule_type": words(*_TYPES)[:5] + REQUIRED + good(dlq="dlq")
    + bad(capitals="DLQ", other="weather", empty="", line_end="dlq\n", nul="dlq\0"),
    "rule_config": types("object") + REQUIRED + bad(empty={}),
    "enabled": ANYTHING,
}  # fmt: skip
CHANGE: dict[str, Cases] = _PLAIN | {
    "name": text(1, 128) + _KEPT,
    "rule_type": types("string") + _KEPT + good(same="dlq") + bad(other="latency", empty=""),
    "rule_config": types("object") + _KEPT + bad(empty={}),
    "enabled": types("boolean", "integer") + _KEPT + good(true=True, false=False, zero=0, one=1)
    + bad(two=2, below=-1, huge=10**30, word="true"),
    "env_id": ANYTHING,
}  # fmt: skip
OF_TYPE: dict[str, dict[str, Cases]] = {
    "failure_rate": {
        "rule_config.threshold": _number(0, 100) + REQUIRED,
        "rule_config.min_attempts": whole(1, 1_000_000_000) + optional(null_ok=False),
        "rule_config.window_minutes": _WINDOW,
        "rule_config.min_events": bad(of_another_type=5),
    },
    "latency": {
        "rule_config.threshold_ms": _number(1, 3_600_000) + REQUIRED,
        "rule_config.threshold": bad(both=1000),
        "rule_config.percentile_target": _number(1, 99.9) + optional(null_ok=False),
        "rule_config.window_minutes": _WINDOW,
        "rule_config.min_attempts": bad(of_another_type=5),
    },
    "volume_drop": {
        "rule_config.threshold": _number(0, 100) + REQUIRED,
        "rule_config.min_events": whole(1, 1_000_000_000) + optional(null_ok=False),
        "rule_config.window_minutes": _WINDOW,
    },
    "issue_opened": {
        "rule_config": types("object") + absent(ok=True) + null(ok=False) + good(empty={}),
        "rule_config.window_minutes": _WINDOW,
        "rule_config.threshold": bad(of_another_type=5),
    },
}

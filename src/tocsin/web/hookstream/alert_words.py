"""Alert rules in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.web.reference.words import CallWords

RESOURCE = "Alert rules"

_PATH = "/v1/alert-rules"
_AT = "2026-11-20T09:30:00.000Z"
_TOLD = "2026-11-20T11:02:15.000Z"
_CHANNEL = "019a5c1eb360000001000003"

_RULE: dict[str, Any] = {
    "id": "019a5c1ed2c0000001000005",
    "org_id": "019a5c1e8b20000001000001",
    "env_id": "019a5c1e9f40000001000002",
    "name": "Half of it fails",
    "description": None,
    "enabled": 1,
    "rule_type": "failure_rate",
    "rule_config": '{"threshold":0.5,"window_minutes":15}',
    "source_id": None,
    "destination_id": None,
    "channel_ids": f'["{_CHANNEL}"]',
    "cooldown_minutes": 60,
    "last_triggered_at": None,
    "trigger_count": 0,
    "created_at": _AT,
    "updated_at": _AT,
}
_TRIGGER: dict[str, Any] = {
    "id": "019aa0b6e2a05f3c1d9b0e47",
    "org_id": "019a5c1e8b20000001000001",
    "env_id": "019a5c1e9f40000001000002",
    "alert_rule_id": "019a5c1ed2c0000001000005",
    "trigger_reason": "24 of 40 attempts failed within 15 minutes: 60 %, more than 50 %.",
    "trigger_data": '{"failure_rate":0.6,"threshold":0.5,"failed":24,"attempts":40,'
    '"window_minutes":15}',
    "channels_notified": f'["{_CHANNEL}"]',
    "created_at": _TOLD,
}

_CONFIG = (
    "By type, and in each `window_minutes` (1 to 1440, default 5). failure_rate: `threshold` "
    "(up to 1 a fraction, above it percent), `min_attempts` (default 5). latency: `threshold_ms`, "
    "`percentile_target` (1 to 99.9, default 95). dlq: `threshold`. volume_drop: `threshold` in "
    "percent, `min_events` in the window before (default 20). issue_opened: nothing more."
)
_SOURCE = "Watch this environment instead of its own; null for its own."
_DESTINATION = "Watch this channel alone; null for all of the environment."
_CHANNELS = "Ids of the channels of the environment that are told; up to 100."
_COOLDOWN = "So long it does not trigger again; 0 to 43200, default 60."

FIELDS: dict[str, dict[str, str]] = {
    "AlertRuleIn": {
        "name": "What people call it; 1 to 128 characters.",
        "rule_type": "`failure_rate`, `latency`, `dlq`, `volume_drop` or `issue_opened`.",
        "rule_config": _CONFIG,
        "description": "Up to 1024 characters.",
        "source_id": _SOURCE,
        "destination_id": _DESTINATION,
        "channel_ids": _CHANNELS,
        "cooldown_minutes": _COOLDOWN,
        "env_id": "The environment, for a key that has none: id, or nothing if there is only one.",
        "org_id": "The organization, for the operator token.",
    },
    "AlertRuleChangeIn": {
        "name": "What people call it; 1 to 128 characters.",
        "description": "Up to 1024 characters; null for none.",
        "rule_config": "The new whole. " + _CONFIG,
        "source_id": _SOURCE,
        "destination_id": _DESTINATION,
        "channel_ids": "The new whole. " + _CHANNELS,
        "cooldown_minutes": _COOLDOWN,
        "enabled": "A boolean, or 0 or 1; while it is off nothing is evaluated.",
        "rule_type": "Only what it is: the type can't be changed.",
    },
    "AlertRuleOut": {
        "env_id": "The environment.",
        "name": "What people call it.",
        "description": "What it is for.",
        "enabled": "1, or 0 while it is not evaluated.",
        "rule_type": "What it looks at.",
        "rule_config": "JSON text, as it was given.",
        "source_id": "The environment that it watches instead of its own.",
        "destination_id": "The only channel that it watches.",
        "channel_ids": "JSON text: the channels that are told; deleted ones are gone from it.",
        "cooldown_minutes": "So long it does not trigger again.",
        "last_triggered_at": "When it triggered last.",
        "trigger_count": "How often it has triggered.",
        "updated_at": "When somebody changed it last.",
    },
    "AlertTriggerOut": {
        "env_id": "The environment.",
        "alert_rule_id": "The rule.",
        "trigger_reason": "Why, in a sentence.",
        "trigger_data": "JSON text: the figures behind it.",
        "channels_notified": "JSON text: the channels that were told.",
    },
    "AlertRuleReply": {"alert_rule": "The rule."},
    "AlertRuleHistoryReply": {
        "alert_rule": "The rule.",
        "history": "The last 50 times that it triggered, newest first.",
    },
    "AlertRulesReply": {"alert_rules": "Newest first."},
}

CALLS: dict[str, CallWords] = {
    f"POST {_PATH}": CallWords(
        resource=RESOURCE,
        summary="Create an alert rule",
        text="At most 200 for an organization. It watches from now on.",
        request={
            "name": "Half of it fails",
            "rule_type": "failure_rate",
            "rule_config": {"threshold": 0.5, "window_minutes": 15},
            "channel_ids": [_CHANNEL],
        },
        reply={"alert_rule": _RULE},
    ),
    f"GET {_PATH}": CallWords(
        resource=RESOURCE,
        summary="List alert rules",
        query="limit=20",
        reply={"alert_rules": [_RULE], "cursor": None, "has_more": False},
    ),
    f"GET {_PATH}/{{id}}": CallWords(
        resource=RESOURCE,
        summary="Read an alert rule with its history",
        reply={
            "alert_rule": _RULE | {"last_triggered_at": _TOLD, "trigger_count": 1},
            "history": [_TRIGGER],
        },
    ),
    f"PATCH {_PATH}/{{id}}": CallWords(
        resource=RESOURCE,
        summary="Change an alert rule",
        text="A rule that is switched off forgets that it fires.",
        request={"cooldown_minutes": 30},
        reply={"alert_rule": _RULE | {"cooldown_minutes": 30}},
    ),
    f"DELETE {_PATH}/{{id}}": CallWords(
        resource=RESOURCE,
        summary="Delete an alert rule",
        text="Nothing more is told by it; what it told before stays in the log of deliveries.",
        reply={"success": True},
    ),
}

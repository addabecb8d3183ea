"""The hookstream dialect in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.web.hookstream import routes
from tocsin.web.hookstream.errors import refuse
from tocsin.web.reference.words import CallWords, DialectWords, example_errors

_PATH = "/v1/notification-channels"
_CHANNELS = "Notification channels"
_AT = "2026-11-20T09:30:00.000Z"

_CHANNEL: dict[str, Any] = {
    "id": "019a5c1eb360000001000003",
    "org_id": "019a5c1e8b20000001000001",
    "env_id": "019a5c1e9f40000001000002",
    "name": "On call",
    "channel_type": "webhook",
    "config": '{"url":"https://example.com/hooks/alerts","secret":"••••"}',
    "enabled": 1,
    "last_sent_at": None,
    "error_count": 0,
    "last_error": None,
    "created_at": _AT,
    "updated_at": _AT,
    "type": "webhook",
    "event_types": ["*"],
}

WORDS = DialectWords(
    name="hookstream",
    anchor="hookstream",
    prefix="/v1",
    text="For clients of hookstream's notification channels: change the base URL, nothing else. An "
    "environment is a project; the key says which one. In replies `config` is JSON text and "
    "`enabled` is 0 or 1. Every reply carries `X-Request-Id` and the `RateLimit` headers.",
    credential="`X-API-Key: …`, `Authorization: Bearer …` or the cookie "
    "`better-auth.session_token`, in this order.",
    resources={_CHANNELS: "Channels of a project."},
    parameters={"id": "Its id; a prefix such as `ch_` is tolerated."},
    fields={
        "*": {"id": "24 hexadecimal characters.", "error": "What is wrong."},
        "NotificationChannelIn": {
            "name": "What people call it; 1 to 128 characters.",
            "channel_type": "`webhook`, `slack` or another channel type.",
            "config": "By type. webhook: `{url, secret?}`. slack: `{url}` or `{webhook_url}`.",
            "event_types": 'Up to 100 patterns; default `["*"]`.',
            "env_id": "The environment, for a key that has none: id, or nothing if there is only "
            "one.",
            "org_id": "The organization, for the operator token.",
        },
        "NotificationChannelOut": {
            "org_id": "The organization.",
            "env_id": "The environment.",
            "name": "What people call it.",
            "channel_type": "Its type.",
            "config": "JSON text; secrets masked.",
            "enabled": "1, or 0 while deliveries wait.",
            "last_sent_at": "When a delivery arrived last.",
            "error_count": "Failures since the last success.",
            "last_error": "The last failure, in a few words.",
            "created_at": "ISO 8601, UTC, milliseconds.",
            "updated_at": "When it was changed last.",
            "type": "The same as `channel_type`.",
            "event_types": "Which events it hears.",
        },
        "ChannelReply": {"channel": "The channel."},
        "ChannelsReply": {
            "channels": "Newest first.",
            "cursor": "Give it as `cursor` to get the next page; null on the last one.",
            "has_more": "Whether there is a next page.",
        },
        "HookstreamError": {
            "status": "The HTTP status.",
            "request_id": "Also in the header `X-Request-Id`.",
        },
    },
    calls={
        f"POST {_PATH}": CallWords(
            resource=_CHANNELS,
            summary="Create a channel",
            request={
                "name": "On call",
                "channel_type": "webhook",
                "config": {"url": "https://example.com/hooks/alerts", "secret": "s3cret"},
            },
            reply={"channel": _CHANNEL},
        ),
        f"GET {_PATH}": CallWords(
            resource=_CHANNELS,
            summary="List channels",
            query="limit=20",
            reply={"channels": [_CHANNEL], "cursor": None, "has_more": False},
        ),
        f"GET {_PATH}/{{id}}": CallWords(
            resource=_CHANNELS, summary="Read a channel", reply={"channel": _CHANNEL}
        ),
    },
    errors=example_errors(lambda error: refuse(error, "req_0123456789ab")),
    structs=(*routes.STRUCTS, routes.NotificationChannelIn),
)

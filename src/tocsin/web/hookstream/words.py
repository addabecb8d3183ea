"""The hookstream dialect in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.web.hookstream import alert_words, issue_words, routes
from tocsin.web.hookstream.errors import refuse
from tocsin.web.reference.words import CallWords, DialectWords, example_errors

_CHANNELS = "Notification channels"
_KEYS = "API keys"
_ENVIRONMENTS = "Environments"
_PATH = "/v1/notification-channels"
_KEY_PATH = "/v1/auth/api-keys"
_ENVIRONMENT_PATH = "/v1/environments"
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
_KEY: dict[str, Any] = {
    "id": "019a5c1ec7a0000001000004",
    "name": "ci",
    "key_prefix": "hs_live_5f0c",
    "scopes": None,
    "created_at": _AT,
}
_ENVIRONMENT: dict[str, Any] = {
    "id": "019a5c1e9f40000001000002",
    "org_id": "019a5c1e8b20000001000001",
    "name": "Production",
    "slug": "production",
    "created_at": _AT,
}
_WHICH = "The environment, for a key that has none: id, or nothing if there is only one."
_WHOSE = "The organization, for the operator token."
_PAGE: dict[str, Any] = {"cursor": None, "has_more": False}
_DONE = {"success": True}

WORDS = DialectWords(
    name="hookstream",
    anchor="hookstream",
    prefix="/v1",
    text="For clients of hookstream's notification channels: change the base URL, nothing else. An "
    "environment is a project; the key says which one. In replies `config` is JSON text and "
    "`enabled` is 0 or 1. Every reply carries `X-Request-Id` and the `RateLimit` headers.",
    credential="`X-API-Key: …`, `Authorization: Bearer …` or the cookie "
    "`better-auth.session_token`, in this order.",
    resources={
        _CHANNELS: "Channels of an environment.",
        alert_words.RESOURCE: "What an environment watches of its own deliveries.",
        issue_words.RESOURCE: "What troubles channels have, and since when.",
        _KEYS: "Credentials of an environment.",
        _ENVIRONMENTS: "The projects of the organization.",
    },
    parameters={"id": "Its id; a prefix such as `ch_` is tolerated."},
    fields={
        "*": {
            "id": "24 hexadecimal characters.",
            "error": "What is wrong.",
            "created_at": "ISO 8601, UTC, milliseconds.",
            "cursor": "Give it as `cursor` to get the next page; null on the last one.",
            "has_more": "Whether there is a next page.",
            "org_id": "The organization.",
            "success": "True.",
        },
        "NotificationChannelIn": {
            "name": "What people call it; 1 to 128 characters.",
            "channel_type": "`webhook`, `slack` or another channel type.",
            "config": "By type. webhook: `{url, secret?}`. slack, discord: `{url}` or "
            "`{webhook_url}`. email: `{to}` or `{email}`, an address or up to ten.",
            "event_types": 'Up to 100 patterns; default `["*"]`.',
            "env_id": _WHICH,
            "org_id": _WHOSE,
        },
        "NotificationChannelChangeIn": {
            "name": "What people call it; 1 to 128 characters.",
            "config": "The new whole; a masked value keeps the stored one, a secret that is left "
            "out is removed.",
            "enabled": "A boolean, or 0 or 1; while it is off deliveries wait.",
            "event_types": 'Up to 100 patterns; null is `["*"]`.',
            "channel_type": "Only what it is: the type can't be changed.",
        },
        "NotificationChannelOut": {
            "env_id": "The environment.",
            "name": "What people call it.",
            "channel_type": "Its type.",
            "config": "JSON text; secrets masked.",
            "enabled": "1, or 0 while deliveries wait.",
            "last_sent_at": "When a delivery arrived last.",
            "error_count": "Failures since the last success.",
            "last_error": "The last failure, in a few words.",
            "updated_at": "When it was changed last.",
            "type": "The same as `channel_type`.",
            "event_types": "Which events it hears.",
        },
        "ChannelReply": {"channel": "The channel."},
        "ChannelsReply": {"channels": "Newest first."},
        "ChannelTestReply": {
            "success": "Whether the target took it.",
            "error": "Why it did not, in a few words; null when it did.",
        },
        "ApiKeyIn": {
            "name": "What people call it; 1 to 128 characters.",
            "scopes": "null or `*`: a developer of the environment who may manage its keys. Else "
            "grants between spaces, such as `channel.* *.list`, never more than the maker has.",
            "env_id": _WHICH,
            "org_id": _WHOSE,
        },
        "ApiKeyMade": {
            "name": "What people call it.",
            "key": "The credential, shown here only.",
            "key_prefix": "How it begins, to recognise it by.",
            "scopes": "As they were given.",
        },
        "ApiKeyOut": {
            "name": "What people call it.",
            "key_prefix": "How it begins, to recognise it by.",
            "scopes": "As they were given.",
            "request_count": "How often it was used; some seconds behind.",
            "revoked": "1 once it was deleted, or its environment was.",
            "last_used_at": "When it was used last; some seconds behind.",
        },
        "ApiKeysReply": {"api_keys": "Newest first."},
        "EnvironmentIn": {
            "name": "What people call it; 1 to 128 characters.",
            "slug": "Its name in paths: up to 64 of `a-z`, `0-9`, `-`, free in the organization. "
            "Made from the name when it is left out.",
            "org_id": _WHOSE,
        },
        "EnvironmentChangeIn": {
            "name": "What people call it; 1 to 128 characters.",
            "slug": "Its name in paths; free in the organization.",
        },
        "EnvironmentOut": {
            "name": "What people call it.",
            "slug": "Its name in paths.",
        },
        "EnvironmentReply": {"environment": "The environment."},
        "EnvironmentsReply": {"environments": "Newest first."},
        "HookstreamError": {
            "status": "The HTTP status.",
            "request_id": "Also in the header `X-Request-Id`.",
        },
        **alert_words.FIELDS,
        **issue_words.FIELDS,
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
            reply={"channels": [_CHANNEL]} | _PAGE,
        ),
        f"GET {_PATH}/{{id}}": CallWords(
            resource=_CHANNELS, summary="Read a channel", reply={"channel": _CHANNEL}
        ),
        f"PATCH {_PATH}/{{id}}": CallWords(
            resource=_CHANNELS,
            summary="Change a channel",
            text="When it is answered nothing is sent with the old state any more.",
            request={"enabled": False},
            reply={"channel": _CHANNEL | {"enabled": 0}},
        ),
        f"DELETE {_PATH}/{{id}}": CallWords(
            resource=_CHANNELS, summary="Delete a channel", reply=_DONE
        ),
        f"POST {_PATH}/{{id}}/test": CallWords(
            resource=_CHANNELS,
            summary="Test a channel",
            text="At most 5 at once and 30 a minute for an organization.",
            reply={"success": False, "error": "http_status: 500"},
        ),
        f"POST {_KEY_PATH}": CallWords(
            resource=_KEYS,
            summary="Create a key",
            request={"name": "ci"},
            reply=_KEY | {"key": "hs_live_5f0c" + "9b" * 30},
        ),
        f"GET {_KEY_PATH}": CallWords(
            resource=_KEYS,
            summary="List keys",
            query="limit=20",
            reply={"api_keys": [_KEY | {"request_count": 7, "revoked": 0, "last_used_at": _AT}]}
            | _PAGE,
        ),
        f"DELETE {_KEY_PATH}/{{id}}": CallWords(
            resource=_KEYS,
            summary="Revoke a key",
            text="When it is answered no call with the key succeeds any more.",
            reply=_DONE,
        ),
        f"POST {_ENVIRONMENT_PATH}": CallWords(
            resource=_ENVIRONMENTS,
            summary="Create an environment",
            request={"name": "Production", "slug": "production"},
            reply={"environment": _ENVIRONMENT},
        ),
        f"GET {_ENVIRONMENT_PATH}": CallWords(
            resource=_ENVIRONMENTS,
            summary="List environments",
            query="limit=20",
            reply={"environments": [_ENVIRONMENT]} | _PAGE,
        ),
        f"GET {_ENVIRONMENT_PATH}/{{id}}": CallWords(
            resource=_ENVIRONMENTS,
            summary="Read an environment",
            reply={"environment": _ENVIRONMENT},
        ),
        f"PATCH {_ENVIRONMENT_PATH}/{{id}}": CallWords(
            resource=_ENVIRONMENTS,
            summary="Change an environment",
            request={"name": "Production"},
            reply={"environment": _ENVIRONMENT},
        ),
        f"DELETE {_ENVIRONMENT_PATH}/{{id}}": CallWords(
            resource=_ENVIRONMENTS,
            summary="Delete an environment",
            text="Its channels and keys are void at once.",
            reply=_DONE,
        ),
        **alert_words.CALLS,
        **issue_words.CALLS,
    },
    errors=example_errors(lambda error: refuse(error, "req_0123456789ab")),
    structs=routes.STRUCTS,
)

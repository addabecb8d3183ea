"""One of each, as the native dialect shows it: what the examples are made of."""

from typing import Any

import msgspec

from tocsin.domain.errors import TocsinError
from tocsin.web.native import problems

TOKEN = "toc_EXAMPLEexampleEXAMPLEexampleEXAMPLEexample01ab-Cd3F_"  # noqa: S105 - nobody's
SECRET = "whsec_RXhhbXBsZSBvZiBhIHNpZ25pbmcgc2VjcmV0LiBObyE="  # noqa: S105 - nobody's

_ORG_ID = "019a5c1e8b20000001000001"
_PROJECT_ID = "019a5c1e9f40000001000002"
_CHANNEL_ID = "019a5c1eb360000001000003"
_EVENT_ID = "019a5c1ec780000001000004"
_DELIVERY_ID = "019a5c1ec780000001000005"
_AT = "2026-11-20T09:30:00.000Z"
_LATER = "2026-11-20T09:30:05.120Z"

ORGANIZATION: dict[str, Any] = {
    "id": _ORG_ID,
    "name": "Acme",
    "slug": "acme",
    "created_at": _AT,
    "updated_at": _AT,
}
PROJECT: dict[str, Any] = {
    "id": _PROJECT_ID,
    "organization_id": _ORG_ID,
    "name": "iOS app",
    "slug": "ios",
    "created_at": _AT,
    "updated_at": _AT,
}
KEY: dict[str, Any] = {
    "id": "019a5c1edba0000001000006",
    "name": "CI",
    "role": None,
    "permissions": ["event.publish"],
    "project_id": _PROJECT_ID,
    "token_prefix": TOKEN[:12],
    "expires_at": None,
    "last_used_at": _LATER,
    "created_at": _AT,
}
CHANNEL_IN: dict[str, Any] = {
    "name": "CI hook",
    "type": "webhook",
    "settings": {"url": "https://example.com/hooks/ci"},
    "event_types": ["build.*"],
    "filter": [{"field": "branch", "op": "eq", "value": "main"}],
}
CHANNEL: dict[str, Any] = {
    "id": _CHANNEL_ID,
    "organization_id": _ORG_ID,
    "project_id": None,
    "name": "CI hook",
    "type": "webhook",
    "description": None,
    "settings": {
        "url": "https://example.com/hooks/ci",
        "send_token": False,
        "signing_secret": None,
    },
    "event_types": ["build.*"],
    "filter": [{"field": "branch", "op": "eq", "value": "main"}],
    "enabled": True,
    "headers": {},
    "format": "tocsin",
    "retry": {"schedule": ["5s", "5m", "30m", "2h", "5h", "10h", "10h"]},
    "timeout_seconds": 15,
    "rate_limit": None,
    "max_in_flight": None,
    "ordered": False,
    "breaker": {"failures": 5, "cooldown_seconds": 60},
    "status": "active",
    "disabled_reason": None,
    "last_sent_at": _LATER,
    "error_count": 0,
    "last_error": None,
    "created_at": _AT,
    "updated_at": _AT,
}
CHANNEL_TYPE: dict[str, Any] = {
    "name": "webhook",
    "title": "Webhook",
    "schema": {"type": "object", "properties": {"url": {"type": "string"}}},
    "secret_fields": ["signing_secret"],
    "docs_url": None,
    "available": True,
    "install": None,
}
EVENT_IN: dict[str, Any] = {
    "type": "build.created",
    "data": {"number": 42, "branch": "main"},
    "idempotency_key": "build-42",
}
ACCEPTED: dict[str, Any] = {
    "id": _EVENT_ID,
    "type": "build.created",
    "created_at": _AT,
    "duplicate": False,
    "mismatch": False,
    "deliveries": 1,
    "unmatched": None,
}
EVENT: dict[str, Any] = {
    "id": _EVENT_ID,
    "organization_id": _ORG_ID,
    "project_id": None,
    "type": "build.created",
    "data": {"number": 42, "branch": "main"},
    "idempotency_key": "build-42",
    "occurred_at": _AT,
    "created_at": _AT,
    "deliveries": 1,
    "unmatched": None,
}
DELIVERY: dict[str, Any] = {
    "id": _DELIVERY_ID,
    "event_id": _EVENT_ID,
    "event_type": "build.created",
    "channel_id": _CHANNEL_ID,
    "project_id": None,
    "origin": "event",
    "status": "delivered",
    "waiting_for": None,
    "attempt_count": 1,
    "next_attempt_at": None,
    "created_at": _AT,
    "finished_at": _LATER,
    "last_status_code": 204,
    "last_error": None,
}
REOPENED = {"status": "waiting", "next_attempt_at": _LATER, "finished_at": None}
ATTEMPT: dict[str, Any] = {
    "number": 1,
    "started_at": _AT,
    "duration_ms": 118,
    "outcome": "delivered",
    "status_code": 204,
    "error": None,
    "response_body": "",
    "superseded": False,
}
DELIVERY_ATTEMPT: dict[str, Any] = {"delivery_id": DELIVERY["id"], **ATTEMPT}
STATISTICS: dict[str, Any] = {
    "start": "2026-11-20T09:00:00.000Z",
    "channel_id": None,
    "project_id": None,
    "accepted": 1200,
    "attempts": 1224,
    "delivered": 1200,
    "failed": 24,
    "exhausted": 0,
    "failure_rate": 0.0196,
    "latency_ms": {"p50": 41.3, "p95": 118.0, "p99": 340.6},
}
BACKUP: dict[str, Any] = {
    "name": "tocsin-20261120T093000.000000Z.db",
    "status": "done",
    "bytes_done": 48234496,
    "bytes_total": 48234496,
    "started_at": _AT,
    "finished_at": _LATER,
    "error": None,
}
BEGUN: dict[str, Any] = {"status": "running", "bytes_done": 0, "finished_at": None}
ROTATION: dict[str, Any] = {
    "fingerprint": "9f2c51d07be48a36",
    "status": "done",
    "done": 1200,
    "total": 1200,
    "resealed": 1200,
    "unreadable": 0,
    "started_at": _AT,
    "finished_at": _LATER,
    "error": None,
}
ROTATION_BEGUN: dict[str, Any] = {
    "status": "running",
    "done": 0,
    "total": 0,
    "resealed": 0,
    "finished_at": None,
}
JOB: dict[str, Any] = {
    "id": "019a5c1eefc0000001000007",
    "kind": "recover",
    "channel_id": _CHANNEL_ID,
    "status": "done",
    "total": 12000,
    "done": 12000,
    "created_at": _AT,
    "finished_at": _LATER,
}
JOB_BEGUN: dict[str, Any] = {"status": "running", "total": None, "done": 0, "finished_at": None}
RECOVER_IN: dict[str, Any] = {"since": "2026-11-20T00:00:00Z", "statuses": ["exhausted"]}
AUDIT: dict[str, Any] = {
    "id": "019a5c1f03e0000001000008",
    "at": _AT,
    "actor": {"kind": "key", "id": KEY["id"], "name": "CI"},
    "dialect": "native",
    "address": "203.0.113.7",
    "action": "channel.update",
    "target": {"kind": "channel", "id": _CHANNEL_ID},
    "changes": {"enabled": [False, True]},
}
PERSON: dict[str, Any] = {
    "id": "019a5c1f17d0000001000009",
    "email": "ann@example.com",
    "name": "Ann",
}
MEMBERSHIP: dict[str, Any] = {"id": _ORG_ID, "name": "Acme", "slug": "acme", "role": "admin"}
SESSION: dict[str, Any] = {
    "id": "019a5c1f2bc000000100000a",
    "user": PERSON,
    "organization": MEMBERSHIP,
    "project": None,
    "organizations": [MEMBERSHIP],
    "created_at": _AT,
    "ends_at": "2026-12-20T09:30:00.000Z",
    "expires_at": "2027-02-18T09:30:00.000Z",
}
DEVICE: dict[str, Any] = {
    "id": SESSION["id"],
    "current": True,
    "address": "203.0.113.7",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "created_at": _AT,
    "last_used_at": _AT,
    "ends_at": "2026-12-20T09:30:00.000Z",
}
MEMBER: dict[str, Any] = {
    "id": "019a5c1f3fb000000100000b",
    "user_id": PERSON["id"],
    "email": PERSON["email"],
    "name": PERSON["name"],
    "role": "admin",
    "created_at": _AT,
    "updated_at": _AT,
}
USER: dict[str, Any] = PERSON | {"has_password": True, "created_at": _AT, "updated_at": _AT}
LINK: dict[str, Any] = {
    "id": "019a5c1f53a000000100000c",
    "kind": "invite",
    "email": "bob@example.com",
    "role": "developer",
    "url": "https://tocsin.example/link/EXAMPLEexampleEXAMPLEexampleEXAMPLEexample0",
    "expires_at": "2026-11-20T09:45:00.000Z",
}
LINK_SHOWN: dict[str, Any] = {
    "kind": "invite",
    "email": "bob@example.com",
    "organization": "Acme",
    "role": "developer",
    "asks": "new_password",
    "expires_at": "2026-11-20T09:45:00.000Z",
}


def made(one: dict[str, Any]) -> dict[str, Any]:
    """As the reply shows it that has made it: new, and a webhook with its secret."""
    if "settings" not in one:
        return one
    return one | {"last_sent_at": None, "secret": SECRET}


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    """A page of a list."""
    return {"data": list(items), "next_cursor": None}


def problem(error: TocsinError) -> Any:
    """An error as it is shown."""
    return msgspec.to_builtins(problems.problem(error))

"""Issues in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.web.reference.words import CallWords

RESOURCE = "Issues"

_PATH = "/v1/issues"
_ISSUE: dict[str, Any] = {
    "id": "019aa0b1c4d85f3c1d9b0e47",
    "org_id": "019a5c1e8b20000001000001",
    "env_id": "019a5c1e9f40000001000002",
    "destination_id": "019a5c1eb360000001000003",
    "destination_name": "On call",
    "fingerprint": "http_503",
    "title": "The target answers HTTP 503",
    "status": "open",
    "snoozed_until": None,
    "occurrence_count": 24,
    "first_seen_at": "2026-11-20T10:57:03.000Z",
    "last_seen_at": "2026-11-20T11:02:15.000Z",
    "resolved_at": None,
    "last_attempt_id": "019aa0b1b1a0000001000077.8",
    "last_event_id": "019aa0b1b19c000001000076",
    "last_error": "http_status: 503",
    "last_status_code": 503,
    "created_at": "2026-11-20T10:57:03.000Z",
    "updated_at": "2026-11-20T11:02:15.000Z",
}

FIELDS: dict[str, dict[str, str]] = {
    "IssueChangeIn": {
        "status": "`open`, `acknowledged` or `resolved`.",
        "snoozed_until": "A time in the future, with `Z` or an offset: until then no alert says "
        "that it was opened. null ends it.",
    },
    "IssueOut": {
        "env_id": "The environment of the channel.",
        "destination_id": "The channel.",
        "destination_name": "What people call it; null once it is deleted.",
        "fingerprint": "The kind of error: `http_503`, `timeout`, `breaker_open`.",
        "title": "The same in words.",
        "status": "`open`, `acknowledged` or `resolved`.",
        "snoozed_until": "Until when no alert says that it was opened.",
        "occurrence_count": "How often it was seen.",
        "first_seen_at": "When it was seen first.",
        "last_seen_at": "When it was seen last.",
        "resolved_at": "When it was resolved, by a person or after 30 quiet minutes.",
        "last_attempt_id": "The attempt that was seen last: its delivery's id, a dot, its number.",
        "last_event_id": "The event that was seen last.",
        "last_error": "How that attempt failed.",
        "last_status_code": "What the target answered to it.",
        "updated_at": "When it was seen or changed last.",
    },
    "Pagination": {
        "total": "How many there are on all.",
        "limit": "As it was asked for.",
        "offset": "As it was asked for.",
        "has_more": "Whether there are more after these.",
    },
    "IssueReply": {"issue": "The issue."},
    "IssuesReply": {"issues": "Newest first.", "pagination": "Which of how many these are."},
    "IssueSummaryReply": {
        "open": "Nobody looks at them yet.",
        "acknowledged": "Somebody does.",
        "resolved": "They are over.",
    },
    "IssueRetryReply": {"retried": "How many deliveries are sent once more."},
}

CALLS: dict[str, CallWords] = {
    f"GET {_PATH}": CallWords(
        resource=RESOURCE,
        summary="List issues",
        query="status=open&limit=50",
        reply={
            "issues": [_ISSUE],
            "pagination": {"total": 1, "limit": 50, "offset": 0, "has_more": False},
        },
    ),
    f"GET {_PATH}/summary": CallWords(
        resource=RESOURCE,
        summary="Count issues",
        reply={"open": 1, "acknowledged": 0, "resolved": 12},
    ),
    f"GET {_PATH}/{{id}}": CallWords(
        resource=RESOURCE, summary="Read an issue", reply={"issue": _ISSUE}
    ),
    f"PATCH {_PATH}/{{id}}": CallWords(
        resource=RESOURCE,
        summary="Change an issue",
        text="A failure of its kind opens a resolved issue again.",
        request={"status": "acknowledged"},
        reply={"issue": _ISSUE | {"status": "acknowledged"}},
    ),
    f"POST {_PATH}/{{id}}/retry": CallWords(
        resource=RESOURCE,
        summary="Retry an issue",
        text="Sends once more, in the background, what was given up for this kind of error since "
        "the issue was opened.",
        reply={"success": True, "retried": 24},
    ),
}

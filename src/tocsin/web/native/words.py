"""The native dialect in words: every call with an example, every field with its rule."""

from typing import Any

from tocsin.domain import errors
from tocsin.web.native import (
    attempts,
    backup,
    keys,
    master_key,
    organizations,
    people_words,
    routes,
    samples,
    statistics,
    views,
)
from tocsin.web.native.problems import refuse
from tocsin.web.reference.words import CallWords, DialectWords, example_errors

_ORG = "/api/v1/organizations/{org}"

_ABOUT_EVENT = {
    "type": "What happened: dotted words like `build.created`, ≤ 128 characters. "
    "`tocsin.` and `alert.` are reserved.",
    "data": "The payload: any JSON value, ≤ 64 deep; the whole event ≤ 256 KiB.",
    "project": "Id or slug of the project it belongs to; without one only channels of the "
    "organization hear it.",
    "idempotency_key": "1 to 256 printable characters. The same key again returns the first event "
    "and delivers nothing.",
    "occurred_at": "When it happened, ISO 8601 with `Z` or an offset; now, if left out.",
    "channel_ids": "Exactly these channels, whatever their patterns and filters say; ≤ 1,000.",
    "title": "Headline for channels that people read; ≤ 256 characters.",
    "text": "Message for people; ≤ 4,096 characters.",
    "severity": "How urgent it is for people.",
    "link": "Where people read more: http or https, ≤ 2,048 characters.",
    "fields": "Up to 50 facts for people, name to value.",
}

_ABOUT_CHANNEL = {
    "name": "What people call it; 1 to 128 characters.",
    "type": "A channel type, such as `webhook`, `slack` or `email`.",
    "settings": "The type's own settings; see the channel types below. Secrets read back masked.",
    "project": "Id or slug of a project; without one it is a channel of the whole organization.",
    "description": "For people; ≤ 1,024 characters.",
    "event_types": "Up to 100 patterns: `build.created`, `build.*`, or `*` for everything. "
    'Default `["*"]`.',
    "filter": "Up to 20 conditions on `data`, all of which must hold: `{field, op, value}` with op "
    "eq, neq, contains, gt, gte, lt, lte, exists or in.",
    "enabled": "While false, matching events wait; enabling sends them, oldest first.",
    "headers": "Up to 20 headers of your own, for webhooks. Values read back masked.",
    "format": "Body of a webhook: `tocsin` (default), `cloudevents`, `applivery` or `hookstream`.",
    "retry": '`{"schedule": ["5s", "5m", …]}`: how long to wait after each failed attempt; '
    "≤ 20 steps of 1s to 7d.",
    "timeout_seconds": "1 to 30, for a whole attempt. Default 15.",
    "rate_limit": "`{count, per_seconds}`; null is none.",
    "max_in_flight": "Attempts at once, 1 to 1,000; null is the server's default.",
    "ordered": "Whether an event waits until the one before it is finished.",
    "breaker": "`{failures, cooldown_seconds}`: pause after so many failures in a row; null is "
    "off.",
}

_ABOUT_ACCEPTED = {
    "duplicate": "Whether the idempotency key was known; this is then the first event.",
    "mismatch": "Whether a duplicate differs from the first in type or data.",
    "deliveries": "To how many channels it goes.",
    "unmatched": "Why to none: `no_channel`, `no_type` or `filtered`.",
}

_ABOUT_ATTEMPT = {
    "number": "1 for the first.",
    "started_at": "When it began.",
    "duration_ms": "How long it took.",
    "outcome": "`delivered`, `retry`, `rejected` or `gone`.",
    "status_code": "What the target answered.",
    "error": "Why it failed; begins with a reason code.",
    "response_body": "The beginning of the target's answer, ≤ 4 KiB.",
    "superseded": "Whether it ended after the delivery had gone on without it.",
}

_FIELDS: dict[str, dict[str, str]] = {
    "*": {
        "id": "24 hexadecimal characters.",
        "name": "What people call it; 1 to 128 characters.",
        "slug": "For URLs: lower-case letters, digits and dashes, ≤ 64; unique.",
        "organization_id": "The organization it belongs to.",
        "project_id": "The project it belongs to; null for the whole organization.",
        "created_at": "ISO 8601, UTC, milliseconds.",
        "updated_at": "When it was changed last.",
        "data": "The items, newest first.",
        "next_cursor": "Give it as `cursor` to get the next page; null on the last one.",
        "scanned_to": "There when a long search stopped early: go on with `next_cursor`.",
        "status": "Its present state.",
        "error": "Why it was refused or failed; null where it was not.",
        "type": "The event's type.",
        "channel_id": "The channel.",
        "event_id": "The event.",
        "finished_at": "When it ended; null while it has not.",
        "title": "For people.",
        "kind": "What sort of thing it is.",
    },
    "KeyIn": {
        "role": "`admin`, `developer` or `viewer`; united with `permissions`.",
        "permissions": "Grants such as `event.publish` or `channel.*`.",
        "project": "Id or slug: the key then sees that project and nothing else.",
        "expires_at": "When it ends, ISO 8601; never, if left out.",
    },
    "KeyOut": {
        "role": "Its role; null for one with permissions only.",
        "permissions": "Its own grants, beside those of its role.",
        "token_prefix": "The first characters of the token, to recognise it by.",
        "expires_at": "When it ends; null for never.",
        "last_used_at": "When it was used last, to about ten seconds.",
        "token": "The credential itself; only in the reply that makes the key.",
    },
    "ChannelIn": _ABOUT_CHANNEL,
    "ChannelChangeIn": {
        name: text for name, text in _ABOUT_CHANNEL.items() if name not in ("type", "project")
    }
    | {"backlog": "`cancel`, together with `enabled: true`: drop what has waited."},
    "ChannelOut": {name: text for name, text in _ABOUT_CHANNEL.items() if name != "project"}
    | {
        "status": "`active`, `failing` after five failures in a row, or `disabled`.",
        "disabled_reason": "Why it is disabled, when Tocsin did it: `gone` after a 410, `failing` "
        "after days of nothing but failures.",
        "last_sent_at": "When a delivery arrived last.",
        "error_count": "Failures since the last success.",
        "last_error": "The last failure, in a few words.",
        "public_key": "`whpk_` and base64: verifies `v1a` signatures; only where its settings ask "
        "for them.",
        "secret": "The signing secret; only in the reply that makes a webhook.",
    },
    "Condition": {
        "field": "Dotted path into `data`; a number is an index.",
        "op": "eq, neq, contains, gt, gte, lt, lte, exists or in.",
        "value": "What to compare with, as JSON.",
    },
    "RetryOut": {"schedule": "Durations such as `5s`, `5m`, `2h`, `1d`."},
    "RateLimit": {"count": "So many …", "per_seconds": "… in so many seconds."},
    "Breaker": {
        "failures": "Failed attempts in a row, of as many deliveries; 1 to 100.",
        "cooldown_seconds": "Pause before the next try; 1 to 86,400.",
    },
    "EventIn": _ABOUT_EVENT,
    "EventOut": {
        "data": "The payload, exactly as it was published.",
        "idempotency_key": "The key it was published with.",
        "occurred_at": "When it happened, by its publisher.",
        "deliveries": "How many; on a single read the deliveries themselves.",
        "unmatched": "Why nobody got it: `no_channel`, `no_type` or `filtered`; null if somebody "
        "did.",
    },
    "BatchIn": {"events": "1 to 1,000 events."},
    "BatchOut": {"results": "One for each event, in order."},
    "AcceptedOut": _ABOUT_ACCEPTED,
    "ResultOut": _ABOUT_ACCEPTED | {"error": "Why this one was refused, as a problem."},
    "DeliveryOut": {
        "event_type": "The event's type.",
        "origin": "`event`, `test`, `alert` or `operational`.",
        "status": "`waiting`, `sending`, `delivered`, `exhausted`, `rejected` or `cancelled`.",
        "waiting_for": "What a waiting one waits for: `retry`, `rate_limit`, `breaker`, `order`, "
        "`channel_disabled`.",
        "attempt_count": "How often it was tried.",
        "next_attempt_at": "When it is tried next.",
        "last_status_code": "The target's last status.",
        "last_error": "Why the last attempt failed; begins with a reason code.",
        "attempts": "Every attempt; on a single read.",
    },
    "AttemptOut": _ABOUT_ATTEMPT,
    "DeliveryAttemptOut": {"delivery_id": "The delivery it belongs to."} | _ABOUT_ATTEMPT,
    "StatisticsListOut": {"data": "Every bucket of the period, oldest first."},
    "StatisticsOut": {
        "start": "When the bucket begins, UTC.",
        "channel_id": "The channel that was asked for; else null.",
        "project_id": "The project that was asked for, or the channel's; else null.",
        "accepted": "Events that were accepted; 0 where one channel was asked for.",
        "attempts": "Attempts that ended in it.",
        "delivered": "Those of them that delivered.",
        "failed": "Those of them that did not.",
        "exhausted": "Deliveries that were given up after their last attempt.",
        "failure_rate": "`failed` / `attempts`; null without an attempt.",
        "latency_ms": "How long attempts took; null without an attempt.",
    },
    "LatencyOut": {
        "p50": "Half of the attempts took no longer; at most 25 % off.",
        "p95": "95 % took no longer.",
        "p99": "99 % took no longer.",
    },
    "LatestBackupOut": {"latest": "Null when there was none since this server started."},
    "BackupOut": {
        "name": "The file, in the folder `backups` beside the database.",
        "status": "`running`, `done` or `failed`.",
        "bytes_done": "How much is copied.",
        "bytes_total": "How much there is; grows with the database.",
        "started_at": "When it began.",
        "error": "Why it failed.",
    },
    "JobOut": {
        "kind": "What it does: `recover`.",
        "status": "`running`, `done`, `cancelled` or `failed`.",
        "total": "How many deliveries it found; null until it has counted them.",
        "done": "How many of them are on their way again. What was retried meanwhile, or whose "
        "event is gone, is left out.",
    },
    "RecoverIn": {
        "since": "Deliveries created at or after this time, ISO 8601.",
        "until": "And before this one; now, if left out.",
        "statuses": "`exhausted`, `rejected` or both; both, if left out.",
    },
    "AuditOut": {
        "at": "When.",
        "actor": "Who.",
        "dialect": "Through which API.",
        "address": "From where.",
        "action": "The permission it took, such as `channel.update`.",
        "target": "To what.",
        "changes": "What changed; secrets masked.",
    },
    "ActorOut": {
        "kind": "`key`, `session` (a person), `operator`, `system` (Tocsin itself), or `stranger`.",
        "id": "The key or user.",
    },
    "TestOut": {"success": "Whether it arrived.", "attempt": "How it went."},
    "SecretOut": {
        "secret": "`whsec_` and base64, as Standard Webhooks libraries take it.",
        "public_key": "`whpk_` and base64, of a channel with `v1a` signatures; no secret.",
    },
    "RotationIn": {
        "overlap_seconds": "How long the old secret signs beside the new one, 0 to 604,800; with 0 "
        "it signs nothing any more once this is answered. A day, if left out.",
    },
    "LatestRotationOut": {"latest": "Null when there was none since this server started."},
    "RotationOut": {
        "fingerprint": "Of the key that everything is sealed under from now on.",
        "status": "`running`, `done` or `failed`.",
        "done": "How many channels were looked at in this walk.",
        "total": "How many there are.",
        "resealed": "How many were sealed anew.",
        "unreadable": "How many open under none of the keys that are given; they stay as they are.",
        "started_at": "When it began.",
        "error": "Why it failed; begun again, it goes on.",
    },
    "ChannelTypeOut": {
        "name": "What `type` of a channel says.",
        "schema": "JSON Schema of `settings`.",
        "secret_fields": "Settings that read back masked.",
        "docs_url": "Where to read more.",
        "available": "Whether this installation can send to it.",
        "install": "What is missing where it can't.",
    },
    "Problem": {
        "type": "Always `about:blank`.",
        "title": "The code in words.",
        "status": "The HTTP status.",
        "detail": "What is wrong, for people.",
        "code": "What is wrong, for programs; one of a closed list.",
        "errors": "The first field that breaks a rule.",
    },
    "FieldProblem": {
        "field": "Dotted path; empty for the whole body.",
        "message": "The rule it breaks.",
    },
} | people_words.FIELDS


def _call(resource: str, summary: str, **more: Any) -> CallWords:
    return CallWords(resource=resource, summary=summary, **more)


def _crud(kind: str, resource: str, path: str, one: Any, made: Any, changed: Any) -> dict[str, Any]:
    article = "an" if kind[0] in "aeiou" else "a"
    collection = path.rpartition("/")[0]
    return {
        f"POST {collection}": _call(
            resource, f"Create {article} {kind}", request=made, reply=samples.made(one)
        ),
        f"GET {collection}": _call(
            resource, f"List {resource.lower()}", query="limit=2", reply=samples.listed(one)
        ),
        f"GET {path}": _call(resource, f"Read {article} {kind}", reply=one),
        f"PATCH {path}": _call(
            resource, f"Change {article} {kind}", request=changed, reply=one | changed
        ),
    }


_CALLS: dict[str, CallWords] = {
    f"POST {_ORG}/events": _call(
        "Events",
        "Publish an event",
        text="Send an idempotency key and you may repeat the call until it is answered.",
        request=samples.EVENT_IN,
        reply=samples.ACCEPTED,
    ),
    f"POST {_ORG}/events/batch": _call(
        "Events",
        "Publish a batch",
        text="Each event is accepted or refused by itself; 503 only when none could be stored.",
        request={"events": [samples.EVENT_IN, {"type": "build..", "data": {}}]},
        reply={
            "results": [
                samples.ACCEPTED,
                {"error": samples.problem(errors.Invalid("type", "must be dotted words"))},
            ]
        },
    ),
    f"GET {_ORG}/events": _call(
        "Events",
        "List events",
        query="type=build.created&limit=2",
        reply=samples.listed(samples.EVENT),
    ),
    f"GET {_ORG}/events/{{id}}": _call(
        "Events", "Read an event", reply=samples.EVENT | {"deliveries": [samples.DELIVERY]}
    ),
    **_crud(
        "channel",
        "Channels",
        f"{_ORG}/channels/{{id}}",
        samples.CHANNEL,
        samples.CHANNEL_IN,
        {"event_types": ["build.*", "release.published"]},
    ),
    f"DELETE {_ORG}/channels/{{id}}": _call("Channels", "Delete a channel"),
    f"GET {_ORG}/channels/{{id}}/secret": _call(
        "Channels", "Show the signing secret", reply={"secret": samples.SECRET}
    ),
    f"POST {_ORG}/channels/{{id}}/rotate-secret": _call(
        "Channels",
        "Rotate the signing secret",
        text="Deliveries carry a signature by the new secret and one by the old until the overlap "
        "is over; at most three old ones sign. A key for `v1a` is rotated with it. 404 for a type "
        "that does not sign.",
        request={"overlap_seconds": 86400},
        reply={"secret": samples.SECRET},
    ),
    f"POST {_ORG}/channels/{{id}}/test": _call(
        "Channels",
        "Test a channel",
        text="Sends an event of type `tocsin.test`, and answers when the attempt is over.",
        reply={"success": True, "attempt": samples.ATTEMPT},
    ),
    f"POST {_ORG}/channels/{{id}}/recover": _call(
        "Jobs",
        "Recover a channel",
        text="A job sends once more what had failed when it began, oldest first, as fast as the "
        "channel takes it: no more than 1,000 of its deliveries wait at a time.",
        request=samples.RECOVER_IN,
        reply=samples.JOB | samples.JOB_BEGUN,
    ),
    "GET /api/v1/channel-types": _call(
        "Channels", "List channel types", reply={"data": [samples.CHANNEL_TYPE]}
    ),
    f"GET {_ORG}/deliveries": _call(
        "Deliveries",
        "List deliveries",
        query="status=exhausted&limit=2",
        reply=samples.listed(samples.DELIVERY),
    ),
    f"GET {_ORG}/deliveries/{{id}}": _call(
        "Deliveries", "Read a delivery", reply=samples.DELIVERY | {"attempts": [samples.ATTEMPT]}
    ),
    f"GET {_ORG}/attempts": _call(
        "Deliveries",
        "List attempts of many deliveries",
        query="limit=2",
        reply=samples.listed(samples.DELIVERY_ATTEMPT),
    ),
    f"GET {_ORG}/stats": _call(
        "Statistics",
        "Read statistics",
        text="Every bucket of the period, oldest first, empty ones too; at most 1,500. Minutes are "
        "kept for 3 days, hours for 90, days for 400. `channel` and `project` exclude each other.",
        query="bucket=hour&after=2026-11-20T09:00:00Z&before=2026-11-20T10:00:00Z",
        reply={"data": [samples.STATISTICS]},
    ),
    f"POST {_ORG}/deliveries/{{id}}/retry": _call(
        "Deliveries", "Send it once more", reply=samples.DELIVERY | samples.REOPENED
    ),
    **_crud(
        "organization",
        "Organizations",
        _ORG,
        samples.ORGANIZATION,
        {"name": "Acme", "slug": "acme"},
        {"name": "Acme Inc."},
    ),
    f"DELETE {_ORG}": _call("Organizations", "Delete an organization", query="confirm=acme"),
    **_crud(
        "project",
        "Projects",
        f"{_ORG}/projects/{{project}}",
        samples.PROJECT,
        {"name": "iOS app", "slug": "ios"},
        {"name": "iPhone app"},
    ),
    f"DELETE {_ORG}/projects/{{project}}": _call("Projects", "Delete a project"),
    f"POST {_ORG}/keys": _call(
        "Keys",
        "Create a key",
        text="No key can make one that may do more than itself.",
        request={"name": "CI", "permissions": ["event.publish"], "project": "ios"},
        reply=samples.KEY | {"token": samples.TOKEN},
    ),
    f"GET {_ORG}/keys": _call("Keys", "List keys", reply=samples.listed(samples.KEY)),
    f"DELETE {_ORG}/keys/{{id}}": _call("Keys", "Revoke a key"),
    f"GET {_ORG}/jobs": _call("Jobs", "List jobs", reply=samples.listed(samples.JOB)),
    f"GET {_ORG}/jobs/{{id}}": _call("Jobs", "Read a job", reply=samples.JOB),
    f"DELETE {_ORG}/jobs/{{id}}": _call("Jobs", "Cancel a job"),
    f"GET {_ORG}/audit": _call(
        "Audit",
        "Read the audit log",
        query="action=channel.update&limit=2",
        reply=samples.listed(samples.AUDIT),
    ),
    "POST /api/v1/backup": _call(
        "Backup",
        "Begin a backup",
        text="A copy of the database beside it, made in steps while everything goes on. `tocsin "
        "backup` makes this call and takes the copy to where you want it.",
        reply=samples.BACKUP | samples.BEGUN,
    ),
    "GET /api/v1/backup": _call(
        "Backup", "See how far a backup is", reply={"latest": samples.BACKUP}
    ),
    "POST /api/v1/master-key/rotate": _call(
        "Master key",
        "Rotate the master key",
        text="Seals all secrets under the first of the keys in `TOCSIN_MASTER_KEY`, in steps while "
        "everything goes on, then forgets the others. `tocsin rotate-master-key` makes this call.",
        reply=samples.ROTATION | samples.ROTATION_BEGUN,
    ),
    "GET /api/v1/master-key/rotate": _call(
        "Master key", "See how far a rotation is", reply={"latest": samples.ROTATION}
    ),
    "GET /api/v1/audit": _call(
        "Audit", "Read the server's audit log", reply=samples.listed(samples.AUDIT)
    ),
} | people_words.CALLS

WORDS = DialectWords(
    name="Tocsin",
    anchor="tocsin",
    prefix="/api/v1",
    text="Tocsin's own API: everything there is. `{org}` and `{project}` take an id or a slug. "
    "Lists are newest first and come in pages. Unknown fields are refused, and errors are "
    "`application/problem+json`.",
    credential="`Authorization: Bearer …` or `X-API-Key: …`, with a key's token or the operator "
    "token; or the cookie of somebody who has signed in, `better-auth.session_token`.",
    resources={
        "Events": "What your platform says has happened. 202 means stored.",
        "Channels": "Where events go: one configured target each.",
        "Deliveries": "One event on its way to one channel, with every attempt.",
        "Statistics": "How much was sent, how much failed, and how long it took.",
        "Organizations": "Tenants; nothing crosses their borders.",
        "Projects": "Parts of an organization that emit events.",
        "Keys": "Credentials of an organization, or of one of its projects.",
        "Jobs": "Work in the background.",
        "Audit": "Who changed what.",
        "Backup": "A copy of the whole database, for the operator.",
        "Master key": "What secrets are sealed under, for the operator.",
        **people_words.RESOURCES,
    },
    parameters={
        "org": "The organization: id or slug.",
        "project": "The project: id or slug.",
        "id": "Its id, 24 hexadecimal characters.",
        "token": "The last part of the link.",
    },
    fields=_FIELDS,
    calls=_CALLS,
    errors=example_errors(refuse),
    structs=(
        *routes.STRUCTS,
        keys.KeyIn,
        organizations.NamedIn,
        views.OrganizationOut,
        views.ProjectOut,
        views.KeyOut,
        views.JobOut,
        views.AuditOut,
        views.SecretOut,
        views.TestOut,
        views.ChannelTypesOut,
        attempts.DeliveryAttemptOut,
        statistics.StatisticsListOut,
        statistics.StatisticsOut,
        statistics.LatencyOut,
        backup.BackupOut,
        backup.LatestBackupOut,
        master_key.RotationOut,
        master_key.LatestRotationOut,
    ),
)

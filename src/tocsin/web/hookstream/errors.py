"""Errors as hookstream tells them: the table from code to status and text."""

import msgspec
from msgspec import Struct

from tocsin.domain.errors import TocsinError
from tocsin.web.replies import JSON, Refusal, error_headers, shown_message

# No text: the error's own message, which names the field.
STATUS: dict[str, tuple[int, str | None]] = {
    "malformed_json": (400, None),
    "validation_failed": (400, None),
    "loop": (400, None),
    "unauthenticated": (401, "Invalid API key"),
    "invalid_token": (401, "Invalid API key"),
    "expired_token": (401, "Invalid API key"),
    "forbidden": (403, None),
    "not_found": (404, "Not found"),
    "method_not_allowed": (404, "Not found"),
    "conflict": (409, None),
    "quota": (409, None),
    "event_purged": (409, None),
    "payload_too_large": (413, None),
    "unsupported_encoding": (415, None),
    "slack_not_configured": (400, None),
    "slack_refused": (400, None),
    "rate_limited": (429, "Rate limit exceeded"),
    "internal": (500, "Internal error"),
    "unavailable": (503, None),
}


class HookstreamError(Struct):
    """Every error of this dialect; `request_id` is also the header X-Request-Id."""

    error: str
    status: int
    request_id: str


_encode = msgspec.json.Encoder().encode


def refuse(error: TocsinError, request_id: str) -> Refusal:
    """The reply to a call that failed."""
    status, text = STATUS[error.code]
    body = HookstreamError(text or shown_message(error), status, request_id)
    headers = tuple(pair for pair in error_headers(error) if pair[0] != b"allow")
    return Refusal(status, JSON, _encode(body), headers)

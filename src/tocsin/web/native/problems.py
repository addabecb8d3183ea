"""Errors as RFC 9457 problems: the table from code to status and title."""

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import Conflict, FieldProblem, Invalid, TocsinError
from tocsin.web.replies import Refusal, error_headers, shown_message

STATUS: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "Malformed JSON"),
    "validation_failed": (400, "Validation failed"),
    "loop": (400, "Loop"),
    "unauthenticated": (401, "Unauthenticated"),
    "invalid_token": (401, "Invalid token"),
    "expired_token": (401, "Expired token"),
    "forbidden": (403, "Forbidden"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "quota": (409, "Quota exceeded"),
    "event_purged": (409, "Event purged"),
    "payload_too_large": (413, "Payload too large"),
    "unsupported_encoding": (415, "Unsupported encoding"),
    "slack_not_configured": (400, "Slack is not configured"),
    "slack_refused": (400, "Slack authorization failed"),
    "rate_limited": (429, "Too many requests"),
    "internal": (500, "Internal error"),
    "unavailable": (503, "Unavailable"),
}

CONTENT_TYPE = b"application/problem+json"


class Problem(Struct, kw_only=True):
    """An error. `errors` names at least the first field that breaks a rule."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode


def problem(error: TocsinError) -> Problem:
    """The problem object of an error; also an item of a batch."""
    status, title = STATUS[error.code]
    errors: list[FieldProblem] | UnsetType = UNSET
    if isinstance(error, Invalid):
        errors = list(error.problems)
    elif isinstance(error, Conflict) and error.field:
        errors = [FieldProblem(error.field, error.message)]
    return Problem(
        type="about:blank",
        title=title,
        status=status,
        detail=shown_message(error),
        code=error.code,
        errors=errors,
    )


def refuse(error: TocsinError) -> Refusal:
    """The reply to a call that failed."""
    shown = problem(error)
    return Refusal(shown.status, CONTENT_TYPE, _encode(shown), error_headers(error))

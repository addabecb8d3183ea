"""Errors as Applivery tells them: the table from code to status, number and message."""

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.errors import (
    Conflict,
    Invalid,
    Malformed,
    RouteNotFound,
    SlackRefused,
    TocsinError,
)
from tocsin.web.replies import JSON, Refusal, error_headers

ROUTE_NOT_FOUND = (404, 1002, "Route not found")

STATUS: dict[str, tuple[int, int, str]] = {
    "malformed_json": (400, 3000, "Validation Error"),
    "validation_failed": (400, 3000, "Validation Error"),
    "loop": (400, 3000, "Validation Error"),
    "unauthenticated": (401, 4002, "No auth token"),
    "invalid_token": (401, 4004, "Invalid Token"),
    "expired_token": (401, 4005, "Token Expired"),
    "forbidden": (403, 4003, "Forbidden"),
    "not_found": (404, 3001, "Entity not found"),
    "method_not_allowed": ROUTE_NOT_FOUND,
    "conflict": (409, 5001, "Conflict"),
    "quota": (409, 5001, "Conflict"),
    "event_purged": (409, 5001, "Conflict"),
    "payload_too_large": (413, 3003, "Payload too large"),
    "unsupported_encoding": (415, 3004, "Unsupported encoding"),
    "rate_limited": (429, 5003, "Limit Exceeded"),
    "internal": (500, 1000, "Internal error"),
    "unavailable": (503, 1001, "Service unavailable"),
    "slack_refused": (400, 5010, "Slack authorization failed"),
    "slack_not_configured": (400, 5011, "Slack is not configured"),
}


class ErrorItem(Struct):
    """One field that breaks a rule."""

    field: str
    message: str


class ErrorData(Struct):
    """What there is to say beyond the message; `slack` is Slack's own name of its error."""

    errors: list[ErrorItem] | UnsetType = UNSET
    slack: str | UnsetType = UNSET


class ErrorBody(Struct):
    """The number and message of an error."""

    code: int
    message: str
    data: ErrorData | UnsetType = UNSET


class AppliveryError(Struct, kw_only=True):
    """Every error of this dialect."""

    status: bool = False
    error: ErrorBody


_encode = msgspec.json.Encoder().encode


def refuse(error: TocsinError) -> Refusal:
    """The reply to a call that failed."""
    status, code, message = (
        ROUTE_NOT_FOUND if isinstance(error, RouteNotFound) else STATUS[error.code]
    )
    data: ErrorData | UnsetType = UNSET
    if isinstance(error, Invalid):
        data = ErrorData([ErrorItem(p.field, p.message) for p in error.problems])
    elif isinstance(error, Malformed):
        data = ErrorData([ErrorItem("", error.message)])
    elif isinstance(error, Conflict):
        data = ErrorData([ErrorItem(error.field or "", error.message)])
    elif isinstance(error, SlackRefused):
        data = ErrorData(slack=error.error)
    body: Any = AppliveryError(error=ErrorBody(code, message, data))
    headers = tuple(pair for pair in error_headers(error) if pair[0] != b"allow")
    return Refusal(status, JSON, _encode(body), headers)

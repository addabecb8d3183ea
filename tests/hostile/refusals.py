"""What an error of each dialect looks like, and which field it names."""

import re
from typing import Any

from msgspec import Struct
from tests.hostile.registry import Dialect
from tests.web.fakes import Answer

# Applivery's code and our own for each status that a hostile request may get.
CODES = {
    400: ("validation_failed", 3000, "Validation Error"),
    401: ("invalid_token", 4004, "Invalid Token"),
    403: ("forbidden", 4003, "Forbidden"),
    404: ("not_found", 3001, "Entity not found"),
    409: ("conflict", 5001, "Conflict"),
    413: ("payload_too_large", 3003, "Payload too large"),
    415: ("unsupported_encoding", 3004, "Unsupported encoding"),
}
VALIDATION = ("validation_failed", 3000)


class Refusal(Struct, frozen=True):
    """An error as it was told; `field` is None where the dialect names none."""

    code: Any
    field: str | None
    text: str


def refusal(dialect: Dialect, answer: Answer) -> Refusal:
    """The error of an answer; asserts that it has exactly the shape of its dialect."""
    body = answer.json()
    assert "traceback" not in str(body).lower(), body
    match dialect:
        case "native":
            return _native(answer, body)
        case "applivery":
            return _applivery(answer, body)
        case "hookstream":
            return _hookstream(answer, body)


def _native(answer: Answer, body: Any) -> Refusal:
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) - {"errors"} == {"type", "title", "status", "detail", "code"}, body
    assert body["status"] == answer.status
    assert all(set(one) == {"field", "message"} for one in body.get("errors", ())), body
    errors = body.get("errors") or [{"field": None}]
    return Refusal(body["code"], errors[0]["field"], str(body))


def _applivery(answer: Answer, body: Any) -> Refusal:
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {"status", "error"}, body
    assert body["status"] is False
    error = body["error"]
    assert set(error) - {"data"} == {"code", "message"}, body
    if answer.status in CODES and error["code"] < 5010:
        assert (error["code"], error["message"]) == CODES[answer.status][1:], body
    errors = error.get("data", {}).get("errors") or [{"field": None}]
    return Refusal(error["code"], errors[0]["field"], str(body))


def _hookstream(answer: Answer, body: Any) -> Refusal:
    assert answer.headers["content-type"] == "application/json"
    assert set(body) == {"error", "status", "request_id"}, body
    assert body["status"] == answer.status
    assert re.fullmatch(r"req_[0-9a-f]{12}", body["request_id"])
    assert answer.headers["x-request-id"] == body["request_id"]
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= set(answer.headers)
    field, colon, _ = body["error"].partition(": ")
    validation = "validation_failed" if answer.status == 400 else None
    return Refusal(validation, field if colon else None, str(body))


def names(found: str | None, wanted: str) -> bool:
    """Whether the field that is named is the wanted one, or lies in it."""
    return found is not None and (found == wanted or found.startswith((f"{wanted}.", f"{wanted}[")))

"""Which failures are the same trouble: the kind of an error, by which issues are grouped, and its
title; pure."""

from tocsin.domain.outcome import Reason

BREAKER_OPEN = "breaker_open"
BREAKER_TITLE = "The breaker opened: the target keeps failing"
UNKNOWN = "unknown"

_TITLES: dict[str, str] = {
    Reason.TIMEOUT: "The target did not answer in time",
    Reason.CONNECTION_REFUSED: "The target refuses connections",
    Reason.CONNECTION_RESET: "The target closes connections before it answers",
    Reason.CONNECTION_FAILED: "No connection to the target",
    Reason.BAD_REPLY: "The target's answers are not HTTP",
    Reason.NAME_NOT_RESOLVED: "The target's name can't be resolved",
    Reason.ADDRESS_REFUSED: "The target's address is not allowed",
    Reason.TLS_FAILED: "TLS with the target fails",
    Reason.PROXY_FAILED: "The proxy can't reach the target",
    Reason.UNSEALING_FAILED: "The channel's secrets can't be unsealed",
    Reason.INTERNAL_ERROR: "The channel type failed",
    Reason.UNRECORDABLE: "The target's answers can't be stored",
    Reason.LOST_WITH_ITS_NODE: "Lost with its node again and again",
    Reason.EXPIRED: "Waited too long",
    Reason.TARGET_REFUSED: "The target refuses the message",
    Reason.SMTP_REPLY: "The mail server refuses the message",
    Reason.SMTP_LOGIN_FAILED: "The mail server refuses the login",
    Reason.SMTP_NOT_CONFIGURED: "No mail server is configured",
}


def fingerprint(error: str | None, status_code: int | None) -> str:
    """The kind of a failed attempt's error: `http_503`, or its reason code such as `timeout`.

    `error` is what was recorded of the attempt: it begins with a `Reason`.
    """
    reason = (error or "").partition(":")[0].partition(" ")[0]
    if status_code is not None and reason in ("", Reason.HTTP_STATUS, Reason.RESENT):
        return f"http_{status_code}"
    return reason or UNKNOWN


def title(kind: str) -> str:
    """What a person reads for a fingerprint."""
    if kind == BREAKER_OPEN:
        return BREAKER_TITLE
    if kind.startswith("http_") and kind[5:].isdigit():
        return f"The target answers HTTP {kind[5:]}"
    return _TITLES.get(kind, "Deliveries fail")

"""How an attempt ended: a closed set of four outcomes, and the closed list of reason codes.

    Delivered   the target took it
    Retry       not now; try again by the channel's schedule
    Rejected    this delivery will never work
    Gone        the target will never work again: disable the channel

A `match` on `Outcome` ends in `assert_never`.
"""

from enum import StrEnum

from msgspec import Struct


class Reason(StrEnum):
    """Why an attempt did not deliver; every attempt's `error` text begins with one of these."""

    HTTP_STATUS = "http_status"
    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_RESET = "connection_reset"
    CONNECTION_FAILED = "connection_failed"
    BAD_REPLY = "bad_reply"
    NAME_NOT_RESOLVED = "name_not_resolved"
    ADDRESS_REFUSED = "address_refused"
    TLS_FAILED = "tls_failed"
    PROXY_FAILED = "proxy_failed"
    UNSEALING_FAILED = "unsealing_failed"
    INTERNAL_ERROR = "internal_error"
    UNRECORDABLE = "unrecordable"
    LOST_WITH_ITS_NODE = "lost_with_its_node"
    EXPIRED = "expired"
    CHANNEL_DELETED = "channel_deleted"
    BACKLOG_CANCELLED = "backlog_cancelled"
    TARGET_REFUSED = "target_refused"
    RESENT = "resent"
    SMTP_REPLY = "smtp_reply"
    SMTP_LOGIN_FAILED = "smtp_login_failed"
    SMTP_NOT_CONFIGURED = "smtp_not_configured"


BREAKER_REASONS = frozenset(
    {
        Reason.TIMEOUT,
        Reason.CONNECTION_REFUSED,
        Reason.CONNECTION_RESET,
        Reason.CONNECTION_FAILED,
        Reason.BAD_REPLY,
    }
)
"""Network errors and timeouts; with 429 and 5xx they alone move the breaker."""


class Delivered(Struct, frozen=True):
    """The target took it."""


class Retry(Struct, frozen=True):
    """Not now. `not_before_ms` is a wait from now asked for by the target (Retry-After), clamped.

    `holds_channel` is true when the wait holds the whole channel (429 and 503), false when it only
    moves this delivery.
    """

    reason: Reason
    detail: str = ""
    not_before_ms: int | None = None
    holds_channel: bool = False


class Rejected(Struct, frozen=True):
    """This delivery will never work; it is not tried again."""

    reason: Reason
    detail: str = ""


class Gone(Struct, frozen=True):
    """The target is gone for good: the channel is disabled and what waits is parked."""

    reason: Reason
    detail: str = ""


Outcome = Delivered | Retry | Rejected | Gone

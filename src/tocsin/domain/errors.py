"""Everything that can go wrong for a caller, as one tree; each with a stable code.

    TocsinError
    ├── Refused                     the caller must change something
    │   ├── Malformed               malformed_json       the body is not acceptable JSON at all
    │   ├── Invalid                 validation_failed    a field breaks a rule; names it
    │   ├── Loop                    loop                 a delivery came back as a publish
    │   ├── Unauthenticated         unauthenticated      no credential
    │   │   ├── InvalidToken        invalid_token        unknown, malformed or revoked
    │   │   └── ExpiredToken        expired_token
    │   ├── Forbidden               forbidden            the credential lacks the permission
    │   ├── NotFound                not_found            absent, or out of the caller's sight
    │   │   └── RouteNotFound       not_found            the path or method does not exist
    │   ├── MethodNotAllowed        method_not_allowed
    │   ├── Conflict                conflict             a unique value is taken, or a wrong state
    │   │   ├── QuotaExceeded       quota
    │   │   └── EventPurged         event_purged
    │   ├── PayloadTooLarge         payload_too_large
    │   ├── UnsupportedEncoding     unsupported_encoding
    │   ├── SlackNotConfigured      slack_not_configured the server has no Slack client id
    │   ├── SlackRefused            slack_refused        the consent; carries Slack's error name
    │   └── RateLimited             rate_limited         carries the seconds to wait
    └── Unavailable                 unavailable          try again; carries the seconds to wait

None of them knows HTTP: each dialect has one table from code to its own status and body.
A delivery that fails is not an error, it is an `Outcome`.
"""

from msgspec import Struct


class FieldProblem(Struct, frozen=True):
    """One thing wrong with one field; `field` is a dotted path, `""` for the whole."""

    field: str
    message: str


class TocsinError(Exception):
    """The root; `message` is safe to show to the caller."""

    code = "internal"

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__class__.__doc__ or self.code)
        self.message = str(self)


class Refused(TocsinError):
    """The request can't be accepted as it is."""


class Malformed(Refused):
    """The body is not acceptable JSON."""

    code = "malformed_json"


class Invalid(Refused):
    """A field breaks a rule."""

    code = "validation_failed"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.problems = (FieldProblem(field, message),)


class Loop(Refused):
    """A delivery of Tocsin was published back to it."""

    code = "loop"


class Unauthenticated(Refused):
    """This call needs a credential."""

    code = "unauthenticated"


class InvalidToken(Unauthenticated):
    """The credential is unknown or revoked."""

    code = "invalid_token"


class ExpiredToken(Unauthenticated):
    """The credential has expired."""

    code = "expired_token"


class Forbidden(Refused):
    """The credential lacks the permission for this call."""

    code = "forbidden"


class NotFound(Refused):
    """There is no such thing here."""

    code = "not_found"


class RouteNotFound(NotFound):
    """There is no such call."""


class MethodNotAllowed(Refused):
    """This path does not take this method."""

    code = "method_not_allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"This path takes {', '.join(allowed)}.")
        self.allowed = allowed


class Conflict(Refused):
    """The request does not fit the present state."""

    code = "conflict"

    def __init__(self, message: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class QuotaExceeded(Conflict):
    """The organization has reached a limit."""

    code = "quota"


class EventPurged(Conflict):
    """The event is past its retention and can't be sent again."""

    code = "event_purged"


class PayloadTooLarge(Refused):
    """The body is too large."""

    code = "payload_too_large"


class UnsupportedEncoding(Refused):
    """Only content-encoding identity is taken."""

    code = "unsupported_encoding"


class SlackNotConfigured(Refused):
    """This server has no Slack client id and secret, so Slack can't be asked."""

    code = "slack_not_configured"


class SlackRefused(Refused):
    """Slack did not accept the code of its consent page; `error` is Slack's name for why."""

    code = "slack_refused"

    def __init__(self, error: str) -> None:
        super().__init__(f"Slack refused the authorization: {error}.")
        self.error = error


class RateLimited(Refused):
    """Too many requests."""

    code = "rate_limited"

    def __init__(self, message: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(TocsinError):
    """The service can't take this now; nothing was stored, or its outcome is unknown."""

    code = "unavailable"

    def __init__(self, message: str = "", retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

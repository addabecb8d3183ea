"""What can go wrong on the way to a target. No text here ever names an address or a secret.

NetError
├── TargetInvalid      the URL itself is not one we would ever call
├── AddressRefused     the guard does not let this address through
├── NameNotResolved    the name has no address, or none in time
├── NotSent            the send gate said no; not a single byte was written
└── SendFailed         no reply; carries the reason of the attempt
"""

from tocsin.domain.outcome import Reason


class NetError(Exception):
    """The root; `message` is safe to show to a tenant."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.__class__.__doc__)
        self.message = str(self)


class TargetInvalid(NetError):
    """This URL can't be a target."""


class AddressRefused(NetError):
    """The target's address is not allowed."""


class NameNotResolved(NetError):
    """The target's name could not be resolved."""


class NotSent(NetError):
    """The send gate declined; nothing was written."""


class SendFailed(NetError):
    """No reply came back; `reason` says which kind of failure, `detail` a little more."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail

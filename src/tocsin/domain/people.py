"""People: users, their membership in organizations, their sessions, and one-time links.

Times are integer milliseconds since the epoch, UTC.
"""

import re
import unicodedata
from enum import StrEnum
from typing import NewType

from msgspec import Struct

from tocsin.domain.errors import Invalid
from tocsin.domain.model import OrganizationId, ProjectId, Role

UserId = NewType("UserId", str)
MemberId = NewType("MemberId", str)
SessionId = NewType("SessionId", str)
LinkId = NewType("LinkId", str)

NOWHERE = OrganizationId("0" * 24)
"""No organization has this id: whoever is there sees nothing. (None would be the operator.)"""

EMAIL_CHARS_MAX = 254
PASSWORD_CHARS_MIN = 10
PASSWORD_CHARS_MAX = 256

_EMAIL = re.compile(r"[^\s@\"<>()\[\]\\,;:]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class LinkKind(StrEnum):
    """What a one-time link is for."""

    FIRST = "first"
    INVITE = "invite"
    RESET = "reset"


class User(Struct, frozen=True, kw_only=True):
    """A person. `email` is lower-case and unique; without a password nobody signs in yet."""

    id: UserId
    email: str
    name: str
    has_password: bool
    created_at: int
    updated_at: int


class Member(Struct, frozen=True, kw_only=True):
    """A user in an organization, with a role."""

    id: MemberId
    organization_id: OrganizationId
    user_id: UserId
    email: str
    name: str
    role: Role
    created_at: int
    updated_at: int


class Membership(Struct, frozen=True, kw_only=True):
    """An organization that a user is in, as seen from the user."""

    organization_id: OrganizationId
    name: str
    slug: str
    role: Role


class Session(Struct, frozen=True, kw_only=True):
    """Somebody signed in. It ends at `ends_at` (it slides with use) or `expires_at` (never moves),
    whichever comes first. The token itself is never kept, only its SHA-256."""

    id: SessionId
    user_id: UserId
    organization_id: OrganizationId | None
    project_id: ProjectId | None
    address: str | None
    user_agent: str
    created_at: int
    seen_at: int
    ends_at: int
    expires_at: int


class Holder(Struct, frozen=True, kw_only=True):
    """A session with whom it stands for. `role` is None where the user is not (any more) in its
    organization; `project_id` of the session is None where the project is gone."""

    session: Session
    user: User
    role: Role | None


class Link(Struct, frozen=True, kw_only=True):
    """A link that works once, until `expires_at`. `user_id` is set for a reset, the organization
    and role for an invitation."""

    id: LinkId
    kind: LinkKind
    email: str
    user_id: UserId | None
    organization_id: OrganizationId | None
    role: Role | None
    created_at: int
    expires_at: int


class Visitor(Struct, frozen=True, kw_only=True):
    """Where a request of a person comes from; `bucket` is the network that `address` counts to."""

    address: str | None = None
    bucket: str = "unknown"
    user_agent: str = ""


def email_of(text: str, field: str = "email") -> str:
    """The address as it is stored and compared; raises Invalid naming the field."""
    email = unicodedata.normalize("NFC", text).lower()
    if not (len(email) <= EMAIL_CHARS_MAX and email.isprintable() and _EMAIL.fullmatch(email)):
        raise Invalid(field, "must be an e-mail address")
    return email


def check_password(text: str, field: str = "password") -> str:
    """The password as it is hashed; raises Invalid naming the field."""
    password = unicodedata.normalize("NFC", text)
    if not PASSWORD_CHARS_MIN <= len(text) <= PASSWORD_CHARS_MAX or _SURROGATE.search(text):
        raise Invalid(
            field, f"must be {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters long"
        )
    return password

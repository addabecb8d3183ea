"""People, their sessions and their links, as the native dialect shows them."""

from msgspec import Struct

from tocsin.domain.model import Role
from tocsin.domain.people import Link, Member, Membership, Session, User
from tocsin.domain.text import iso
from tocsin.service.links import LinkMade, LinkShown
from tocsin.service.sessions import SignedIn
from tocsin.web.native import views
from tocsin.web.native.views import ProjectOut

LINK_PATH = "/link/"


class PersonOut(Struct):
    """Who has signed in."""

    id: str
    email: str
    name: str


class MembershipOut(Struct):
    """An organization that one is in."""

    id: str
    name: str
    slug: str
    role: str


class SessionOut(Struct, kw_only=True):
    """The present session: who, and what it is about."""

    id: str
    user: PersonOut
    organization: MembershipOut | None
    project: ProjectOut | None
    organizations: list[MembershipOut]
    created_at: str
    ends_at: str
    expires_at: str


class DeviceOut(Struct, kw_only=True):
    """A session as one of many: from where it was begun."""

    id: str
    current: bool
    address: str | None
    user_agent: str
    created_at: str
    last_used_at: str
    ends_at: str


class MemberOut(Struct, kw_only=True):
    """A user in an organization."""

    id: str
    user_id: str
    email: str
    name: str
    role: str
    created_at: str
    updated_at: str


class UserOut(Struct, kw_only=True):
    """An account."""

    id: str
    email: str
    name: str
    has_password: bool
    created_at: str
    updated_at: str


class LinkOut(Struct, kw_only=True):
    """A new one-time link; this reply is the only one that shows it."""

    id: str
    kind: str
    email: str
    role: Role | None
    url: str
    expires_at: str


class UserMadeOut(Struct, kw_only=True):
    """A new account, and the link with which its owner chooses a password."""

    id: str
    email: str
    name: str
    has_password: bool
    created_at: str
    updated_at: str
    link: LinkOut


class LinkShownOut(Struct, kw_only=True):
    """What using a link will do."""

    kind: str
    email: str | None
    organization: str | None
    role: Role | None
    asks: str
    expires_at: str


def signed_in(s: SignedIn) -> SessionOut:
    """As shown."""
    return SessionOut(
        id=s.session.id,
        user=PersonOut(s.user.id, s.user.email, s.user.name),
        organization=None if s.organization is None else membership(s.organization),
        project=None if s.project is None else views.project(s.project),
        organizations=[membership(one) for one in s.memberships],
        created_at=iso(s.session.created_at),
        ends_at=iso(min(s.session.ends_at, s.session.expires_at)),
        expires_at=iso(s.session.expires_at),
    )


def membership(m: Membership) -> MembershipOut:
    """As shown."""
    return MembershipOut(m.organization_id, m.name, m.slug, m.role)


def device(s: Session, current: str | None) -> DeviceOut:
    """As shown; `current` is the session that asks."""
    return DeviceOut(
        id=s.id,
        current=s.id == current,
        address=s.address,
        user_agent=s.user_agent,
        created_at=iso(s.created_at),
        last_used_at=iso(s.seen_at),
        ends_at=iso(s.ends_at),
    )


def member(m: Member) -> MemberOut:
    """As shown."""
    return MemberOut(
        id=m.id,
        user_id=m.user_id,
        email=m.email,
        name=m.name,
        role=m.role,
        created_at=iso(m.created_at),
        updated_at=iso(m.updated_at),
    )


def user(u: User) -> UserOut:
    """As shown."""
    return UserOut(
        id=u.id,
        email=u.email,
        name=u.name,
        has_password=u.has_password,
        created_at=iso(u.created_at),
        updated_at=iso(u.updated_at),
    )


def user_made(u: User, made: LinkMade, base: str) -> UserMadeOut:
    """As shown, once."""
    return UserMadeOut(
        id=u.id,
        email=u.email,
        name=u.name,
        has_password=u.has_password,
        created_at=iso(u.created_at),
        updated_at=iso(u.updated_at),
        link=link(made, base),
    )


def link(made: LinkMade, base: str) -> LinkOut:
    """As shown, once; `base` is where people reach this server."""
    found: Link = made.link
    return LinkOut(
        id=found.id,
        kind=found.kind,
        email=found.email,
        role=found.role,
        url=f"{base}{LINK_PATH}{made.token}",
        expires_at=iso(found.expires_at),
    )


def link_shown(s: LinkShown) -> LinkShownOut:
    """As shown to whoever has it."""
    return LinkShownOut(
        kind=s.link.kind,
        email=s.link.email or None,
        organization=s.organization,
        role=s.link.role,
        asks="password" if s.asks_present else "new_password",
        expires_at=iso(s.link.expires_at),
    )

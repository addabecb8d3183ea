"""Users: people who sign in, over all organizations. Only a hash of the password is stored.

A user belongs to no organization, so nothing here takes a sight: what a person may see of an
organization is said by `members`.
"""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tocsin.domain.errors import Conflict, NotFound
from tocsin.domain.model import OrganizationId, Role
from tocsin.domain.people import Membership, User, UserId
from tocsin.storage.control.walk import AnyRow, Walked, newest, put
from tocsin.storage.tables import links, members, organizations, sessions, users

MEMBERSHIPS_MAX = 100

_COLUMNS = (
    users.c.id,
    users.c.email,
    users.c.name,
    users.c.password_hash.is_not(None),
    users.c.created_at,
    users.c.updated_at,
)


class SigningIn(NamedTuple):
    """What a sign-in looks at; everything of nobody reads as nothing."""

    user: User | None
    password_hash: str | None
    known_place: bool


def user_of(row: AnyRow) -> User:
    """A user from `_COLUMNS`."""
    return User(
        id=UserId(row[0]),
        email=row[1],
        name=row[2],
        has_password=bool(row[3]),
        created_at=row[4],
        updated_at=row[5],
    )


def anybody(connection: Connection) -> bool:
    """Whether there is any user."""
    return connection.scalar(sa.select(users.c.id).limit(1)) is not None


def find(connection: Connection, *, id: str | None = None, email: str = "") -> User | None:
    """A user by id or e-mail address."""
    place = users.c.id == id if id is not None else users.c.email == email
    row = connection.execute(sa.select(*_COLUMNS).where(place)).first()
    return None if row is None else user_of(row)


def signing_in(connection: Connection, email: str, bucket: str) -> SigningIn:
    """The user of an address, and whether a session of theirs came from this network.

    The same statements run whether there is such a user or not: their time must not tell.
    """
    row = connection.execute(
        sa.select(*_COLUMNS, users.c.password_hash).where(users.c.email == email)
    ).first()
    place = connection.scalar(
        sa.select(sessions.c.id)
        .where(sessions.c.user_id == ("" if row is None else row[0]), sessions.c.bucket == bucket)
        .limit(1)
    )
    if row is None:
        return SigningIn(None, None, False)
    return SigningIn(user_of(row), row.password_hash, place is not None)


def walk(connection: Connection, *, limit: int, below: str | None) -> Walked[User]:
    """All users, for the operator."""
    page = newest(connection, sa.select(users.c.id), users.c.id, limit=limit, below=below)
    rows = connection.execute(
        sa.select(*_COLUMNS).where(users.c.id.in_(page.items)).order_by(users.c.id.desc())
    )
    return put(page, [user_of(row) for row in rows])


def create(connection: Connection, user: User, *, password_hash: str | None) -> None:
    """Store a new user; raises Conflict when the address is taken."""
    try:
        connection.execute(
            sa.insert(users).values(
                id=user.id,
                email=user.email,
                name=user.name,
                password_hash=password_hash,
                created_at=user.created_at,
                updated_at=user.updated_at,
            )
        )
    except IntegrityError:
        raise Conflict("This address has an account already.", "email") from None


def set_password(
    connection: Connection, user_id: UserId, *, password_hash: str, now_ms: int
) -> None:
    """Replace the password; raises NotFound."""
    done = connection.execute(
        sa.update(users)
        .where(users.c.id == user_id)
        .values(password_hash=password_hash, updated_at=now_ms)
    )
    if not done.rowcount:
        raise NotFound


def password_of(connection: Connection, user_id: str) -> str | None:
    """The hash to check a password against."""
    found: str | None = connection.scalar(
        sa.select(users.c.password_hash).where(users.c.id == user_id)
    )
    return found


def delete(connection: Connection, user_id: UserId) -> None:
    """Remove a user with sessions, links and memberships; raises NotFound."""
    for table in (sessions, links, members):
        connection.execute(sa.delete(table).where(table.c.user_id == user_id))
    if not connection.execute(sa.delete(users).where(users.c.id == user_id)).rowcount:
        raise NotFound


def memberships(connection: Connection, user_id: str) -> list[Membership]:
    """The organizations a user is in, oldest membership first, at most 100."""
    rows = connection.execute(
        sa.select(members.c.organization_id, organizations.c.name, organizations.c.slug)
        .add_columns(members.c.role)
        .join(organizations, organizations.c.id == members.c.organization_id)
        .where(members.c.user_id == user_id, organizations.c.deleted_at.is_(None))
        .order_by(members.c.id)
        .limit(MEMBERSHIPS_MAX)
    )
    return [
        Membership(
            organization_id=OrganizationId(row[0]), name=row[1], slug=row[2], role=Role(row[3])
        )
        for row in rows
    ]

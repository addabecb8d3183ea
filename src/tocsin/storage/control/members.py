"""Members: which users are in an organization, and with what role."""

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import IntegrityError

from tocsin.domain.errors import Conflict, NotFound
from tocsin.domain.model import OrganizationId, Role
from tocsin.domain.people import Member, MemberId, UserId
from tocsin.storage.control.walk import AnyRow, Sight, Walked, newest, put
from tocsin.storage.tables import members, users

_COLUMNS = (
    members.c.id,
    members.c.organization_id,
    members.c.user_id,
    users.c.email,
    users.c.name,
    members.c.role,
    members.c.created_at,
    members.c.updated_at,
)


def _member(row: AnyRow) -> Member:
    return Member(
        id=MemberId(row[0]),
        organization_id=OrganizationId(row[1]),
        user_id=UserId(row[2]),
        email=row[3],
        name=row[4],
        role=Role(row[5]),
        created_at=row[6],
        updated_at=row[7],
    )


def _seen(sight: Sight) -> list[ColumnElement[bool]]:
    """Members belong to the organization: with a project in sight there are none to see."""
    mine = [members.c.organization_id == sight.organization_id]
    return mine if sight.project_id is None else [*mine, sa.false()]


def get(connection: Connection, sight: Sight, member_id: str) -> Member:
    """A member in sight; raises NotFound."""
    row = connection.execute(
        sa.select(*_COLUMNS)
        .join(users, users.c.id == members.c.user_id)
        .where(members.c.id == member_id, *_seen(sight))
    ).first()
    if row is None:
        raise NotFound
    return _member(row)


def walk(connection: Connection, sight: Sight, *, limit: int, below: str | None) -> Walked[Member]:
    """The members of the organization."""
    page = newest(
        connection,
        sa.select(members.c.id).where(*_seen(sight)),
        members.c.id,
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(*_COLUMNS)
        .join(users, users.c.id == members.c.user_id)
        .where(members.c.id.in_(page.items), *_seen(sight))
        .order_by(members.c.id.desc())
    )
    return put(page, [_member(row) for row in rows])


def count(connection: Connection, sight: Sight, *, role: Role | None = None) -> int:
    """How many members the organization has, whatever is in sight; of one role, if it is given."""
    wanted = [members.c.organization_id == sight.organization_id]
    if role is not None:
        wanted.append(members.c.role == role)
    return connection.scalar(sa.select(sa.func.count()).select_from(members).where(*wanted)) or 0


def create(
    connection: Connection,
    sight: Sight,
    *,
    id: MemberId,
    user_id: UserId,
    role: Role,
    now_ms: int,
) -> None:
    """Put a user into the organization in sight; raises Conflict when they are in it."""
    try:
        connection.execute(
            sa.insert(members).values(
                id=id,
                organization_id=sight.organization_id,
                user_id=user_id,
                role=role,
                created_at=now_ms,
                updated_at=now_ms,
            )
        )
    except IntegrityError:
        raise Conflict("This user is a member already.", "email") from None


def set_role(
    connection: Connection, sight: Sight, member_id: str, *, role: Role, now_ms: int
) -> None:
    """Give a member another role; raises NotFound."""
    done = connection.execute(
        sa.update(members)
        .where(members.c.id == member_id, *_seen(sight))
        .values(role=role, updated_at=now_ms)
    )
    if not done.rowcount:
        raise NotFound


def delete(connection: Connection, sight: Sight, member_id: str) -> None:
    """Take a user out of the organization; raises NotFound."""
    done = connection.execute(sa.delete(members).where(members.c.id == member_id, *_seen(sight)))
    if not done.rowcount:
        raise NotFound

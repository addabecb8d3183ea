"""Sessions of people who have signed in. They belong to a user; the tokens are never stored."""

import sqlalchemy as sa
from msgspec.structs import replace
from sqlalchemy import Connection

from tocsin.domain.errors import NotFound
from tocsin.domain.model import OrganizationId, ProjectId, Role
from tocsin.domain.people import Holder, Session, SessionId, User, UserId
from tocsin.storage.control.walk import AnyRow, AnySelect, Walked, newest, put
from tocsin.storage.tables import members, organizations, projects, sessions, users

_COLUMNS = (
    sessions.c.id,
    sessions.c.user_id,
    sessions.c.organization_id,
    sessions.c.project_id,
    sessions.c.address,
    sessions.c.user_agent,
    sessions.c.created_at,
    sessions.c.seen_at,
    sessions.c.ends_at,
    sessions.c.expires_at,
)

# No token hashes to this. The row of a session that has ended stays a while: it says from where
# the person has signed in before.
_VOID = sa.literal("ended ") + sessions.c.id


def _session(row: AnyRow) -> Session:
    return Session(
        id=SessionId(row[0]),
        user_id=UserId(row[1]),
        organization_id=None if row[2] is None else OrganizationId(row[2]),
        project_id=None if row[3] is None else ProjectId(row[3]),
        address=row[4],
        user_agent=row[5],
        created_at=row[6],
        seen_at=row[7],
        ends_at=row[8],
        expires_at=row[9],
    )


def by_token_hash(connection: Connection, token_hash: str) -> Holder | None:
    """The session of a token with its user, and the role in the organization it is about.

    An organization or project that is gone, or that the user is not in any more, reads as none.
    When the session ends is for the caller to judge.
    """
    row = connection.execute(_holders().where(sessions.c.token_hash == token_hash)).first()
    return None if row is None else _holder(row)


def get(connection: Connection, user_id: str, session_id: str) -> Holder:
    """The same for one session of a user; raises NotFound."""
    row = connection.execute(
        _holders().where(sessions.c.id == session_id, sessions.c.user_id == user_id)
    ).first()
    if row is None:
        raise NotFound
    return _holder(row)


def is_live(connection: Connection, session_id: str, *, now_ms: int) -> bool:
    """Whether a session has not ended; for changes that were let in before it did."""
    found = connection.scalar(
        sa.select(sa.literal(1)).where(sessions.c.id == session_id, sessions.c.ends_at > now_ms)
    )
    return found is not None


def _holders() -> AnySelect:
    live = sa.and_(
        organizations.c.id == sessions.c.organization_id, organizations.c.deleted_at.is_(None)
    )
    mine = sa.and_(
        members.c.user_id == sessions.c.user_id, members.c.organization_id == organizations.c.id
    )
    within = sa.and_(
        projects.c.id == sessions.c.project_id,
        projects.c.organization_id == organizations.c.id,
        projects.c.deleted_at.is_(None),
    )
    return (
        sa.select(
            *_COLUMNS,
            users.c.email,
            users.c.name,
            users.c.password_hash.is_not(None).label("has_password"),
            users.c.created_at.label("user_created_at"),
            users.c.updated_at.label("user_updated_at"),
            members.c.role,
            projects.c.id.label("live_project"),
        )
        .join(users, users.c.id == sessions.c.user_id)
        .outerjoin(organizations, live)
        .outerjoin(members, mine)
        .outerjoin(projects, within)
    )


def _holder(row: AnyRow) -> Holder:
    role = None if row.role is None else Role(row.role)
    return Holder(session=_live(row), user=_user(row), role=role)


def _live(row: AnyRow) -> Session:
    inside = row.role is not None
    return replace(
        _session(row),
        organization_id=row.organization_id if inside else None,
        project_id=row.live_project if inside else None,
    )


def _user(row: AnyRow) -> User:
    return User(
        id=UserId(row.user_id),
        email=row.email,
        name=row.name,
        has_password=bool(row.has_password),
        created_at=row.user_created_at,
        updated_at=row.user_updated_at,
    )


def walk(
    connection: Connection, user_id: str, *, now_ms: int, limit: int, below: str | None
) -> Walked[Session]:
    """The live sessions of a user."""
    page = newest(
        connection,
        sa.select(sessions.c.id).where(sessions.c.user_id == user_id, sessions.c.ends_at > now_ms),
        sessions.c.id,
        limit=limit,
        below=below,
    )
    rows = connection.execute(
        sa.select(*_COLUMNS).where(sessions.c.id.in_(page.items)).order_by(sessions.c.id.desc())
    )
    return put(page, [_session(row) for row in rows])


def create(
    connection: Connection, session: Session, *, token_hash: str, bucket: str, keep_max: int
) -> None:
    """Store a new session; of more than `keep_max` of one user the oldest end."""
    connection.execute(
        sa.insert(sessions).values(
            id=session.id,
            token_hash=token_hash,
            user_id=session.user_id,
            organization_id=session.organization_id,
            project_id=session.project_id,
            address=session.address,
            bucket=bucket,
            user_agent=session.user_agent,
            created_at=session.created_at,
            seen_at=session.seen_at,
            ends_at=session.ends_at,
            expires_at=session.expires_at,
        )
    )
    kept = (
        sa.select(sessions.c.id)
        .where(sessions.c.user_id == session.user_id)
        .order_by(sessions.c.id.desc())
        .limit(keep_max)
    )
    connection.execute(
        sa.delete(sessions).where(sessions.c.user_id == session.user_id, sessions.c.id.not_in(kept))
    )


def slide(connection: Connection, session_id: str, *, seen_at: int, ends_at: int) -> None:
    """Note that a session was used, and let it end later."""
    connection.execute(
        sa.update(sessions)
        .where(
            sessions.c.id == session_id,
            sessions.c.seen_at < seen_at,
            sessions.c.ends_at > seen_at,
        )
        .values(seen_at=seen_at, ends_at=ends_at)
    )


def move(
    connection: Connection,
    session_id: str,
    *,
    token_hash: str | None,
    organization_id: OrganizationId | None,
    project_id: ProjectId | None,
) -> None:
    """Turn a session to another organization and project, with a new token if one is given.

    Raises NotFound when it has ended.
    """
    values: dict[str, str | None] = {"organization_id": organization_id, "project_id": project_id}
    if token_hash is not None:
        values["token_hash"] = token_hash
    done = connection.execute(
        sa.update(sessions).where(sessions.c.id == session_id).values(**values)
    )
    if not done.rowcount:
        raise NotFound


def end(connection: Connection, user_id: str, session_id: str, *, now_ms: int) -> None:
    """End one session of a user: its token is void; raises NotFound."""
    done = connection.execute(
        sa.update(sessions)
        .where(
            sessions.c.id == session_id,
            sessions.c.user_id == user_id,
            sessions.c.ends_at > now_ms,
        )
        .values(token_hash=_VOID, ends_at=now_ms)
    )
    if not done.rowcount:
        raise NotFound


def end_all(
    connection: Connection,
    user_id: str,
    *,
    now_ms: int,
    only: str | None = None,
    organization_id: OrganizationId | None = None,
) -> None:
    """End the sessions of a user: all, only one, or those that are about one organization."""
    wanted = [sessions.c.user_id == user_id, sessions.c.ends_at > now_ms]
    if only is not None:
        wanted.append(sessions.c.id == only)
    if organization_id is not None:
        wanted.append(sessions.c.organization_id == organization_id)
    connection.execute(sa.update(sessions).where(*wanted).values(token_hash=_VOID, ends_at=now_ms))


def purge(connection: Connection, *, before_ms: int, rows_max: int) -> int:
    """Remove sessions that ended before a moment, at most so many; returns how many."""
    ended = sa.select(sessions.c.id).where(sessions.c.ends_at < before_ms).limit(rows_max)
    return connection.execute(sa.delete(sessions).where(sessions.c.id.in_(ended))).rowcount

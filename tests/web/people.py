"""People of a running service: made in its database, without the work of a password."""

from itertools import count

from sqlalchemy import Connection

from tocsin.app import App
from tocsin.crypto.passwords import Passwords
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import OrganizationId, ProjectId, Role
from tocsin.domain.people import MemberId, User, UserId, Visitor
from tocsin.service.sight import Sight
from tocsin.storage.control import members, sessions, users

COOKIE = "better-auth.session_token"

_ids = IdMaker(16_777_215)
_numbers = count()


def weak() -> Passwords:
    """Hashes that cost nothing."""
    return Passwords(time_cost=1, memory_kib=8)


def new_id() -> str:
    """An id that no service makes."""
    return _ids.make(1)


def cookie(token: str) -> dict[str, str]:
    """The header that a browser sends."""
    return {"cookie": f"{COOKIE}={token}"}


async def sign_in(
    app: App,
    org: str | None,
    role: Role,
    *,
    project: str | None = None,
    lasts_ms: int | None = None,
    user: User | None = None,
    new: bool = False,
) -> str:
    """Somebody signs in: a `user` there is, or a new member; returns the cookie's token."""
    person = user or new_user()
    new = new or user is None
    organization_id = None if org is None else OrganizationId(org)
    opened = app.sessions.open(person.id, Visitor(address="203.0.113.9"), organization_id)
    now_ms = app.clock.wall_ms()

    def work(connection: Connection) -> None:
        if new:
            users.create(connection, person, password_hash=None)
        if organization_id is not None and new:
            member_id = MemberId(new_id())
            sight = Sight(organization_id)
            members.create(
                connection, sight, id=member_id, user_id=person.id, role=role, now_ms=now_ms
            )
        opened.store(connection)
        if project is not None:
            sessions.move(
                connection,
                opened.session.id,
                token_hash=None,
                organization_id=organization_id,
                project_id=ProjectId(project),
            )
        if lasts_ms is not None:
            sessions.slide(
                connection,
                opened.session.id,
                seen_at=opened.session.seen_at + 1,
                ends_at=now_ms + lasts_ms,
            )

    await app.changes.store.write(work)
    return opened.token


def new_user() -> User:
    """Somebody."""
    email = f"user-{next(_numbers)}@example.com"
    return User(
        id=UserId(new_id()), email=email, name="x", has_password=False, created_at=1, updated_at=1
    )

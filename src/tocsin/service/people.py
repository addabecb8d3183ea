"""People: signing in with a password, and the operator's view of users."""

from typing import Any

from tocsin.crypto.passwords import Passwords
from tocsin.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Role
from tocsin.domain.people import (
    NOWHERE,
    PASSWORD_CHARS_MAX,
    LinkKind,
    MemberId,
    User,
    UserId,
    Visitor,
    check_password,
    email_of,
)
from tocsin.domain.permissions import Caller
from tocsin.domain.text import check_short
from tocsin.service.changes import Changes, Target, listing, permit
from tocsin.service.directory import NAME_CHARS_MAX, Directory
from tocsin.service.guesses import Guesses
from tocsin.service.links import LinkMade, Links
from tocsin.service.sessions import DAY_MS, Opened, Sessions
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import (
    Connection,
    audit,
    links,
    members,
    organizations,
    sessions,
    users,
)

WRONG = "The e-mail address or the password is wrong."
ROWS_PER_STEP_MAX = 1_000
STEPS_PER_ROUND_MAX = 50
PLACES_MS = 30 * DAY_MS
"""How long a session that has ended says from where its owner signs in."""


class People:
    """Signs people in, and keeps the accounts."""

    def __init__(
        self,
        *,
        changes: Changes,
        directory: Directory,
        sessions: Sessions,
        links: Links,
        passwords: Passwords,
        guesses: Guesses,
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._clock = changes.clock
        self._directory = directory
        self._sessions = sessions
        self._links = links
        self._passwords = passwords
        self._guesses = guesses

    async def sign_in(
        self,
        caller: Caller,
        visitor: Visitor,
        *,
        email: str,
        password: str,
        organization: str | None = None,
        replaces: Caller | None = None,
    ) -> Opened:
        """A new session, about the named organization of the user's or their first one.

        Raises Unauthenticated, in the same time and words whether there is such an account or
        not, and RateLimited after too many failures. `replaces` is who held a session in the same
        browser: it ends.
        """
        email = email_of(email)
        _check_given(password, "password")
        bucket = visitor.bucket
        found = await self._store.read(lambda c: users.signing_in(c, email, bucket))
        plain = _plain(password)
        right = await self._guesses.check(
            email,
            visitor,
            lambda: self._passwords.verify(found.password_hash, plain),
            known_place=found.known_place,
        )
        user = found.user
        if not right or user is None:
            if user is not None:
                self._guesses.failed(caller, user.id, visitor)
            raise Unauthenticated(WRONG)
        return await self._let_in(caller, visitor, user, organization, replaces)

    async def _let_in(
        self,
        caller: Caller,
        visitor: Visitor,
        user: User,
        organization: str | None,
        replaces: Caller | None,
    ) -> Opened:
        now_ms = self._clock.wall_ms()

        def work(connection: Connection) -> Opened:
            if users.find(connection, id=user.id) != user:
                raise Unauthenticated(WRONG)  # changed since its password was looked at
            mine = users.memberships(connection, user.id)
            chosen = mine[0].organization_id if mine else None
            if organization is not None:
                ref = organization.lower()
                named = [one for one in mine if ref in (one.organization_id, one.slug)]
                if not named:
                    raise Invalid("organization", "is unknown")
                chosen = named[0].organization_id
            if replaces is not None and replaces.session_id and replaces.id:
                sessions.end_all(connection, replaces.id, now_ms=now_ms, only=replaces.session_id)
            opened = self._sessions.open(user.id, visitor, chosen)
            opened.store(connection)
            who = _person(caller, user)
            target = Target("session", opened.session.id)
            self._changes.note(
                connection, who, Sight(chosen or NOWHERE), "user.sign_in", target, {}
            )
            return opened

        return await self._changes.alone(work, self._sessions.forget)

    async def change_password(
        self, caller: Caller, visitor: Visitor, *, present: str, new: str
    ) -> Opened:
        """Replace the caller's own password; all their sessions end, and a new one begins.

        Raises Forbidden when the present one is wrong, RateLimited after too many tries.
        """
        if caller.kind != "session" or caller.id is None:
            raise Forbidden("This call is for people who have signed in.")
        user_id, email = UserId(caller.id), caller.name
        _check_given(present, "current_password")
        wanted = check_password(new, "new_password")
        plain = _plain(present)
        stored = await self._store.read(lambda c: users.password_of(c, user_id))
        right = await self._guesses.check(
            email, visitor, lambda: self._passwords.verify(stored, plain), known_place=True
        )
        if not right:
            self._guesses.failed(caller, user_id, visitor)
            raise Forbidden("The present password is wrong.")
        password_hash = await self._passwords.hash(wanted)
        now_ms = self._clock.wall_ms()

        def work(connection: Connection) -> Opened:
            present = sessions.get(connection, user_id, caller.session_id or "").session
            if present.ends_at <= now_ms or users.password_of(connection, user_id) != stored:
                raise Conflict("The password was changed meanwhile.")
            users.set_password(connection, user_id, password_hash=password_hash, now_ms=now_ms)
            links.drop(connection, user_id=user_id)
            sessions.end_all(connection, user_id, now_ms=now_ms)
            opened = self._sessions.open(user_id, visitor, present.organization_id)
            opened.store(connection)
            self._changes.note_user(
                connection, caller, user_id, "user.set_password", Target("user", user_id), {}
            )
            return opened

        return await self._changes.alone(work, self._sessions.forget)

    # Users, for the operator

    async def create(
        self,
        caller: Caller,
        *,
        email: str,
        name: str | None = None,
        organization: str | None = None,
        role: Role | None = None,
    ) -> tuple[User, LinkMade]:
        """A new user, and a link with which they choose a password.

        Raises Conflict when the address has an account.
        """
        _only_operator(caller, "user.create")
        email = email_of(email)
        name = email.partition("@")[0] if name is None else name
        check_short(name, "name", NAME_CHARS_MAX)
        if (organization is None) != (role is None):
            missing = "role" if role is None else "organization"
            raise Invalid(missing, "is required: organization and role go together")
        sight = Sight(NOWHERE)
        if organization is not None:
            try:
                sight = await self._directory.sight(caller, organization)
            except NotFound:
                raise Invalid("organization", "is unknown") from None
        now_ms = self._clock.wall_ms()
        user = User(
            id=UserId(self._changes.new_id()),
            email=email,
            name=name,
            has_password=False,
            created_at=now_ms,
            updated_at=now_ms,
        )
        made = self._links.make(LinkKind.RESET, email, user_id=user.id)
        changes: dict[str, Any] = {"email": email, "role": role}

        def work(connection: Connection) -> None:
            if role is not None:
                organizations.touch(connection, sight)
            users.create(connection, user, password_hash=None)
            made.store(connection)
            if role is not None:
                members.create(
                    connection,
                    sight,
                    id=MemberId(self._changes.new_id()),
                    user_id=user.id,
                    role=role,
                    now_ms=now_ms,
                )
            target = Target("user", user.id)
            self._changes.note(connection, caller, sight, "user.create", target, changes)

        await self._changes.alone(work, lambda: self._changes.forget(sight))
        return user, made

    async def list(self, caller: Caller, page: Page) -> Listing[User]:
        """All users, for the operator."""
        _only_operator(caller, "user.list")
        return listing(
            await self._store.read(lambda c: users.walk(c, limit=page.limit, below=page.below))
        )

    async def reset(self, caller: Caller, user_id: str) -> LinkMade:
        """A link with which the user chooses a new password; until then the old one is good."""
        _only_operator(caller, "user.reset")
        user = await self._user(user_id)
        made = self._links.make(LinkKind.RESET, user.email, user_id=user.id)

        def work(connection: Connection) -> None:
            made.store(connection)
            self._changes.note_user(
                connection, caller, user.id, "user.reset", Target("user", user.id), {}
            )

        await self._changes.alone(work, self._sessions.forget)
        return made

    async def delete(self, caller: Caller, user_id: str) -> None:
        """Remove an account with its memberships; all its sessions end."""
        _only_operator(caller, "user.delete")
        user = await self._user(user_id)

        def work(connection: Connection) -> None:
            target = Target("user", user.id)
            changes = {"email": user.email}
            self._changes.note_user(connection, caller, user.id, "user.delete", target, changes)
            users.delete(connection, user.id)

        await self._changes.alone(work, self._sessions.forget)

    async def _user(self, user_id: str) -> User:
        wanted = normalize_id(user_id)
        found = None
        if wanted is not None:
            found = await self._store.read(lambda c: users.find(c, id=wanted))
        if found is None:
            raise NotFound
        return found

    # Housekeeping

    async def tidy(self, *, audit_days: int) -> int:
        """Remove what is too old, in bounded steps; returns how many rows."""
        now_ms = self._clock.wall_ms()
        before_ms = now_ms - audit_days * DAY_MS
        removed = 0
        for _ in range(STEPS_PER_ROUND_MAX):

            def step(connection: Connection) -> int:
                rows = links.purge(connection, now_ms=now_ms, rows_max=ROWS_PER_STEP_MAX)
                rows += sessions.purge(
                    connection, before_ms=now_ms - PLACES_MS, rows_max=ROWS_PER_STEP_MAX
                )
                return rows + audit.purge(
                    connection, before_ms=before_ms, rows_max=ROWS_PER_STEP_MAX
                )

            rows = await self._store.write(step)
            removed += rows
            if not rows:
                break
        return removed


def _check_given(password: str, field: str) -> None:
    if len(password) > PASSWORD_CHARS_MAX:
        raise Invalid(field, f"must be at most {PASSWORD_CHARS_MAX} characters long")


def _plain(password: str) -> str:
    """A password as it is compared; one that nobody can have stays what it is."""
    try:
        return check_password(password)
    except Invalid:
        return ""


def _person(caller: Caller, user: User) -> Caller:
    return Caller(
        kind="session",
        id=user.id,
        name=user.email,
        dialect=caller.dialect,
        address=caller.address,
    )


def _only_operator(caller: Caller, operation: str) -> None:
    if caller.kind != "operator":
        raise Forbidden("Only the operator may do this.")
    permit(caller, operation)

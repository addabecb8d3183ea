"""One-time links: how a person first comes in, joins an organization, or gets a new password.

A link works once, for at most 15 minutes, and only a POST uses it: what merely looks at links, as
mail scanners and chats do, uses none up.
"""

from msgspec import Struct

from tocsin.crypto.passwords import Passwords
from tocsin.crypto.tokens import check_visitor_token_form, hash_token, new_visitor_token
from tocsin.domain.errors import Conflict, Invalid, NotFound, Unauthenticated
from tocsin.domain.ids import is_id, slug_from_name
from tocsin.domain.model import Organization, OrganizationId, Role
from tocsin.domain.people import (
    Link,
    LinkId,
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
from tocsin.service.changes import Changes, Target
from tocsin.service.directory import NAME_CHARS_MAX, SLUGS_TRIED
from tocsin.service.guesses import Guesses
from tocsin.service.sessions import Opened, Sessions
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, links, members, organizations, sessions, users

LINK_MS = 15 * 60_000


class LinkMade(Struct, frozen=True):
    """A new link, and its token, which is kept nowhere."""

    link: Link
    token: str

    def store(self, connection: Connection) -> None:
        """Store it."""
        links.create(connection, self.link, token_hash=hash_token(self.token))


class LinkShown(Struct, frozen=True):
    """What using a link will do; `asks_present` says that the account has a password, which must
    be given, else one is chosen."""

    link: Link
    organization: str | None
    asks_present: bool


class Answers(Struct, frozen=True, kw_only=True):
    """What a person fills in: a password; for the first link also address and organization."""

    password: str
    name: str | None = None
    email: str | None = None
    organization: str | None = None


class Links:
    """Makes, shows and uses one-time links."""

    def __init__(
        self, *, changes: Changes, sessions: Sessions, passwords: Passwords, guesses: Guesses
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._clock = changes.clock
        self._sessions = sessions
        self._passwords = passwords
        self._guesses = guesses

    def make(
        self,
        kind: LinkKind,
        email: str,
        *,
        user_id: UserId | None = None,
        organization_id: OrganizationId | None = None,
        role: Role | None = None,
    ) -> LinkMade:
        """A new link, for the transaction that makes it to store."""
        now_ms = self._clock.wall_ms()
        link = Link(
            id=LinkId(self._changes.new_id()),
            kind=kind,
            email=email,
            user_id=user_id,
            organization_id=organization_id,
            role=role,
            created_at=now_ms,
            expires_at=now_ms + LINK_MS,
        )
        return LinkMade(link, new_visitor_token())

    async def first(self) -> str | None:
        """The token of a link for the very first user, in place of an earlier one; None where
        there are users."""
        made = self.make(LinkKind.FIRST, "")

        def work(connection: Connection) -> str | None:
            if users.anybody(connection):
                return None
            made.store(connection)
            return made.token

        return await self._store.write(work)

    async def show(self, token: str) -> LinkShown:
        """What a link will do; raises NotFound for one that is used up or too old."""
        token_hash, now_ms = _hash(token), self._clock.wall_ms()

        def look(connection: Connection) -> LinkShown:
            link = links.find(connection, token_hash, now_ms=now_ms)
            if link is None:
                raise NotFound
            name = None
            if link.organization_id is not None:
                name = organizations.get(connection, Sight(link.organization_id)).name
            present = False
            if link.kind is LinkKind.INVITE:
                user = users.find(connection, email=link.email)
                present = user is not None
            return LinkShown(link, name, present)

        return await self._store.read(look)

    async def use(self, caller: Caller, visitor: Visitor, token: str, answers: Answers) -> Opened:
        """Do what the link is for and sign the person in; it works no second time.

        Raises NotFound for a link that is used up or too old, Invalid for an answer that breaks a
        rule, and Unauthenticated where the password of an account there is, is wrong.
        """
        link = (await self.show(token)).link
        if answers.name is not None:
            check_short(answers.name, "name", NAME_CHARS_MAX)
        if answers.email is not None:
            email_of(answers.email)
        if answers.organization is not None:
            check_short(answers.organization, "organization", NAME_CHARS_MAX)
        if link.kind is LinkKind.FIRST:
            return await self._use_first(caller, visitor, link, answers)
        if link.kind is LinkKind.INVITE:
            return await self._use_invitation(caller, visitor, link, answers)
        return await self._use_reset(caller, visitor, link, answers)

    async def _use_first(
        self, caller: Caller, visitor: Visitor, link: Link, answers: Answers
    ) -> Opened:
        if answers.email is None:
            raise Invalid("email", "is required")
        if answers.organization is None:
            raise Invalid("organization", "is required")
        user = self._new_user(email_of(answers.email), answers.name)
        password_hash = await self._passwords.hash(check_password(answers.password))
        wanted, new_id = answers.organization, OrganizationId(self._changes.new_id())

        def work(connection: Connection) -> Opened:
            self._use_up(connection, link)
            if users.anybody(connection):
                raise NotFound
            users.create(connection, user, password_hash=password_hash)
            organization_id = _organization(connection, wanted)
            if organization_id is None:
                organization_id = new_id
                made = _new_organization(connection, new_id, wanted, user.created_at)
                organizations.create(connection, made)
                self._changes.note(
                    connection,
                    _signed_in(caller, user.id, user.email),
                    Sight(new_id),
                    "organization.create",
                    Target("organization", new_id),
                    {"name": made.name, "slug": made.slug},
                )
            return self._enter(connection, caller, visitor, user, organization_id, Role.ADMIN)

        return await self._changes.alone(work, self._sessions.forget)

    async def _use_invitation(
        self, caller: Caller, visitor: Visitor, link: Link, answers: Answers
    ) -> Opened:
        organization_id, role = link.organization_id, link.role
        assert organization_id is not None
        assert role is not None
        user = await self._store.read(lambda c: users.find(c, email=link.email))
        password_hash = None
        if user is not None:
            await self._check_present(caller, visitor, link.email, answers.password)
        else:
            password_hash = await self._passwords.hash(check_password(answers.password))
        person = user or self._new_user(link.email, answers.name)

        def work(connection: Connection) -> Opened:
            self._use_up(connection, link)
            organizations.touch(connection, Sight(organization_id))
            if password_hash is not None:
                users.create(connection, person, password_hash=password_hash)
            return self._enter(connection, caller, visitor, person, organization_id, role)

        return await self._changes.alone(work, lambda: self._changes.forget(Sight(organization_id)))

    async def _check_present(
        self, caller: Caller, visitor: Visitor, email: str, password: str
    ) -> None:
        """Who is invited to a second organization shows that it is them."""
        password = check_password(password)
        found = await self._store.read(lambda c: users.signing_in(c, email, visitor.bucket))
        right = await self._guesses.check(
            email,
            visitor,
            lambda: self._passwords.verify(found.password_hash, password),
            known_place=found.known_place,
        )
        if not right:
            if found.user is not None:
                self._guesses.failed(caller, found.user.id, visitor)
            raise Unauthenticated("This address has an account, and this is not its password.")

    async def _use_reset(
        self, caller: Caller, visitor: Visitor, link: Link, answers: Answers
    ) -> Opened:
        user_id = link.user_id
        assert user_id is not None
        password_hash = await self._passwords.hash(check_password(answers.password))
        now_ms = self._clock.wall_ms()

        def work(connection: Connection) -> Opened:
            self._use_up(connection, link)
            users.set_password(connection, user_id, password_hash=password_hash, now_ms=now_ms)
            links.drop(connection, user_id=user_id)
            sessions.end_all(connection, user_id, now_ms=now_ms)
            mine = users.memberships(connection, user_id)
            opened = self._sessions.open(
                user_id, visitor, mine[0].organization_id if mine else None
            )
            opened.store(connection)
            who = _signed_in(caller, user_id, link.email)
            self._changes.note_user(
                connection, who, user_id, "user.set_password", Target("user", user_id), {}
            )
            return opened

        return await self._changes.alone(work, self._sessions.forget)

    def _new_user(self, email: str, name: str | None) -> User:
        now_ms = self._clock.wall_ms()
        return User(
            id=UserId(self._changes.new_id()),
            email=email,
            name=email.partition("@")[0] if name is None else name,
            has_password=True,
            created_at=now_ms,
            updated_at=now_ms,
        )

    def _use_up(self, connection: Connection, link: Link) -> None:
        """Of two who use a link at once one finds it gone."""
        if not links.use(connection, link.id):
            raise NotFound

    def _enter(
        self,
        connection: Connection,
        caller: Caller,
        visitor: Visitor,
        user: User,
        organization_id: OrganizationId,
        role: Role,
    ) -> Opened:
        """The user becomes a member and is signed in."""
        sight = Sight(organization_id)
        member_id = MemberId(self._changes.new_id())
        members.create(
            connection,
            sight,
            id=member_id,
            user_id=user.id,
            role=role,
            now_ms=self._clock.wall_ms(),
        )
        opened = self._sessions.open(user.id, visitor, organization_id)
        opened.store(connection)
        changes = {"email": user.email, "role": role}
        who = _signed_in(caller, user.id, user.email)
        target = Target("member", member_id)
        self._changes.note(connection, who, sight, "member.join", target, changes)
        return opened


def _signed_in(caller: Caller, user_id: UserId, email: str) -> Caller:
    """The stranger that a link has made somebody, for the audit."""
    return Caller(
        kind="session", id=user_id, name=email, dialect=caller.dialect, address=caller.address
    )


def _hash(token: str) -> str:
    if not check_visitor_token_form(token):
        raise NotFound
    return hash_token(token)


def _organization(connection: Connection, ref: str) -> OrganizationId | None:
    lower = ref.lower()
    if is_id(lower):
        found = organizations.resolve(connection, id=lower)
    else:
        found = organizations.resolve(connection, slug=lower)
    return None if found is None else found.id


def _new_organization(
    connection: Connection, id: OrganizationId, name: str, now_ms: int
) -> Organization:
    choices = [slug_from_name(name, number) for number in range(1, SLUGS_TRIED + 1)]
    slug = organizations.free_slug(connection, choices)
    if slug is None:
        raise Conflict("All slugs like this are taken.", "organization")
    return Organization(id=id, name=name, slug=slug, created_at=now_ms, updated_at=now_ms)

"""Sessions: from the token in a cookie to a caller. What ends a session, or changes what it may
do, is exact on this node, and at most a second late on others."""

from collections import OrderedDict
from contextlib import suppress

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tocsin.crypto.tokens import check_visitor_token_form, hash_token, new_visitor_token
from tocsin.domain.errors import (
    ExpiredToken,
    Forbidden,
    Invalid,
    InvalidToken,
    NotFound,
    Unavailable,
)
from tocsin.domain.ids import is_id, normalize_id, slug_valid
from tocsin.domain.model import OrganizationId, Project
from tocsin.domain.people import (
    NOWHERE,
    Holder,
    Membership,
    Session,
    SessionId,
    User,
    UserId,
    Visitor,
)
from tocsin.domain.permissions import ROLES, Caller
from tocsin.domain.text import bounded
from tocsin.service.changes import Changes, Target, listing
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import Connection, projects, sessions, users

DAY_MS = 86_400_000
IDLE_MS = 30 * DAY_MS
"""A session ends so long after its last use …"""
LIFE_MS = 90 * DAY_MS
"""… and so long after it began, however often it is used."""
SLIDE_MS = 3_600_000
"""How exactly its last use is noted."""

FRESH_SECONDS = 1.0
ENTRIES_MAX = 10_000
SESSIONS_PER_USER_MAX = 50
USER_AGENT_BYTES_MAX = 200
ADDRESS_BYTES_MAX = 64


class _Entry:
    """A session that was read a moment ago; `caller` is the last one made of it."""

    __slots__ = ("caller", "ends_at", "fresh_until")

    def __init__(self, caller: Caller, ends_at: int, fresh_until: float) -> None:
        self.caller = caller
        self.ends_at = ends_at
        self.fresh_until = fresh_until


class SignedIn(Struct, frozen=True):
    """A session as its owner sees it, with everything there is to choose from."""

    session: Session
    user: User
    organization: Membership | None
    project: Project | None
    memberships: list[Membership]


class Opened(Struct, frozen=True):
    """A new session, not stored yet, and the token that nobody will see again."""

    session: Session
    token: str
    bucket: str

    def store(self, connection: Connection) -> None:
        """Store it."""
        sessions.create(
            connection,
            self.session,
            token_hash=hash_token(self.token),
            bucket=self.bucket,
            keep_max=SESSIONS_PER_USER_MAX,
        )


class Sessions:
    """Knows who holds a session, and lets people look after their own."""

    def __init__(self, *, changes: Changes, entries_max: int = ENTRIES_MAX) -> None:
        self._changes = changes
        self._store = changes.store
        self._clock = changes.clock
        self._entries_max = entries_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._epoch = 0

    def cached(self, token: str, *, dialect: str, address: str | None) -> Caller | None:
        """The caller if the session was read within the last second; else `authenticate` knows."""
        entry = self._entries.get(hash_token(token))
        if entry is None or entry.fresh_until <= self._clock.monotonic():
            return None
        if entry.ends_at <= self._clock.wall_ms():
            return None
        return _as(entry.caller, dialect, address)

    async def authenticate(self, token: str, *, dialect: str, address: str | None) -> Caller:
        """Who holds the session; raises InvalidToken or ExpiredToken. Notes its use now and then.

        A person who is in no organization is nowhere: a caller who sees and may do nothing.
        """
        known = self.cached(token, dialect=dialect, address=address)
        if known is not None:
            return known
        if not check_visitor_token_form(token):
            raise InvalidToken
        token_hash = hash_token(token)
        epoch = self._epoch
        holder = await self._store.read(lambda c: sessions.by_token_hash(c, token_hash))
        if holder is None:
            raise InvalidToken
        now_ms = self._clock.wall_ms()
        ends_at = min(holder.session.ends_at, holder.session.expires_at)
        if ends_at <= now_ms:
            raise ExpiredToken
        if now_ms - holder.session.seen_at >= SLIDE_MS:
            ends_at = await self._slide(holder.session, now_ms)
        caller = _as(_caller(holder), dialect, address)
        if epoch == self._epoch:
            self._entries[token_hash] = _Entry(
                caller, ends_at, self._clock.monotonic() + FRESH_SECONDS
            )
            self._entries.move_to_end(token_hash)
            if len(self._entries) > self._entries_max:
                self._entries.popitem(last=False)
        return caller

    async def _slide(self, session: Session, now_ms: int) -> int:
        ends_at = min(now_ms + IDLE_MS, session.expires_at)
        with suppress(Unavailable):  # it is noted the next time
            await self._store.write(
                lambda c: sessions.slide(c, session.id, seen_at=now_ms, ends_at=ends_at)
            )
        return ends_at

    def forget(self, organization_id: OrganizationId | None = None) -> None:
        """Read every session again; to be told of every change of what one may do."""
        del organization_id  # what is kept is a second old at most: nothing is lost
        self._epoch += 1
        self._entries.clear()

    def open(
        self, user_id: UserId, visitor: Visitor, organization_id: OrganizationId | None
    ) -> Opened:
        """A new session of a user, for the transaction that signs them in to store."""
        now_ms = self._clock.wall_ms()
        session = Session(
            id=SessionId(self._changes.new_id()),
            user_id=user_id,
            organization_id=organization_id,
            project_id=None,
            address=visitor.address and bounded(visitor.address, ADDRESS_BYTES_MAX),
            user_agent=" ".join(bounded(visitor.user_agent, USER_AGENT_BYTES_MAX).split()),
            created_at=now_ms,
            seen_at=now_ms,
            ends_at=now_ms + IDLE_MS,
            expires_at=now_ms + LIFE_MS,
        )
        return Opened(session, new_visitor_token(), visitor.bucket)

    async def read(self, caller: Caller) -> SignedIn:
        """The caller's own session."""
        session_id, user_id = _own(caller)

        def look(connection: Connection) -> SignedIn:
            holder = sessions.get(connection, user_id, session_id)
            mine = users.memberships(connection, user_id)
            at = holder.session.organization_id
            organization = next((one for one in mine if one.organization_id == at), None)
            project = None
            if at is not None and holder.session.project_id is not None:
                project = projects.find(connection, Sight(at), id=holder.session.project_id)
            return SignedIn(holder.session, holder.user, organization, project, mine)

        return await self._store.read(look)

    async def switch(
        self,
        caller: Caller,
        *,
        organization: str | UnsetType = UNSET,
        project: str | UnsetType | None = UNSET,
    ) -> str | None:
        """Turn the caller's session to another organization or project of theirs.

        Where the organization, and with it the role, changes, the session gets a new token, which
        is returned; the old one is void. Raises Invalid naming what is unknown.
        """
        session_id, user_id = _own(caller)
        token = new_visitor_token()

        def turn(connection: Connection) -> str | None:
            holder = sessions.get(connection, user_id, session_id)
            at, selected = holder.session.organization_id, holder.session.project_id
            moved = False
            if organization is not UNSET:
                wanted = _chosen(users.memberships(connection, user_id), organization)
                moved = wanted != at
                at, selected = wanted, None if moved else selected
            if project is not UNSET:
                selected = None
                if project is not None:
                    selected = _project(connection, at, project).id
            sessions.move(
                connection,
                session_id,
                token_hash=hash_token(token) if moved else None,
                organization_id=at,
                project_id=selected,
            )
            return token if moved else None

        return await self._changes.alone(turn, self.forget)

    async def list(self, caller: Caller, page: Page) -> Listing[Session]:
        """The caller's own live sessions."""
        _, user_id = _own(caller)
        now_ms = self._clock.wall_ms()
        return listing(
            await self._store.read(
                lambda c: sessions.walk(
                    c, user_id, now_ms=now_ms, limit=page.limit, below=page.below
                )
            )
        )

    async def end(self, caller: Caller, session_id: str | None = None) -> None:
        """End a session of the caller's own, the present one if none is named; NotFound."""
        own, user_id = _own(caller)
        wanted = own if session_id is None else normalize_id(session_id)
        if wanted is None:
            raise NotFound
        now_ms = self._clock.wall_ms()
        action = "user.sign_out" if wanted == own else "session.end"

        def work(connection: Connection) -> None:
            sessions.end(connection, user_id, wanted, now_ms=now_ms)
            self._changes.note_user(
                connection, caller, user_id, action, Target("session", wanted), {}
            )

        await self._changes.alone(work, self.forget)


def _own(caller: Caller) -> tuple[str, UserId]:
    if caller.kind != "session" or caller.session_id is None or caller.id is None:
        raise Forbidden("This call is for people who have signed in.")
    return caller.session_id, UserId(caller.id)


def _chosen(mine: list[Membership], ref: str) -> OrganizationId:
    ref = ref.lower()
    for one in mine:
        if (one.organization_id if is_id(ref) else one.slug) == ref:
            return one.organization_id
    raise Invalid("organization", "is unknown")


def _project(connection: Connection, at: OrganizationId | None, ref: str) -> Project:
    ref = ref.lower()
    found = None
    if at is not None and is_id(ref):
        found = projects.find(connection, Sight(at), id=ref)
    elif at is not None and slug_valid(ref):
        found = projects.find(connection, Sight(at), slug=ref)
    if found is None:
        raise Invalid("project", "is unknown")
    return found


def _caller(holder: Holder) -> Caller:
    inside = holder.role is not None
    return Caller(
        kind="session",
        organization_id=holder.session.organization_id if inside else NOWHERE,
        grants=ROLES[holder.role] if holder.role is not None else (),
        id=holder.user.id,
        name=holder.user.email,
        session_id=holder.session.id,
        selected_project_id=holder.session.project_id,
    )


def _as(caller: Caller, dialect: str, address: str | None) -> Caller:
    if caller.dialect == dialect and caller.address == address:
        return caller
    return replace(caller, dialect=dialect, address=address)

"""Members of an organization: who is in it, with what role, and who is invited."""

from tocsin.domain.errors import Conflict, Forbidden, NotFound, QuotaExceeded
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Role
from tocsin.domain.people import LinkKind, Member, email_of
from tocsin.domain.permissions import ROLES, Caller, within
from tocsin.service.changes import Changes, Made, Target, listing, permit
from tocsin.service.links import LinkMade, Links
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.control import Connection, links, members, sessions

MEMBERS_MAX = 500
INVITATIONS_MAX = 100


class Members:
    """Lists, invites, changes and removes members. Nobody gives a role that may do more than
    themselves, and a key bound to a project sees no members."""

    def __init__(self, *, changes: Changes, links: Links) -> None:
        self._changes = changes
        self._store = changes.store
        self._links = links

    async def list(self, caller: Caller, sight: Sight, page: Page) -> Listing[Member]:
        """The members of the organization."""
        if caller.project_id is not None:
            raise NotFound
        permit(caller, "member.list")
        return listing(
            await self._store.read(
                lambda c: members.walk(c, sight, limit=page.limit, below=page.below)
            )
        )

    async def invite(self, caller: Caller, sight: Sight, *, email: str, role: Role) -> LinkMade:
        """A link that makes whoever has it a member, after they have shown that an account of
        this address is theirs, or made one. It is given on by the inviter."""
        _permit(caller, "member.create")
        _within(caller, role)
        email = email_of(email)
        now_ms = self._changes.clock.wall_ms()
        organization_id = sight.organization_id
        made = self._links.make(LinkKind.INVITE, email, organization_id=organization_id, role=role)

        def work(connection: Connection) -> Made[LinkMade]:
            if members.count(connection, sight) >= MEMBERS_MAX:
                raise QuotaExceeded(f"An organization has at most {MEMBERS_MAX} members.")
            if links.count(connection, organization_id, now_ms=now_ms) >= INVITATIONS_MAX:
                raise QuotaExceeded(f"At most {INVITATIONS_MAX} invitations are open at once.")
            made.store(connection)
            return Made(made, {"email": email, "role": role})

        target = Target("invitation", made.link.id)
        return await self._changes.make(caller, sight, "member.create", target, work)

    async def change(self, caller: Caller, sight: Sight, member_id: str, *, role: Role) -> Member:
        """Give a member another role; their sessions in this organization end.

        Raises Conflict for the last admin, whom only the operator changes.
        """
        found = await self.look(sight, member_id)
        _permit(caller, "member.update")
        _within(caller, role, found.role)
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[Member]:
            before = members.get(connection, sight, found.id)
            if before.role == role:
                return Made(before)
            _within(caller, before.role)
            _keep_an_admin(connection, caller, sight, before)
            members.set_role(connection, sight, found.id, role=role, now_ms=now_ms)
            self._end_sessions(connection, sight, before, now_ms)
            after = members.get(connection, sight, found.id)
            return Made(after, {"email": after.email, "role": {"from": before.role, "to": role}})

        target = Target("member", found.id)
        return await self._changes.make(caller, sight, "member.update", target, work)

    async def remove(self, caller: Caller, sight: Sight, member_id: str) -> None:
        """Take a member out of the organization; their sessions in it end. The account stays."""
        found = await self.look(sight, member_id)
        _permit(caller, "member.delete")
        _within(caller, found.role)
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[None]:
            before = members.get(connection, sight, found.id)
            _within(caller, before.role)
            _keep_an_admin(connection, caller, sight, before)
            members.delete(connection, sight, found.id)
            self._end_sessions(connection, sight, before, now_ms)
            return Made(None, {"email": before.email, "role": before.role})

        target = Target("member", found.id)
        await self._changes.make(caller, sight, "member.delete", target, work)

    async def look(self, sight: Sight, member_id: str) -> Member:
        """A member, for whoever may then do something with them; raises NotFound."""
        wanted = normalize_id(member_id)
        if wanted is None:
            raise NotFound
        return await self._store.read(lambda c: members.get(c, sight, wanted))

    def _end_sessions(
        self, connection: Connection, sight: Sight, member: Member, now_ms: int
    ) -> None:
        sessions.end_all(
            connection, member.user_id, now_ms=now_ms, organization_id=sight.organization_id
        )


def _permit(caller: Caller, operation: str) -> None:
    permit(caller, operation)
    if caller.project_id is not None:
        raise Forbidden


def _within(caller: Caller, *roles: Role) -> None:
    """Nobody makes, changes or removes one who may do more than themselves."""
    if not all(within(ROLES[role], caller.grants) for role in roles):
        raise Forbidden("This role may do more than you.")


def _keep_an_admin(connection: Connection, caller: Caller, sight: Sight, member: Member) -> None:
    if member.role is not Role.ADMIN or caller.kind == "operator":
        return
    if members.count(connection, sight, role=Role.ADMIN) <= 1:
        raise Conflict("Somebody has to be admin. The operator may change it.")

"""Members of organizations, and the operator's view of users."""

from typing import Any

from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from tocsin.domain.model import Role
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import people_views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.people_views import LinkOut, MemberOut, UserMadeOut, UserOut
from tocsin.web.native.views import ListOut


class InvitationIn(Struct, forbid_unknown_fields=True):
    """Who is invited, and as what."""

    email: str
    role: Role


class MemberChangeIn(Struct, forbid_unknown_fields=True):
    """A member's new role."""

    role: Role


class UserIn(Struct, forbid_unknown_fields=True):
    """A new account; with an organization and a role it is a member at once."""

    email: str
    name: str | None = None
    organization: str | None = None
    role: Role | None = None


def _base(call: Call) -> str:
    scope: Any = call.scope
    return call.edge.gate.origins.base(scope)


@post(
    "/organizations/{org:str}/members",
    opt={"operation": "member.create", "whole": True},
    responses=problems(*WRITES),
)
async def invite_member(request: Call, org: FromPath[str], data: JSONBody[InvitationIn]) -> LinkOut:
    """Invite somebody: this reply is the only one that shows the link to give them."""
    made = await request.services.members.invite(
        request.caller, request.sight, email=data.email, role=data.role
    )
    return people_views.link(made, _base(request))


@get(
    "/organizations/{org:str}/members",
    opt={"operation": "member.list"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_members(request: Call, org: FromPath[str]) -> ListOut[MemberOut]:
    """The people of an organization."""
    place = {"list": "members", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.members.list(request.caller, request.sight, page)
    return answer(request, listing, people_views.member, **place)


@patch(
    "/organizations/{org:str}/members/{id:str}",
    opt={"operation": "member.update", "whole": True, "target": "member"},
    responses=problems(*WRITES),
)
async def change_member(
    request: Call, org: FromPath[str], id: FromPath[str], data: JSONBody[MemberChangeIn]
) -> MemberOut:
    """Give a member another role: their sessions in this organization end."""
    changed = await request.services.members.change(
        request.caller, request.sight, id, role=data.role
    )
    return people_views.member(changed)


@delete(
    "/organizations/{org:str}/members/{id:str}",
    opt={"operation": "member.delete", "whole": True},
    responses=problems(*READS, 409),
)
async def remove_member(request: Call, org: FromPath[str], id: FromPath[str]) -> None:
    """Take a member out of an organization, at once; the account stays."""
    await request.services.members.remove(request.caller, request.sight, id)


@post(
    "/users",
    opt={"operation": "user.create", "operator": True},
    responses=problems(*WRITES),
)
async def create_user(request: Call, data: JSONBody[UserIn]) -> UserMadeOut:
    """Create an account; needs the operator token. Its owner chooses a password by the link."""
    user, made = await request.services.people.create(
        request.caller,
        email=data.email,
        name=data.name,
        organization=data.organization,
        role=data.role,
    )
    return people_views.user_made(user, made, _base(request))


@get(
    "/users",
    opt={"operation": "user.list", "operator": True},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_users(request: Call) -> ListOut[UserOut]:
    """All accounts; needs the operator token."""
    place = {"list": "users", "organization": ""}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.people.list(request.caller, page)
    return answer(request, listing, people_views.user, **place)


@post(
    "/users/{id:str}/reset",
    opt={"operation": "user.reset", "operator": True},
    responses=problems(*READS),
)
async def reset_user(request: Call, id: FromPath[str]) -> LinkOut:
    """Make a link with which a user chooses a new password; needs the operator token."""
    made = await request.services.people.reset(request.caller, id)
    return people_views.link(made, _base(request))


@delete(
    "/users/{id:str}",
    opt={"operation": "user.delete", "operator": True},
    responses=problems(*READS),
)
async def delete_user(request: Call, id: FromPath[str]) -> None:
    """Delete an account: its sessions end at once; needs the operator token."""
    await request.services.people.delete(request.caller, id)


HANDLERS: tuple[Any, ...] = (
    invite_member,
    list_members,
    change_member,
    remove_member,
    create_user,
    list_users,
    reset_user,
    delete_user,
)

STRUCTS = (
    InvitationIn,
    MemberChangeIn,
    UserIn,
    MemberOut,
    UserOut,
    UserMadeOut,
    LinkOut,
)

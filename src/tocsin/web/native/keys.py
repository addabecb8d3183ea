"""Keys: bearer credentials of an organization."""

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from tocsin.domain.model import Role
from tocsin.domain.text import parse_time
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.views import KeyOut, ListOut


class KeyIn(Struct, forbid_unknown_fields=True):
    """A new key; `role` and `permissions` are united, neither means developer."""

    name: str
    role: Role | None = None
    permissions: list[str] | None = None
    project: str | None = None
    expires_at: str | None = None


@post(
    "/organizations/{org:str}/keys",
    opt={"operation": "key.create"},
    responses=problems(*WRITES),
)
async def create_key(request: Call, org: FromPath[str], data: JSONBody[KeyIn]) -> KeyOut:
    """Create a key; this reply is the only one that shows its token."""
    expires_at = None if data.expires_at is None else parse_time(data.expires_at, "expires_at")
    made, token = await request.services.keys.create(
        request.caller,
        request.sight,
        name=data.name,
        role=data.role,
        permissions=data.permissions or [],
        project=data.project,
        expires_at=expires_at,
    )
    return views.key(made, token)


@get(
    "/organizations/{org:str}/keys",
    opt={"operation": "key.list"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_keys(request: Call, org: FromPath[str]) -> ListOut[KeyOut]:
    """The organization's keys in sight."""
    place = {"list": "keys", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.keys.list(request.caller, request.sight, page)
    return answer(request, listing, views.key, **place)


@delete(
    "/organizations/{org:str}/keys/{id:str}",
    opt={"operation": "key.delete"},
    responses=problems(*READS),
)
async def delete_key(request: Call, org: FromPath[str], id: FromPath[str]) -> None:
    """Revoke a key, at once."""
    await request.services.keys.delete(request.caller, request.sight, id)


HANDLERS = (create_key, list_keys, delete_key)

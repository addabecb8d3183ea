"""The audit log: who changed what, of an organization and of the server itself."""

from typing import Any

from litestar import get
from litestar.params import FromPath

from tocsin.domain.people import NOWHERE
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, problems
from tocsin.web.native.listing import PAGING, PERIOD, answer, page_of
from tocsin.web.native.views import AuditOut, ListOut

_LISTING = spec.takes(
    *PAGING,
    spec.text("action", "only this action, such as `channel.update`"),
    spec.text("actor", "only by this key or user (id), or this kind of actor"),
    spec.text("target", "only of this thing (id), or this kind of thing"),
    *PERIOD,
)


async def _list(call: Call, sight: Sight) -> ListOut[AuditOut]:
    place = {"list": "audit", "organization": sight.organization_id}
    query = call.parameters()
    listing = await call.services.directory.audit(
        call.caller,
        sight,
        page_of(call, query, **place),
        action=query.text("action"),
        actor=query.text("actor"),
        target=query.text("target"),
        after=query.time("after"),
        before=query.time("before"),
    )
    return answer(call, listing, views.audit_entry, **place)


@get(
    "/organizations/{org:str}/audit",
    opt={"operation": "audit.list"},
    responses=problems(*READS),
    operation_class=_LISTING,
)
async def list_audit(request: Call, org: FromPath[str]) -> ListOut[AuditOut]:
    """Who changed what, newest first."""
    return await _list(request, request.sight)


@get(
    "/audit",
    opt={"operation": "audit.list", "operator": True},
    responses=problems(*READS),
    operation_class=_LISTING,
)
async def list_server_audit(request: Call) -> ListOut[AuditOut]:
    """The same of what belongs to no organization, such as accounts that are in none; needs the
    operator token."""
    return await _list(request, Sight(NOWHERE))


HANDLERS: tuple[Any, ...] = (list_audit, list_server_audit)

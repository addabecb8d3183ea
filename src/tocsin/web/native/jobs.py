"""Jobs: work in the background that people start, watch and stop."""

from typing import Any, Literal

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.service.recover import RecoverDraft
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.views import JobOut, ListOut


class RecoverIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to send once more: deliveries of a channel that failed."""

    since: str
    until: str | UnsetType | None = UNSET
    statuses: list[Literal["exhausted", "rejected"]] | UnsetType | None = UNSET


@post(
    "/organizations/{org:str}/channels/{id:str}/recover",
    opt={"operation": "job.create", "target": "channel"},
    status_code=202,
    responses=problems(*WRITES),
)
async def recover_channel(
    request: Call, org: FromPath[str], id: FromPath[str], data: JSONBody[RecoverIn]
) -> JobOut:
    """Begin a job that sends once more what a channel did not take."""
    draft = RecoverDraft(**msgspec.structs.asdict(data))
    return views.job(await request.services.log.recover(request.caller, request.sight, id, draft))


@get(
    "/organizations/{org:str}/jobs",
    opt={"operation": "job.list"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_jobs(request: Call, org: FromPath[str]) -> ListOut[JobOut]:
    """The organization's jobs in sight."""
    place = {"list": "jobs", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.log.jobs(request.caller, request.sight, page)
    return answer(request, listing, views.job, **place)


@get(
    "/organizations/{org:str}/jobs/{id:str}",
    opt={"operation": "job.get"},
    responses=problems(*READS),
)
async def get_job(request: Call, org: FromPath[str], id: FromPath[str]) -> JobOut:
    """One job and how far it is."""
    return views.job(await request.services.log.job(request.caller, request.sight, id))


@delete(
    "/organizations/{org:str}/jobs/{id:str}",
    opt={"operation": "job.delete"},
    responses=problems(*READS, 409),
)
async def cancel_job(request: Call, org: FromPath[str], id: FromPath[str]) -> None:
    """Cancel a job; what it has done stays done."""
    await request.services.log.cancel_job(request.caller, request.sight, id)


HANDLERS: tuple[Any, ...] = (recover_channel, list_jobs, get_job, cancel_job)

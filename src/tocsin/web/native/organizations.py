"""Organizations and projects."""

from typing import Any

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.views import ListOut, OrganizationOut, ProjectOut


class NamedIn(Struct, forbid_unknown_fields=True):
    """A new organization or project; without a slug one is made from the name."""

    name: str
    slug: str | None = None


class RenamedIn(Struct, forbid_unknown_fields=True):
    """Changes of an organization or project; what is left out stays."""

    name: str | UnsetType = UNSET
    slug: str | UnsetType = UNSET


@post(
    "/organizations",
    opt={"operation": "organization.create", "operator": True},
    responses=problems(*WRITES),
)
async def create_organization(request: Call, data: JSONBody[NamedIn]) -> OrganizationOut:
    """Create an organization; needs the operator token."""
    made = await request.services.directory.create_organization(
        request.caller, name=data.name, slug=data.slug
    )
    return views.organization(made)


@get(
    "/organizations",
    opt={"operation": "organization.list", "operator": True},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_organizations(request: Call) -> ListOut[OrganizationOut]:
    """All organizations; needs the operator token."""
    place = {"list": "organizations", "organization": ""}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.directory.list_organizations(request.caller, page)
    return answer(request, listing, views.organization, **place)


@get(
    "/organizations/{org:str}",
    opt={"operation": "organization.get"},
    responses=problems(*READS),
)
async def get_organization(request: Call, org: FromPath[str]) -> OrganizationOut:
    """One organization."""
    found = await request.services.directory.organization(request.caller, request.sight)
    return views.organization(found)


@patch(
    "/organizations/{org:str}",
    opt={"operation": "organization.update", "whole": True},
    responses=problems(*WRITES),
)
async def update_organization(
    request: Call, org: FromPath[str], data: JSONBody[RenamedIn]
) -> OrganizationOut:
    """Change an organization's name or slug."""
    changed = await request.services.directory.update_organization(
        request.caller, request.sight, name=data.name, slug=data.slug
    )
    return views.organization(changed)


@delete(
    "/organizations/{org:str}",
    opt={"operation": "organization.delete", "whole": True},
    status_code=202,
    responses=problems(*READS, 409),
    operation_class=spec.takes(spec.text("confirm", "the organization's slug")),
)
async def delete_organization(request: Call, org: FromPath[str]) -> Response[Any]:
    """Delete an organization: its keys are void at once, its data goes in the background."""
    await request.services.directory.delete_organization(
        request.caller, request.sight, confirm=request.parameters().text("confirm")
    )
    return Response(b"", status_code=202)


@post(
    "/organizations/{org:str}/projects",
    opt={"operation": "project.create", "whole": True},
    responses=problems(*WRITES),
)
async def create_project(request: Call, org: FromPath[str], data: JSONBody[NamedIn]) -> ProjectOut:
    """Create a project."""
    made = await request.services.directory.create_project(
        request.caller, request.sight, name=data.name, slug=data.slug
    )
    return views.project(made)


@get(
    "/organizations/{org:str}/projects",
    opt={"operation": "project.list"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_projects(request: Call, org: FromPath[str]) -> ListOut[ProjectOut]:
    """The organization's projects in sight."""
    place = {"list": "projects", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.directory.list_projects(request.caller, request.sight, page)
    return answer(request, listing, views.project, **place)


@get(
    "/organizations/{org:str}/projects/{project:str}",
    opt={"operation": "project.get"},
    responses=problems(*READS),
)
async def get_project(request: Call, org: FromPath[str], project: FromPath[str]) -> ProjectOut:
    """One project."""
    found = await request.services.directory.project(request.caller, request.sight, project)
    return views.project(found)


@patch(
    "/organizations/{org:str}/projects/{project:str}",
    opt={"operation": "project.update"},
    responses=problems(*WRITES),
)
async def update_project(
    request: Call, org: FromPath[str], project: FromPath[str], data: JSONBody[RenamedIn]
) -> ProjectOut:
    """Change a project's name or slug."""
    changed = await request.services.directory.update_project(
        request.caller, request.sight, project, name=data.name, slug=data.slug
    )
    return views.project(changed)


@delete(
    "/organizations/{org:str}/projects/{project:str}",
    opt={"operation": "project.delete"},
    responses=problems(*READS),
)
async def delete_project(request: Call, org: FromPath[str], project: FromPath[str]) -> None:
    """Delete a project with its channels; history stays until retention."""
    await request.services.directory.delete_project(request.caller, request.sight, project)


HANDLERS = (
    create_organization,
    list_organizations,
    get_organization,
    update_organization,
    delete_organization,
    create_project,
    list_projects,
    get_project,
    update_project,
    delete_project,
)

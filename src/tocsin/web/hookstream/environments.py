"""Environments: the projects of an organization."""

from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, Struct, UnsetType

from tocsin.domain.ids import strip_prefix
from tocsin.domain.model import Project
from tocsin.domain.text import iso
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.hookstream.listing import PAGING, cursor_of, page_of
from tocsin.web.hookstream.place import ORGANIZATION, organization_sight
from tocsin.web.hookstream.replies import READS, WRITES, SuccessReply

PATH = "/environments"


class EnvironmentIn(Struct):
    """A new environment; without a slug one is made from the name. Other keys are ignored."""

    name: str
    slug: str | None = None
    org_id: str | None = None


class EnvironmentChangeIn(Struct):
    """Changes of an environment: what is left out stays, other keys are ignored."""

    name: str | UnsetType = UNSET
    slug: str | UnsetType = UNSET


class EnvironmentOut(Struct):
    """An environment."""

    id: str
    org_id: str
    name: str
    slug: str
    created_at: str


class EnvironmentReply(Struct):
    """One environment."""

    environment: EnvironmentOut


class EnvironmentsReply(Struct):
    """A page of environments, newest first."""

    environments: list[EnvironmentOut]
    cursor: str | None
    has_more: bool


async def existing(call: Call, operation: str) -> None:
    """Raise NotFound for the environment that a call with a body is about."""
    del operation
    call.sight, id = await _place(call, call.path_params["id"])
    await call.services.directory.sight(call.caller, call.sight.organization_id, id)


async def _place(call: Call, id: str) -> tuple[Sight, str]:
    """Where a call that names only an environment looks for it."""
    id = strip_prefix(id)
    return await call.services.directory.project_sight(call.caller, id), id


def _shown(project: Project) -> EnvironmentOut:
    return EnvironmentOut(
        id=project.id,
        org_id=project.organization_id,
        name=project.name,
        slug=project.slug,
        created_at=iso(project.created_at),
    )


@post(
    PATH,
    opt={"operation": "project.create", "whole": True},
    responses=WRITES,
    operation_class=spec.takes(ORGANIZATION),
)
async def create_environment(request: Call, data: JSONBody[EnvironmentIn]) -> EnvironmentReply:
    """Create an environment."""
    sight = await organization_sight(request, data.org_id)
    made = await request.services.directory.create_project(
        request.caller, sight, name=data.name, slug=data.slug
    )
    return EnvironmentReply(_shown(made))


@get(
    PATH,
    opt={"operation": "project.list"},
    responses=READS,
    operation_class=spec.takes(*PAGING, ORGANIZATION),
)
async def list_environments(request: Call) -> EnvironmentsReply:
    """The environments in sight."""
    sight = await organization_sight(request)
    page = page_of(request, sight, "environments")
    listing = await request.services.directory.list_projects(request.caller, sight, page)
    cursor = cursor_of(request, sight, "environments", listing)
    shown = [_shown(project) for project in listing.items]
    return EnvironmentsReply(shown, cursor, cursor is not None)


@get(PATH + "/{id:str}", opt={"operation": "project.get"}, responses=READS)
async def get_environment(request: Call, id: FromPath[str]) -> EnvironmentReply:
    """One environment."""
    sight, id = await _place(request, id)
    return EnvironmentReply(
        _shown(await request.services.directory.project(request.caller, sight, id))
    )


@patch(
    PATH + "/{id:str}",
    opt={"operation": "project.update", "existing": existing},
    responses=WRITES,
)
async def update_environment(
    request: Call, id: FromPath[str], data: JSONBody[EnvironmentChangeIn]
) -> EnvironmentReply:
    """Change an environment's name or slug."""
    changed = await request.services.directory.update_project(
        request.caller, request.sight, strip_prefix(id), name=data.name, slug=data.slug
    )
    return EnvironmentReply(_shown(changed))


@delete(PATH + "/{id:str}", opt={"operation": "project.delete"}, status_code=200, responses=READS)
async def delete_environment(request: Call, id: FromPath[str]) -> SuccessReply:
    """Delete an environment with its channels and keys; history stays until retention."""
    sight, id = await _place(request, id)
    await request.services.directory.delete_project(request.caller, sight, id)
    return SuccessReply()


HANDLERS = (
    create_environment,
    list_environments,
    get_environment,
    update_environment,
    delete_environment,
)

STRUCTS = (EnvironmentIn, EnvironmentChangeIn, EnvironmentReply, EnvironmentsReply)

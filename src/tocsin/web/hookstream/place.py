"""Which organization and environment a call is about: the key's, the named, or the only one."""

import msgspec

from tocsin.domain.errors import Invalid, NotFound
from tocsin.domain.ids import strip_prefix
from tocsin.domain.model import ProjectId
from tocsin.domain.permissions import ALL
from tocsin.service.sight import Page, Sight
from tocsin.web import spec
from tocsin.web.calls import Call

ORGANIZATION = spec.text("org_id", "the organization, for the operator")
ENVIRONMENT = spec.text("env_id", "the environment")


async def organization_sight(call: Call, org_id: str | None = None) -> Sight:
    """What the call sees. `org_id`, of the body or else the query, counts for the operator only,
    who sees every organization."""
    caller = call.caller
    if caller.organization_id is not None:
        return Sight(caller.organization_id, caller.project_id)
    org_id = org_id or call.parameters().text("org_id")
    directory = call.services.directory
    if org_id:
        try:
            return await directory.sight(caller, strip_prefix(org_id))
        except NotFound:
            raise Invalid("org_id", "is unknown") from None
    listing = await directory.list_organizations(caller, Page(limit=2))
    if len(listing.items) != 1:
        raise Invalid("org_id", "is required, because there is not exactly one organization")
    return Sight(listing.items[0].id)


async def named_environment(
    call: Call, sight: Sight, env_id: str | None = None
) -> ProjectId | None:
    """The environment that the body (or else the query) names or that the key is bound to; None
    where it is open."""
    env_id = env_id or call.parameters().text("env_id")
    if not env_id:
        return sight.project_id
    try:
        project = await call.services.directory.project_in(sight, strip_prefix(env_id))
    except (Invalid, NotFound):
        raise Invalid("env_id", "is unknown") from None
    return project.id


async def environment(call: Call, sight: Sight, env_id: str | None) -> ProjectId:
    """The one environment of a call that makes something."""
    found = await named_environment(call, sight, env_id)
    found = found or call.caller.selected_project_id
    if found is not None:
        return found
    # Looking which project there is takes no permission of its own.
    looking = msgspec.structs.replace(call.caller, grants=ALL)
    listing = await call.services.directory.list_projects(looking, sight, Page(limit=2))
    if len(listing.items) != 1:
        raise Invalid("env_id", "is required, because there is not exactly one environment")
    return listing.items[0].id


def renamed(error: Invalid) -> Invalid:
    """The field by the name that this dialect has for it."""
    (problem,) = error.problems
    names = {"type": "channel_type", "project": "env_id", "settings": "config"}
    return Invalid(names.get(problem.field, problem.field), problem.message)

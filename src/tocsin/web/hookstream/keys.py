"""API keys: bearer credentials of one environment."""

from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from tocsin.domain.errors import Invalid
from tocsin.domain.ids import strip_prefix
from tocsin.domain.model import Key
from tocsin.domain.text import iso
from tocsin.service.sight import Sight
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.hookstream.listing import PAGING, cursor_of, page_of
from tocsin.web.hookstream.place import (
    ENVIRONMENT,
    ORGANIZATION,
    environment,
    named_environment,
    organization_sight,
    renamed,
)
from tocsin.web.hookstream.replies import READS, WRITES, SuccessReply

PATH = "/auth/api-keys"


class ApiKeyIn(Struct):
    """A new key; other keys are ignored."""

    name: str
    scopes: str | None = None
    env_id: str | None = None
    org_id: str | None = None


class ApiKeyMade(Struct):
    """A key in the only reply that shows it."""

    id: str
    name: str
    key: str
    key_prefix: str
    scopes: str | None
    created_at: str


class ApiKeyOut(Struct):
    """A key without its secret part; `revoked` is 0 or 1."""

    id: str
    name: str
    key_prefix: str
    scopes: str | None
    request_count: int
    revoked: int
    created_at: str
    last_used_at: str | None


class ApiKeysReply(Struct):
    """A page of keys, newest first."""

    api_keys: list[ApiKeyOut]
    cursor: str | None
    has_more: bool


def _shown(key: Key) -> ApiKeyOut:
    return ApiKeyOut(
        id=key.id,
        name=key.name,
        key_prefix=key.token_prefix,
        scopes=key.scopes,
        request_count=key.request_count,
        revoked=int(key.revoked_at is not None),
        created_at=iso(key.created_at),
        last_used_at=None if key.last_used_at is None else iso(key.last_used_at),
    )


@post(
    PATH,
    opt={"operation": "key.create"},
    responses=WRITES,
    operation_class=spec.takes(ENVIRONMENT, ORGANIZATION),
)
async def create_key(request: Call, data: JSONBody[ApiKeyIn]) -> ApiKeyMade:
    """Create a key of an environment; this reply is the only one that shows it."""
    sight = await organization_sight(request, data.org_id)
    env_id = await environment(request, sight, data.env_id)
    try:
        made, token = await request.services.keys.create(
            request.caller,
            sight,
            name=data.name,
            project=env_id,
            style="hookstream",
            scopes=data.scopes,
        )
    except Invalid as error:
        raise renamed(error) from None
    return ApiKeyMade(
        id=made.id,
        name=made.name,
        key=token,
        key_prefix=made.token_prefix,
        scopes=made.scopes,
        created_at=iso(made.created_at),
    )


@get(
    PATH,
    opt={"operation": "key.list"},
    responses=READS,
    operation_class=spec.takes(*PAGING, ENVIRONMENT, ORGANIZATION),
)
async def list_keys(request: Call) -> ApiKeysReply:
    """The keys of an environment, or all in sight; revoked ones, too."""
    sight = await organization_sight(request)
    env_id = await named_environment(request, sight)
    narrow = Sight(sight.organization_id, env_id)
    page = page_of(request, sight, "keys")
    listing = await request.services.keys.list(request.caller, narrow, page, revoked=True)
    cursor = cursor_of(request, sight, "keys", listing)
    return ApiKeysReply([_shown(key) for key in listing.items], cursor, cursor is not None)


@delete(PATH + "/{id:str}", opt={"operation": "key.delete"}, status_code=200, responses=READS)
async def delete_key(request: Call, id: FromPath[str]) -> SuccessReply:
    """Revoke a key, at once."""
    id = strip_prefix(id)
    keys = request.services.keys
    await keys.delete(request.caller, await keys.sight_of(request.caller, id), id)
    return SuccessReply()


HANDLERS = (create_key, list_keys, delete_key)

STRUCTS = (ApiKeyIn, ApiKeyMade, ApiKeysReply)

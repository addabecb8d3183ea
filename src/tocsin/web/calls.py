"""One call on its way through the framework: strict bodies, and the checks before them.

The order, the same in every dialect: route, credential, request rate, existence within sight,
permission, content-encoding, size, body. The framework routes; the guards below do what comes
before the body; `Call.body` and `Call.json` do the rest.
"""

from typing import Any, NamedTuple, cast

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

from tocsin.domain.errors import Forbidden, Malformed, UnsupportedEncoding
from tocsin.domain.people import Visitor
from tocsin.domain.permissions import Caller
from tocsin.service.sight import Sight
from tocsin.web import codec, cookies
from tocsin.web.auth import Gate
from tocsin.web.cursors import Cursors
from tocsin.web.dialects import Dialect
from tocsin.web.query import Query
from tocsin.web.replies import read_body
from tocsin.web.services import Services

BODY_BYTES_MAX = 1_048_576


class Edge(NamedTuple):
    """What every call of this process shares."""

    services: Services
    gate: Gate
    cursors: Cursors


class Call(Request[Any, Any, State]):
    """A request that has been let in: who calls, what they may see, and a body read strictly."""

    caller: Caller
    sight: Sight

    @property
    def edge(self) -> Edge:
        """What every call shares."""
        return cast(Edge, self.app.state["edge"])

    @property
    def services(self) -> Services:
        """The use cases."""
        return self.edge.services

    def visitor(self) -> Visitor:
        """Where the person comes from."""
        scope: Any = self.scope
        return self.edge.gate.visitor(scope)

    def sign_in(self, token: str) -> None:
        """Have the reply put this session into the browser."""
        scope: Any = self.scope
        secure = self.edge.gate.origins.secure(scope)
        scope["tocsin.cookies"] = cookies.given(token, secure=secure)

    def sign_out(self) -> None:
        """Have the reply take the session out of the browser."""
        scope: Any = self.scope
        scope["tocsin.cookies"] = cookies.taken(secure=self.edge.gate.origins.secure(scope))

    def parameters(self) -> Query:
        """The query string."""
        return Query(self.scope["query_string"])

    async def body(self) -> bytes:
        """The body, within its limit; raises Malformed for an empty one."""
        scope: Any = self.scope
        for name, value in scope["headers"]:
            if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise UnsupportedEncoding()
        if "tocsin.body" not in scope:
            receive: Any = self.receive
            scope["tocsin.body"] = await read_body(scope, receive, BODY_BYTES_MAX)
        body: bytes = scope["tocsin.body"]
        if not body:
            raise Malformed("The body is empty; JSON is expected.")
        return body

    async def json(self) -> Any:
        """The body as the type that the handler declares."""
        field = self.route_handler.parsed_data_field
        assert field is not None
        return codec.decode(await self.body(), field.annotation)


async def native_guard(connection: ASGIConnection[Any, Any, Any, Any], h: BaseRouteHandler) -> None:
    """Let a native call in.

    `opt` of its handler: `operation`, the one permission; `operator`, only with the operator
    token; `whole`, a write at organization level; `target`, the `{id}` is a channel or a member;
    `person`, only for people who have signed in; `open`, for everybody. Where no body is read the
    use case itself checks existence and permission, in this order.
    """
    call = cast(Call, connection)
    edge = call.edge
    scope: Any = call.scope
    if h.opt.get("open"):
        call.caller = edge.gate.admit_stranger(scope, Dialect.NATIVE)
        if "token" in call.path_params and takes_body(h):
            await edge.services.links.show(call.path_params["token"])
        return
    caller = call.caller = await edge.gate.admit(scope, Dialect.NATIVE)
    organization = call.path_params.get("org")
    if organization is not None:
        call.sight = await edge.gate.sight(caller, organization)
    if h.opt.get("operator") and caller.kind != "operator":
        raise Forbidden("This call needs the operator token.")
    if h.opt.get("person"):
        if caller.kind != "session":
            raise Forbidden("This call is for people who have signed in.")
        return
    if h.opt.get("whole") and caller.project_id is not None:
        raise Forbidden()
    if takes_body(h):
        await _before_body(call, h)


def takes_body(handler: BaseRouteHandler) -> bool:
    """Whether the handler declares a body."""
    return handler.parsed_data_field is not None


async def _before_body(call: Call, h: BaseRouteHandler) -> None:
    operation: str = h.opt["operation"]
    parts, services = call.path_params, call.services
    if "project" in parts:
        await services.directory.sight(call.caller, parts["org"], parts["project"])
    if h.opt.get("target") == "channel":
        await services.channels.get(call.caller, call.sight, parts["id"], operation=operation)
    if h.opt.get("target") == "member":
        await services.members.look(call.sight, parts["id"])
    require(call.caller, operation)


def require(caller: Caller, operation: str) -> None:
    """Raise Forbidden unless a grant covers the operation."""
    if not caller.may(operation):
        raise Forbidden()

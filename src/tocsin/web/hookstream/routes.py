"""The calls of the hookstream dialect, and how they are let in."""

from typing import Any, cast

from litestar import Router
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tocsin.domain.errors import Forbidden
from tocsin.web.calls import Call, require, takes_body
from tocsin.web.dialects import Dialect
from tocsin.web.hookstream import alert_rules, channels, environments, issues, keys
from tocsin.web.hookstream.errors import HookstreamError
from tocsin.web.hookstream.replies import SuccessReply


async def guard(connection: ASGIConnection[Any, Any, Any, Any], h: BaseRouteHandler) -> None:
    """Let a call in: credential and request rate; existence and permission before a body.

    `opt` of its handler: `operation`, the one permission; `whole`, a write at organization level;
    `existing`, what finds the `{id}` and sets the call's sight. Where no body is read the use case
    itself checks existence and permission.
    """
    call = cast(Call, connection)
    scope: Any = call.scope
    call.caller = await call.edge.gate.admit(scope, Dialect.HOOKSTREAM)
    if h.opt.get("whole") and call.caller.project_id is not None:
        raise Forbidden()
    if takes_body(h):
        operation: str = h.opt["operation"]
        if "existing" in h.opt:
            await h.opt["existing"](call, operation)
        require(call.caller, operation)


ROUTER = Router(
    "/v1",
    route_handlers=[
        *channels.HANDLERS,
        *alert_rules.HANDLERS,
        *issues.HANDLERS,
        *keys.HANDLERS,
        *environments.HANDLERS,
    ],
    guards=[guard],
    tags=["hookstream"],
)

STRUCTS = (
    HookstreamError,
    SuccessReply,
    *channels.STRUCTS,
    *alert_rules.STRUCTS,
    *issues.STRUCTS,
    *keys.STRUCTS,
    *environments.STRUCTS,
)

"""Which dialect a path belongs to, and how that dialect refuses."""

import logging
from enum import StrEnum

from tocsin.domain.errors import TocsinError
from tocsin.domain.text import visible
from tocsin.web.applivery import errors as applivery
from tocsin.web.hookstream import errors as hookstream
from tocsin.web.native import problems as native
from tocsin.web.replies import Refusal, Scope

LOG = logging.getLogger("tocsin.web")


class Dialect(StrEnum):
    """The three ways to speak with Tocsin."""

    NATIVE = "native"
    APPLIVERY = "applivery"
    HOOKSTREAM = "hookstream"


def dialect_of(path: str) -> Dialect:
    """Applivery has `/v1/organizations`, hookstream the rest of `/v1`, all else is native."""
    if not path.startswith("/v1") and not path.startswith("//"):
        return Dialect.NATIVE
    parts = [part for part in path.split("/") if part]
    if not parts or parts[0] != "v1":
        return Dialect.NATIVE
    if len(parts) > 1 and parts[1] == "organizations":
        return Dialect.APPLIVERY
    return Dialect.HOOKSTREAM


def refuse(scope: Scope, error: Exception) -> Refusal:
    """The reply to a request that failed, in the shape of its path; the unexpected is logged."""
    if not isinstance(error, TocsinError) or error.code == "internal":
        LOG.error(
            "%s %s failed", scope["method"], visible(scope.get("tocsin.path", "")), exc_info=error
        )
        error = TocsinError()
    match scope["tocsin.dialect"]:
        case Dialect.APPLIVERY:
            return applivery.refuse(error)
        case Dialect.HOOKSTREAM:
            return hookstream.refuse(error, scope["tocsin.request_id"])
    return native.refuse(error)

"""What the calls of this dialect share: how they refuse, and how they say that it is done."""

from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from tocsin.web import spec
from tocsin.web.hookstream.errors import HookstreamError


class SuccessReply(Struct):
    """It is done."""

    success: bool = True


def _errors(*statuses: int) -> dict[int, ResponseSpec]:
    return spec.errors(HookstreamError, "application/json", *statuses)


READS = _errors(400, 401, 403, 404, 429, 503)
WRITES = _errors(400, 401, 403, 404, 409, 413, 415, 429, 503)

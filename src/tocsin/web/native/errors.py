"""Which error replies the native calls declare."""

from litestar.openapi.datastructures import ResponseSpec

from tocsin.web import spec
from tocsin.web.native.problems import CONTENT_TYPE, Problem

READS = (400, 401, 403, 404, 429, 503)
WRITES = (*READS, 409, 413, 415)


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Problem replies by status."""
    return spec.errors(Problem, CONTENT_TYPE.decode(), *statuses)

"""The rotation of the master key, for the operator."""

from litestar import get, post
from msgspec import Struct

from tocsin.domain.text import iso
from tocsin.service.master_key import Rotation
from tocsin.web.calls import Call
from tocsin.web.native.errors import READS, problems


class RotationOut(Struct, kw_only=True):
    """A rotation of the master key, running or over."""

    fingerprint: str
    status: str
    done: int
    total: int
    resealed: int
    unreadable: int
    started_at: str
    finished_at: str | None
    error: str | None


class LatestRotationOut(Struct):
    """The rotation that was begun last."""

    latest: RotationOut | None


@post(
    "/master-key/rotate",
    opt={"operation": "master_key.rotate", "operator": True},
    status_code=202,
    responses=problems(*READS, 409),
)
async def rotate_master_key(request: Call) -> RotationOut:
    """Begin to seal everything under the first master key; needs the operator token."""
    return _shown(await request.services.master_key.start(request.caller))


@get(
    "/master-key/rotate",
    opt={"operation": "master_key.get", "operator": True},
    responses=problems(*READS),
)
async def get_rotation(request: Call) -> LatestRotationOut:
    """The latest rotation since this server started; needs the operator token."""
    found = request.services.master_key.latest(request.caller)
    return LatestRotationOut(None if found is None else _shown(found))


def _shown(one: Rotation) -> RotationOut:
    return RotationOut(
        fingerprint=one.fingerprint,
        status=one.status,
        done=one.done,
        total=one.total,
        resealed=one.resealed,
        unreadable=one.unreadable,
        started_at=iso(one.started_at),
        finished_at=None if one.finished_at is None else iso(one.finished_at),
        error=one.error,
    )


HANDLERS = (rotate_master_key, get_rotation)

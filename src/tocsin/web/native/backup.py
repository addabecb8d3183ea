"""A backup of everything, for the operator: it stays on the server's own machine."""

from litestar import get, post
from msgspec import Struct

from tocsin.domain.text import iso
from tocsin.service.backup import Backup
from tocsin.web.calls import Call
from tocsin.web.native.errors import READS, problems


class BackupOut(Struct, kw_only=True):
    """A copy of the database, being made or over, in the folder `backups` beside the database."""

    name: str
    status: str
    bytes_done: int
    bytes_total: int
    started_at: str
    finished_at: str | None
    error: str | None


class LatestBackupOut(Struct):
    """The backup that was begun last."""

    latest: BackupOut | None


@post(
    "/backup",
    opt={"operation": "backup.create", "operator": True},
    status_code=202,
    responses=problems(*READS, 409),
)
async def start_backup(request: Call) -> BackupOut:
    """Begin a backup of the database; needs the operator token. One at a time."""
    return _shown(await request.services.backups.start(request.caller))


@get(
    "/backup",
    opt={"operation": "backup.get", "operator": True},
    responses=problems(*READS),
)
async def get_backup(request: Call) -> LatestBackupOut:
    """The latest backup since this server started; needs the operator token."""
    found = request.services.backups.latest(request.caller)
    return LatestBackupOut(None if found is None else _shown(found))


def _shown(one: Backup) -> BackupOut:
    return BackupOut(
        name=one.name,
        status=one.status,
        bytes_done=one.bytes_done,
        bytes_total=one.bytes_total,
        started_at=iso(one.started_at),
        finished_at=None if one.finished_at is None else iso(one.finished_at),
        error=one.error,
    )


HANDLERS = (start_backup, get_backup)

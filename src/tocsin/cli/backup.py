"""`tocsin backup`: a consistent copy of the database, while the server runs or not."""

import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.client import Api
from tocsin.cli.errors import CommandFailed
from tocsin.cli.operator import operator_api
from tocsin.cli.progress import bytes_bar
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.cli.starting import start_errors
from tocsin.config import Settings

CALL = "/api/v1/backup"
LOOK_SECONDS = 0.2
WHOLE_CHECK_BYTES_MAX = 1 << 30
NAME = re.compile(r"tocsin-[0-9TZ.]+\.db", re.ASCII)
PRIVATE = 0o600

PG_DUMP = """the database is PostgreSQL, which has its own tool for this:
    pg_dump --format=custom --file=tocsin.dump "$TOCSIN_STORE"
back: pg_restore --dbname="$TOCSIN_STORE" tocsin.dump, into an empty database"""

Told = Callable[[int, int], None]


def backup(
    dest: Path,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
    flags: Flags = NO_FLAGS,
) -> None:
    """Copy the whole database into one file, while the server runs or not.

    A running server makes the copy itself, in steps, and goes on with
    everything else. All it had accepted when the backup began is in it. The
    copy is checked, and has mode 0600.

    It never holds the master key: keep that too, elsewhere, or nobody can
    use what is sealed in it. docs/operating.md says how to restore.

    For example:

        tocsin backup /backups/
        tocsin backup tocsin.db --data-dir /var/lib/tocsin

    Parameters
    ----------
    dest
        A new file, or a directory for one that is named by the time.
    """
    settings = settings_of(flags)
    if settings.postgres:
        raise CommandFailed(PG_DUMP, "docs/operating.md says more")
    target = _target(dest)
    began = time.monotonic()
    with start_errors():
        try:
            _copy(settings, target, quiet=json)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise CommandFailed(f"can't copy: {error.strerror or error}{where}") from None
    size = target.stat().st_size
    quick = size > WHOLE_CHECK_BYTES_MAX
    _check(target, quick=quick)
    answer: dict[str, Any] = {
        "backup": str(target),
        "bytes": size,
        "check": "quick_check" if quick else "integrity_check",
        "seconds": round(time.monotonic() - began, 3),
        "keep_too": _keep_too(settings),
    }
    output.done(f"{target}: {size / 1e6:,.1f} MB, checked", answer, json=json)
    if not json:
        output.print_hint(f"it is of no use without the master key: keep {answer['keep_too']} too")


def _target(dest: Path) -> Path:
    if dest.is_dir():
        dest = dest / f"tocsin-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.db"
    if dest.exists() or dest.is_symlink():
        raise CommandFailed(f"{dest} is there already", "name a new file, or a directory")
    if not dest.parent.is_dir():
        raise CommandFailed(f"there is no directory {dest.parent}", "make it first")
    return dest.absolute()


def _keep_too(settings: Settings) -> str:
    if settings.master_key is not None:
        return "TOCSIN_MASTER_KEY"
    return str((settings.data_dir / "master-key").absolute())


def _copy(settings: Settings, target: Path, *, quiet: bool) -> None:
    # Imported only here: the help of this command needs none of it.
    from tocsin.storage import files

    if not settings.sqlite_path.is_file():
        raise CommandFailed(
            f"there is no database {settings.sqlite_path}", "name its place with --data-dir"
        )
    part = target.with_name(target.name + ".part")
    with bytes_bar("copying", quiet=quiet) as told:
        try:
            _make(part)
            try:
                files.copy(settings.sqlite_path, part, told)
            except files.StoreInUse:
                _fetch(operator_api(settings), settings.sqlite_path.parent / "backups", part, told)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def _make(path: Path) -> None:
    """An empty file that only its owner reads, whatever the umask."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE)
    os.fchmod(descriptor, PRIVATE)
    os.close(descriptor)


def _fetch(api: Api, folder: Path, part: Path, told: Told) -> None:
    """Have the server make a copy, and take it from the server's folder to where it is wanted."""
    state = api.call("POST", CALL)
    name = str(state["name"])
    # The name comes from a server: it may lead nowhere else.
    if NAME.fullmatch(name) is None:
        raise CommandFailed(f"{api.url} answered with a name that no backup has")
    while state["status"] == "running":
        told(state["bytes_done"], state["bytes_total"])
        time.sleep(LOOK_SECONDS)
        state = api.call("GET", CALL)["latest"] or {"name": "", "status": "failed"}
        if state["name"] != name:
            raise CommandFailed("the server has begun anew meanwhile", "repeat the backup")
    if state["status"] != "done":
        raise CommandFailed(f"the server could not make the backup: {state['error']}")
    told(state["bytes_done"], state["bytes_total"])
    _take(folder / name, part)


def _take(made: Path, part: Path) -> None:
    try:
        os.replace(made, part)
    except OSError:
        # Another file system: it is copied, and synced before the first one goes.
        with made.open("rb") as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        made.unlink()


def _check(path: Path, *, quick: bool) -> None:
    from tocsin.storage import files

    found = files.damage(path, quick=quick)
    if found:
        raise CommandFailed(
            f"the copy {path} is damaged, and so is the database: {found[0]}",
            "keep the backups you have, and look at the disk and the kernel's log",
        )

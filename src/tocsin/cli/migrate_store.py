"""`tocsin migrate-store`: move everything from a SQLite file to PostgreSQL."""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.errors import CommandFailed, Misused
from tocsin.cli.progress import steps_bar
from tocsin.cli.settings import load_settings
from tocsin.cli.starting import start_errors
from tocsin.config import store_shown

if TYPE_CHECKING:
    from tocsin.storage.moving import Moved, Place

JOURNAL = "sending.journal"


def migrate_store(
    source: str,
    target: str | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> None:
    """Move everything from a SQLite file to a PostgreSQL database.

    Stop the server first. Everything is copied: organizations with their
    keys and channels, events, deliveries that still wait, the log. Then both
    are read again, and counts and checksums of every table compared. The
    file stays as it is; do not serve from it again once you serve from
    PostgreSQL.

    However it ends – run it again, and it goes on where it was. Until it has
    ended well no server starts on the new database.

    For example:

        tocsin migrate-store sqlite:///data/tocsin.db postgresql://tocsin@db.internal/tocsin
        TOCSIN_STORE_FILE=address tocsin migrate-store sqlite:///data/tocsin.db

    Others can see what is typed: an address with a password in it is better
    given as TOCSIN_STORE or TOCSIN_STORE_FILE.

    Parameters
    ----------
    source
        The file to move, as sqlite:/// and its path.
    target
        An empty PostgreSQL database. Without one it is that of TOCSIN_STORE.
    """
    began = time.monotonic()
    path, place = _places(source, target)
    # Imported only here: the help of this command needs none of it.
    from tocsin.clock import Clock
    from tocsin.engine.journal import SendJournal
    from tocsin.storage.moving import move

    with start_errors(), SendJournal(path.with_name(JOURNAL), 1) as journal, ExitStack() as stack:
        moving = move(
            path, place, clock=Clock(), began=journal.began, told=_bars(stack, quiet=json)
        )
        try:
            moved = asyncio.run(moving)
        except OSError as error:
            raise CommandFailed(f"can't move it: {error}") from None
    _say(moved, path, place, time.monotonic() - began, json=json)


def _places(source: str, target: str | None) -> tuple[Path, "Place"]:
    from tocsin.storage.moving import Place

    # First: reading the settings removes TOCSIN_STORE from the environment.
    into = load_settings({} if target is None else {"store": target})
    if not into.postgres:
        raise Misused(
            "there is no PostgreSQL database to move to",
            "name it after the file, or in TOCSIN_STORE: postgresql://user@host/database",
        )
    from_file = load_settings({"store": source})
    if from_file.postgres:
        raise Misused("only a SQLite file can be moved", "name it as sqlite:/// and its path")
    path = from_file.sqlite_path.absolute()
    if not path.is_file():
        raise CommandFailed(f"there is no database {path}", "name it as sqlite:/// and its path")
    return path, Place(into.store, store_shown(into), into.postgres_prepared)


def _bars(stack: ExitStack, *, quiet: bool) -> Callable[[str, int, int], None]:
    """A bar for copying, then one for comparing."""
    bars: dict[str, Callable[[int, int | None], None]] = {}

    def told(what: str, done: int, total: int) -> None:
        if what not in bars:
            stack.close()
            bars[what] = stack.enter_context(steps_bar(what, quiet=quiet))
        bars[what](done, total)

    return told


def _say(moved: "Moved", path: Path, place: "Place", seconds: float, *, json: bool) -> None:
    tables: dict[str, Any] = {
        name: {"rows": rows, "checksum": checksum}
        for name, (rows, checksum) in moved.tables.items()
    }
    answer: dict[str, Any] = {
        "source": str(path),
        "target": place.shown,
        "rows": moved.rows,
        "tables": tables,
        "resumed": moved.resumed,
        "moved_before": moved.before,
        "storage_clock_ahead_ms": moved.ahead_ms,
        "seconds": round(seconds, 3),
    }
    if moved.before:
        sentence = f"{place.shown} has everything of {path} since an earlier run"
    else:
        sentence = f"{place.shown} has everything of {path}: {moved.rows:,} rows, compared"
    output.done(sentence, answer, json=json)
    if not json:
        output.print_hint(
            "serve it with the same master key and operator token, and put the file away: "
            "docs/growing.md"
        )

"""The database: its library, its schema, the keys it needs, and the times it holds."""

from collections.abc import Iterator
from pathlib import Path

from tocsin.cli.address import address
from tocsin.cli.doctor.findings import Finding
from tocsin.clock import Clock
from tocsin.config import Settings, master_keys

AHEAD_MS_MAX = 60_000


def examine(given: Settings) -> Iterator[Finding]:
    """Looks into the SQLite file; PostgreSQL is asked by the server alone."""
    if given.postgres:
        yield Finding("good", "the data is in PostgreSQL: the server says whether it answers")
        return
    # Imported only here: where there is no data directory yet none of it is needed.
    from tocsin.storage import files
    from tocsin.storage.tables import SCHEMA_VERSION

    version, new_enough = files.sqlite_version()
    if new_enough:
        yield Finding("good", f"SQLite {version}")
    else:
        hint = "install a Python that is linked with a newer SQLite"
        yield Finding("bad", f"SQLite {version} is too old: 3.35 is needed", hint)
    path = given.sqlite_path
    if not path.exists():
        yield Finding("note", f"there is no database {path} yet", "`tocsin serve` makes it")
        return
    served = _served(given.data_dir)
    try:
        found = files.look(path, served=served)
    except OSError as error:
        hint = "restore a backup (docs/operating.md), or run this as the user that runs the server"
        yield Finding("bad", str(error), hint)
        return
    if found.schema is None and not served and _pending(path):
        yield Finding(
            "note",
            "the server has ended suddenly: what is in the log beside the database is not seen yet",
            "`tocsin serve` takes it in at its start",
        )
        return
    yield from _schema(found.schema, SCHEMA_VERSION)
    if any(found.purged.values()):
        rows = ", ".join(f"{count:,} {table}" for table, count in found.purged.items())
        yield Finding("good", f"retention and erasure have removed {rows} so far")
    yield from _keys(given, found.fingerprints)
    yield from _times(found.latest_ms)


def _served(folder: Path) -> bool:
    try:
        return address(folder) is not None
    except OSError:
        return False


def _pending(path: Path) -> bool:
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def _schema(found: int | None, known: int) -> Iterator[Finding]:
    if found is not None and found > known:
        yield Finding(
            "bad",
            f"the database has schema {found}, made by a newer Tocsin; this one knows schemas up "
            f"to {known}",
            "start the newer release, or restore a backup made before it",
        )
    elif found != known:
        has = "no schema" if found is None else f"schema {found}"
        hint = "`tocsin serve` or `tocsin migrate` makes it; back up before"
        yield Finding("note", f"the database has {has} yet, {known} is needed", hint)
    else:
        yield Finding("good", f"the database has schema {found}, which is this release's")


def _keys(given: Settings, needed: list[str]) -> Iterator[Finding]:
    from tocsin.crypto.sealing import BadMasterKey, fingerprint, parse_master_keys

    place = given.data_dir / "master-key"
    try:
        text = master_keys(given) or (place.read_text() if place.exists() else None)
    except OSError as error:
        hint = "run this as the user that runs the server"
        yield Finding("bad", f"can't read {place}: {error.strerror}", hint)
        return
    if text is None:
        if needed:
            hint = "put the file back from where you keep it, or set TOCSIN_MASTER_KEY"
            yield Finding("bad", f"{place} is missing, and secrets are sealed under it", hint)
        return
    try:
        had = [fingerprint(key) for key in parse_master_keys(text)]
    except BadMasterKey as error:
        yield Finding("bad", f"TOCSIN_MASTER_KEY: {error}", "put the right key back")
        return
    missing = [one for one in needed if one not in had]
    if missing:
        yield Finding(
            "bad",
            "the master key does not fit: the database needs the one with fingerprint "
            f"{missing[0]}",
            "give that key, too: several are separated by commas (TOCSIN_MASTER_KEY=new,old)",
        )
    else:
        yield Finding("good", f"the master key fits (fingerprint {had[0]})")


def _times(latest_ms: int) -> Iterator[Finding]:
    ahead_ms = latest_ms - Clock().wall_ms()
    if ahead_ms > AHEAD_MS_MAX:
        yield Finding(
            "bad",
            f"the clock is {ahead_ms // 1000:,} s behind what the database holds: it was put back, "
            "or was wrong before",
            "set the clock right; ids and due times go on from the latest stored moment meanwhile",
        )

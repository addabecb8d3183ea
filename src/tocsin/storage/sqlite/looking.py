"""A look into a database file by somebody who must change nothing, not even its log."""

import sqlite3
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from msgspec import Struct

from tocsin.domain.ids import id_time_ms
from tocsin.storage.control import master_keys, retention, schema
from tocsin.storage.sqlite.writer import core_engine
from tocsin.storage.tables import SCHEMA_VERSION

VERSION_MIN = (3, 35, 0)
"""The first SQLite with RETURNING."""

_STAMPED = ("events", "deliveries", "audit", "channels", "organizations")


class Look(Struct, frozen=True, kw_only=True):
    """What stands in a file: its schema's number, the master keys it needs (by fingerprint), and
    the latest time in its ids (wall ms, 0 for none), and how many rows of each table of the log
    were removed. Of a newer schema nothing but the number."""

    schema: int | None
    fingerprints: list[str]
    latest_ms: int
    purged: dict[str, int]


def sqlite_version() -> tuple[str, bool]:
    """The version of the SQLite library here, and whether it is new enough."""
    return sqlite3.sqlite_version, sqlite3.sqlite_version_info >= VERSION_MIN


def look(path: Path, *, served: bool) -> Look:
    """Look into the file; raises OSError when it can't be read.

    `served`: a server has it open. Without one the log beside the file is not read, since that
    would write to both; so what an unclean end has left there is not seen.
    """
    how = "mode=rw" if served else "immutable=1"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?{how}", uri=True)
        try:
            connection.execute("PRAGMA query_only = ON")
            return _look(connection)
        finally:
            connection.close()
    except (sqlite3.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise OSError(f"{path} can't be read: {cause}") from error


def _look(connection: sqlite3.Connection) -> Look:
    with core_engine(lambda: connection).connect() as core:
        number = schema.version(core)
        if number is None or number > SCHEMA_VERSION:
            return Look(schema=number, fingerprints=[], latest_ms=0, purged={})
        known = master_keys.fingerprints(core)
        purged = retention.purged(core)
    latest_ms = 0
    for table in _STAMPED:
        last = connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0]
        latest_ms = max(latest_ms, id_time_ms(last) if last else 0)
    return Look(schema=number, fingerprints=known, latest_ms=latest_ms, purged=purged)

"""Bringing a database to today's schema, in one transaction; nothing else imports Alembic.

A version is a file in `versions/`. It creates or alters with `op` and ends with `set_version`, so
that start can compare one number without Alembic.
"""

import io
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from tocsin.storage.control import schema
from tocsin.storage.tables import SCHEMA_VERSION

HERE = Path(__file__).parent

ADVISORY_LOCK = 7201

# Alembic keeps its context in globals of the process: two upgrades at once would deadlock.
_one_at_a_time = threading.Lock()


def config(connection: Connection) -> Config:
    """Alembic's configuration for this connection; no file, nothing printed."""
    made = Config(stdout=io.StringIO())
    made.set_main_option("script_location", str(HERE).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


def migrate(connection: Connection) -> None:
    """Migrate to today's schema inside the transaction of the caller, who commits.

    On SQLite that transaction must have been begun by hand (`BEGIN IMMEDIATE`). Several nodes
    take turns. Raises SchemaNewer, and changes nothing, when a newer release was here.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
    if schema.refuse_newer(connection) == SCHEMA_VERSION:
        return
    with _one_at_a_time:
        command.upgrade(config(connection), "head")
    schema.check(connection)

"""Which schema the database has: one number in `meta`, compared at start, without Alembic."""

import sqlalchemy as sa
from sqlalchemy import Connection

from tocsin.storage.tables import SCHEMA_VERSION, meta

KEY = "schema_version"
MOVING = "moving"
"""Stands in a database while it is being filled from another one, and is not whole."""


class SchemaMismatch(Exception):
    """The database's schema is not the one this program works with."""


class SchemaNewer(SchemaMismatch):
    """A newer release has migrated this database."""


class SchemaOlder(SchemaMismatch):
    """This database has yet to be migrated."""


class StoreUnfinished(SchemaMismatch):
    """This database is being filled from another one, and is not whole."""


def version(connection: Connection) -> int | None:
    """The schema's number, None in an empty database."""
    if not sa.inspect(connection).has_table(meta.name):
        return None
    value = connection.scalar(sa.select(meta.c.value).where(meta.c.key == KEY))
    return None if value is None else int(value)


def set_version(connection: Connection, number: int) -> None:
    """Note the schema's number; in the transaction of the migration itself."""
    connection.execute(sa.delete(meta).where(meta.c.key == KEY))
    connection.execute(sa.insert(meta).values(key=KEY, value=str(number)))


def refuse_newer(connection: Connection) -> int | None:
    """The schema's number; raises SchemaNewer when this program is too old for it."""
    found = version(connection)
    if found is not None and found > SCHEMA_VERSION:
        raise SchemaNewer(
            f"This database has schema {found}, made by a newer Tocsin; this one knows schemas up "
            f"to {SCHEMA_VERSION}. Start the newer release, or restore a backup made before it."
        )
    return found


def refuse_unfinished(connection: Connection) -> None:
    """Raise StoreUnfinished where a move to this database has begun and not ended."""
    if version(connection) is None:
        return
    if connection.scalar(sa.select(meta.c.key).where(meta.c.key == MOVING)) is not None:
        raise StoreUnfinished(
            "This database is not whole: `tocsin migrate-store` has begun to fill it and has not "
            "ended. Run it again with the same two stores; it goes on where it was."
        )


def check(connection: Connection) -> None:
    """Raise SchemaMismatch unless the schema is exactly the one this program works with."""
    found = refuse_newer(connection)
    if found != SCHEMA_VERSION:
        has = "no schema yet" if found is None else f"schema {found}"
        raise SchemaOlder(
            f"This database has {has}, and {SCHEMA_VERSION} is needed: run `tocsin migrate`."
        )

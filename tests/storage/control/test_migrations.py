"""Migrations give exactly the schema of `tables.py`, whole or not at all."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.control.databases import Database

from tocsin.storage import tables
from tocsin.storage.control import schema
from tocsin.storage.migrations import migrate

pytestmark = pytest.mark.anyio


def catalogue(connection: Connection) -> dict[str, Any]:
    """Everything the database knows of its schema; autogenerate would miss half of it."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(
            sa.text("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'")
        )
        return {name: " ".join((sql or "").split()) for name, sql in rows}
    columns = connection.execute(
        sa.text(
            "SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),"
            " a.attnotnull, l.collname, pg_get_expr(d.adbin, d.adrelid), a.attnum"
            " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
            " JOIN pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_collation l ON l.oid = a.attcollation"
            " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND a.attnum > 0"
        )
    )
    indexes = connection.execute(
        sa.text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    )
    checks = connection.execute(
        sa.text(
            "SELECT conname, pg_get_constraintdef(c.oid) FROM pg_constraint c"
            " JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = 'public'"
        )
    )
    tables = connection.execute(
        sa.text(
            "SELECT relname || ' as a table', relkind, reloptions, pg_get_partkeydef(c.oid)"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind IN ('r', 'p')"
        )
    )
    sequences = connection.execute(
        sa.text("SELECT sequencename, min_value, max_value, increment_by, cycle FROM pg_sequences")
    )
    parts = (columns, indexes, checks, tables, sequences)
    found = {row[0]: tuple(row[1:]) for part in parts for row in part}
    return {name: row for name, row in found.items() if not name.startswith("alembic")}


async def test_migrating_gives_the_schema_of_the_metadata(empty: Database) -> None:
    await empty.run(migrate)
    migrated = await empty.run(catalogue)
    await empty.run(lambda c: c.execute(sa.text("DROP TABLE alembic_version")).close())
    await empty.run(tables.metadata.drop_all)
    assert await empty.run(catalogue) == {}
    await empty.run(tables.metadata.create_all)
    assert await empty.run(catalogue) == migrated


async def test_the_number_says_what_the_schema_is(empty: Database) -> None:
    assert await empty.run(schema.version) is None
    with pytest.raises(schema.SchemaOlder, match="tocsin migrate"):
        await empty.run(schema.check)
    await empty.run(migrate)
    assert await empty.run(schema.version) == tables.SCHEMA_VERSION
    await empty.run(schema.check)
    await empty.run(migrate)
    await empty.run(schema.check)


async def test_a_newer_database_is_refused(empty: Database) -> None:
    await empty.run(migrate)
    newer = tables.SCHEMA_VERSION + 1
    await empty.run(lambda c: schema.set_version(c, newer))
    for refuses in (migrate, schema.check):
        with pytest.raises(schema.SchemaNewer, match="newer"):
            await empty.run(refuses)
    assert await empty.run(schema.version) == newer


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    def half(connection: Connection) -> None:
        migrate(connection)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await empty.run(half)
    assert await empty.run(lambda c: sa.inspect(c).get_table_names()) == []
    await empty.run(migrate)
    await empty.run(schema.check)

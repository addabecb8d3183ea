"""What Alembic runs for every command; the connection is the caller's, inside a transaction."""

from typing import Literal

from alembic import context
from sqlalchemy.sql.schema import SchemaItem

from tocsin.storage.tables import metadata


def include_object(
    item: SchemaItem,
    name: str | None,
    kind: Literal[
        "schema",
        "table",
        "column",
        "index",
        "unique_constraint",
        "foreign_key_constraint",
        "check_constraint",
    ],
    reflected: bool,
    compare_to: SchemaItem | None,
) -> bool:
    """Leave out partitions: each would look like a table that has to go."""
    return not (kind == "table" and name is not None and "_p_" in name)


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    include_object=include_object,
    compare_server_default=True,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()

"""PostgreSQL: one database, any number of equal nodes."""

from tocsin.storage.postgres.nodes import Started
from tocsin.storage.postgres.session import StoreRefused
from tocsin.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore", "Started", "StoreRefused"]

"""Stores: one protocol (`base.py`), SQLite as the embedded default, PostgreSQL for many nodes.

Outside of this package a driver is reached only through here. All tables are known once it is
imported, `watch_tables` too.
"""

from tocsin.storage import watch_tables as watch_tables
from tocsin.storage.base import Store
from tocsin.storage.folder import StoreInUse
from tocsin.storage.opening import Signals, copying, open_store

__all__ = ["Signals", "Store", "StoreInUse", "copying", "open_store"]

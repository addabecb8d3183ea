"""Stores: one protocol (`base.py`), SQLite as the embedded default.

Outside of this package a driver is reached only through here.
"""

from tocsin.storage.sqlite import SqliteStore, StoreInUse

__all__ = ["SqliteStore", "StoreInUse"]

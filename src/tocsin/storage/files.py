"""A SQLite file as commands handle it: copied while no server runs, checked, looked into."""

import os
from pathlib import Path

from tocsin.storage.folder import StoreInUse, lock
from tocsin.storage.sqlite.backup import Told, copy_alone, damage
from tocsin.storage.sqlite.looking import Look, look, sqlite_version

__all__ = [
    "Look",
    "StoreInUse",
    "copy",
    "damage",
    "look",
    "sqlite_version",
]


def copy(source: Path, path: Path, told: Told) -> int:
    """Copy the database that nobody serves from into an empty file; returns its schema's number.

    Raises StoreInUse when somebody does, SchemaNewer, and OSError.
    """
    held = lock(source)
    try:
        return copy_alone(source, path, told)
    finally:
        os.close(held)

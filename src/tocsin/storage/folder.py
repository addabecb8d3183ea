"""One process to a place: a lock that lasts as long as the process, whatever ends it."""

import fcntl
import os
from pathlib import Path


class StoreInUse(Exception):
    """Another process serves from this place."""


def lock(path: Path) -> int:
    """Take the lock beside a path for as long as the descriptor lives; raises StoreInUse."""
    descriptor = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreInUse(f"another process serves from {path}") from None
    return descriptor

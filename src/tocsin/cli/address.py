"""Where the server of a data directory listens: a file, held by the server as long as it lives.

After a kill -9 the file is still there, and its port may be anybody's: what nobody holds counts
for nothing, so that the operator token is sent to no stranger.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

URL_FILE = "url"


@contextmanager
def announced(folder: Path, url: str) -> Iterator[None]:
    """Say the address, until left."""
    # Imported only here: commands that ask for the address need no cryptography.
    from tocsin.crypto.keyring import write_private

    path = folder / URL_FILE
    write_private(path, url)
    held = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


def address(folder: Path) -> str | None:
    """The address of the server that runs from a directory; None when none does.

    OSError when the file can't be read.
    """
    try:
        descriptor = os.open(folder / URL_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor) as file:
        text = file.read().strip()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return text or None  # held; or nobody can say, on a file system without locks
        return None

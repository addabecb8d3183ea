"""Key files: secrets that are made once, kept with mode 0600, and read at every start."""

import os
from collections.abc import Callable
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def private_folder(path: Path) -> None:
    """Make the folder if need be, and let nobody else in, whatever the umask."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    os.chmod(path, PRIVATE_FOLDER)


def read_secret(path: Path) -> str | None:
    """The secret in a file, or None when there is none; others lose the right to read it."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    os.chmod(path, PRIVATE_FILE)
    return text or None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; it is there whole or not at all."""
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, PRIVATE_FILE)
    try:
        os.fchmod(descriptor, PRIVATE_FILE)
        os.write(descriptor, text.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(draft, path)
    # The new name must outlive a power cut, too: what it opens may be sealed by then.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def keep_secret(path: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The secret in a file, made first if need be; the second value says that it was made."""
    found = read_secret(path)
    if found is not None:
        return found, False
    made = make()
    write_private(path, made)
    return made, True

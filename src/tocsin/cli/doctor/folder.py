"""The data directory: who may read it, its disk, and its clock."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile

from tocsin.cli.doctor.findings import Finding
from tocsin.clock import Clock
from tocsin.config import Settings

MEGABYTE = 1_000_000
FILES_LOOKED_AT_MAX = 10_000
SYNCS = 9
SYNC_MS_MAX = 30.0
SKEW_SECONDS_MAX = 2.0


def examine(given: Settings) -> Iterator[Finding]:
    """Looks at the files, and at a scratch file of its own."""
    yield from _modes(given)
    yield from _room(given)
    try:
        yield from _writing(given.sqlite_path.parent)
    except OSError as error:
        yield Finding(
            "bad",
            f"can't write in {given.sqlite_path.parent}: {error.strerror or error}",
            "run this as the user that runs the server, and let that user own the directory",
        )


def _modes(given: Settings) -> Iterator[Finding]:
    open_ones = [path for path in _private(given) if _mode(path) & 0o077]
    for path in open_ones:
        right = "700" if path.is_dir() else "600"
        yield Finding("bad", f"others may read {path}", f"chmod {right} {path}")
    foreign = [path for path in (given.data_dir, given.sqlite_path) if not _own(path)]
    for path in foreign:
        yield Finding(
            "note",
            f"{path} belongs to another user than the one who runs this",
            "run `tocsin doctor` as the user that runs the server",
        )
    if not open_ones:
        yield Finding("good", f"{given.data_dir} is private, and all in it")


def _private(given: Settings) -> list[Path]:
    """The directory of the data, that of the database, and what is in them."""
    found = [given.data_dir, *_within(given.data_dir)]
    home = given.sqlite_path.parent
    if home.is_dir() and home.resolve() != given.data_dir.resolve():
        found += [home, *home.glob(f"{given.sqlite_path.name}*")]
        found += [home / "sending.journal", home / "backups", *_within(home / "backups")]
    return [path for path in found if path.exists() and not path.is_symlink()]


def _within(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in folder.rglob("*"):
        found.append(path)
        if len(found) == FILES_LOOKED_AT_MAX:
            break
    return found


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _own(path: Path) -> bool:
    return not path.exists() or path.stat().st_uid == os.geteuid()


def _room(given: Settings) -> Iterator[Finding]:
    free_mb = shutil.disk_usage(given.sqlite_path.parent).free // MEGABYTE
    if free_mb > 2 * given.disk_reserve_mb:
        yield Finding("good", f"{free_mb:,} MB are free on the disk")
        return
    below = free_mb <= given.disk_reserve_mb
    yield Finding(
        "bad" if below else "note",
        f"only {free_mb:,} MB are free; publishing stops below {given.disk_reserve_mb} MB",
        "make room on the disk of the data directory",
    )


def _writing(folder: Path) -> Iterator[Finding]:
    """How long a sync takes, and whether the file system's clock is the machine's."""
    clock = Clock()
    took: list[float] = []
    wall_ms, began = clock.wall_ms(), clock.monotonic()
    with NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        for _ in range(SYNCS):
            file.write(b"\0" * 4096)
            file.flush()
            at = clock.monotonic()
            os.fsync(file.fileno())
            took.append((clock.monotonic() - at) * 1000)
        changed = os.fstat(file.fileno()).st_mtime
    passed_ms = clock.wall_ms() - wall_ms
    middle = median(took)
    if middle > SYNC_MS_MAX:
        yield Finding(
            "note",
            f"the disk takes {middle:,.1f} ms to sync (median of {SYNCS}): every commit waits for "
            "one",
            "use a faster disk; on a network file system locks may fail too",
        )
    else:
        yield Finding("good", f"the disk syncs in {middle:,.2f} ms (median of {SYNCS})")
    yield from _clock(
        jumped=passed_ms / 1000 - (clock.monotonic() - began),
        skew=changed - clock.wall_ms() / 1000,
    )


def _clock(*, jumped: float, skew: float) -> Iterator[Finding]:
    if abs(jumped) > SKEW_SECONDS_MAX:
        yield Finding(
            "bad",
            f"the clock has jumped by {jumped:+,.1f} s just now",
            "have one service set it, and slowly (chrony or systemd-timesyncd)",
        )
    elif abs(skew) > SKEW_SECONDS_MAX:
        yield Finding(
            "note",
            f"the clock of the file system differs by {skew:+,.1f} s from this machine's",
            "keep the data on a local disk, or have both machines use the same time service",
        )
    else:
        yield Finding("good", "the clock runs evenly, and the file system agrees with it")

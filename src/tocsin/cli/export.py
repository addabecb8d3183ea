"""`tocsin export-org`: everything of one organization, as the API shows it."""

import io
import json as json_module
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tocsin import __version__
from tocsin.cli import output
from tocsin.cli.client import Api, at
from tocsin.cli.errors import CommandFailed
from tocsin.cli.progress import count_bar
from tocsin.cli.server import SERVER, Server

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
ARCHIVES = (".tar.gz", ".tgz")
MANIFEST = "manifest.json"

# A page of events may hold 256 KiB for each.
LISTS: dict[str, int] = {
    "projects": 200,
    "members": 200,
    "keys": 200,
    "channels": 200,
    "events": 50,
    "deliveries": 200,
    "attempts": 50,
    "jobs": 200,
    "audit": 200,
}

Told = Callable[[str, int], None]


def export_org(org: str, dest: Path, /, *, on: Server = SERVER) -> None:
    """Copy everything of one organization into files of JSON lines.

    For a person's or a customer's request for their data. Secrets stay
    masked, and keys come without their tokens. What is published while it
    runs may be missing.

    To erase an organization: tocsin orgs delete ORG --yes

    For example:

        tocsin export-org acme acme.tar.gz
        tocsin export-org acme /srv/exports/acme

    Parameters
    ----------
    org
        The organization, by slug or id.
    dest
        A new file that ends with .tar.gz, or a new directory.
    """
    if dest.exists():
        raise CommandFailed(f"{dest} is there already", "name a new file or directory")
    if not dest.absolute().parent.is_dir():
        raise CommandFailed(f"there is no directory {dest.absolute().parent}", "make it first")
    api = on.api()
    organization = api.call("GET", at("organizations", org))
    with count_bar(quiet=on.json) as told:
        try:
            with _folder(dest) as folder:
                counts = _export(api, organization, folder, told)
        except OSError as error:
            raise CommandFailed(f"can't write {dest}: {error.strerror or error}") from None
    answer = {"export": str(dest.absolute()), "organization": organization["slug"], "rows": counts}
    said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    output.done(f"{dest}: {said}", answer, json=on.json)


def _export(api: Api, organization: Any, folder: Path, told: Told) -> dict[str, int]:
    began = datetime.now(UTC)
    with _new(folder / "organization.jsonl") as file:
        file.write(_line(organization))
    counts = {}
    for name, limit in LISTS.items():
        path = at("organizations", organization["id"], name)
        count = 0
        with _new(folder / f"{name}.jsonl") as file:
            for page in api.pages(path, {}, limit=limit):
                for row in page["data"]:
                    file.write(_line(row))
                count += len(page["data"])
                told(name, count)
        counts[name] = count
    manifest = {
        "organization": organization["id"],
        "exported_at": began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "tocsin": __version__,
        "rows": counts,
    }
    with _new(folder / MANIFEST) as file:
        file.write(json_module.dumps(manifest, indent=2) + "\n")
    return counts


@contextmanager
def _folder(dest: Path) -> Iterator[Path]:
    """Where the files are written; at the end it stands at `dest`, packed if that is an archive.

    `dest` appears whole or not at all.
    """
    with TemporaryDirectory(prefix=f".{dest.name}-", dir=dest.absolute().parent) as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir(mode=PRIVATE_FOLDER)
        yield folder
        if not dest.name.endswith(ARCHIVES):
            os.replace(folder, dest)
            return
        packed = Path(scratch) / "archive"
        with _new_binary(packed) as file:
            _pack(folder, dest, file)
        os.replace(packed, dest)


def _pack(folder: Path, dest: Path, file: io.BufferedWriter) -> None:
    root = dest.name
    for end in ARCHIVES:
        root = root.removesuffix(end)
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"{root}/{path.name}", filter=_anonymous)
            path.unlink()  # no more room is taken than the files and their archive need


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without who packed it here."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _new(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(_new_binary(path), encoding="utf-8", newline="\n")


def _new_binary(path: Path) -> io.BufferedWriter:
    """A new file that only its owner reads, whatever the umask."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE_FILE)
    os.fchmod(descriptor, PRIVATE_FILE)
    return io.BufferedWriter(io.FileIO(descriptor, "w"))


def _line(row: Any) -> str:
    return json_module.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"

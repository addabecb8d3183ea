"""`tocsin serve`: the service itself."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli.errors import CommandFailed, Misused
from tocsin.cli.server import TOKEN_FILE, URL_FILE
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of

if TYPE_CHECKING:
    from tocsin.app import App
    from tocsin.config import Settings


# By name: the classes belong to the storage drivers, which only storage may import.
START_HINTS = {
    "StoreInUse": "stop that process, or give this one another --data-dir and --port",
    "SchemaMismatch": "run the release that wrote this database, or a newer one",
    "SchemaNewer": "run the release that wrote this database, or a newer one",
}


def serve(*, flags: Flags = NO_FLAGS) -> int:
    """Run the service: API and delivery in one process, until Ctrl-C or SIGTERM.

    Everything is kept in the data directory, made on the first start: the
    database, the master key that seals secrets, and the operator token. Back
    the directory up, and keep it private.

    For example:

        tocsin serve
        tocsin serve --port 8500 --data-dir /var/lib/tocsin
        tocsin serve --allow-networks 127.0.0.0/8,10.0.0.0/8

    The last one lets deliveries through to targets inside your own network,
    which are refused otherwise.
    """
    from tocsin import app
    from tocsin.config import ConfigError

    settings = settings_of(flags)
    url_file = settings.data_dir / URL_FILE
    announce = Announcement(settings, url_file)
    try:
        return app.serve(settings, announce)
    except ConfigError as error:
        raise Misused(str(error), "`tocsin config` shows every setting and its value") from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise CommandFailed(f"can't start: {error.strerror or error}{where}") from None
    except Exception as error:
        hint = START_HINTS.get(type(error).__name__)
        if hint is None:
            raise
        raise CommandFailed(str(error), hint) from None
    finally:
        with suppress(OSError):
            if announce.written:
                url_file.unlink()


class Announcement:
    """Says, once the service is up, where it is; and leaves its address for other commands."""

    def __init__(self, settings: Settings, url_file: Path) -> None:
        self._settings = settings
        self._url_file = url_file
        self.written = False

    def __call__(self, app: App) -> None:
        write_private(self._url_file, app.url)
        self.written = True
        for line in lines(app.url, self._settings, made_token=app.made_token):
            print(line, flush=True)


def lines(url: str, settings: Settings, *, made_token: bool) -> list[str]:
    """What the start says; never a token."""
    data_dir = settings.data_dir.resolve()
    told = [
        f"Tocsin listens on {url}",
        f"  API docs    {url}/api/docs",
        f"  data        {data_dir}",
    ]
    if made_token:
        told.append(f"  first start: the operator token is in {data_dir / TOKEN_FILE}")
    return [*told, "  stop        Ctrl-C"]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(text + "\n")
    draft.replace(path)

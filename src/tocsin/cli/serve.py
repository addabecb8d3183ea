"""`tocsin serve`: the service itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tocsin.cli.address import announced
from tocsin.cli.server import TOKEN_FILE
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.cli.starting import start_errors

if TYPE_CHECKING:
    from tocsin.config import Settings

ROLES = {
    "api": "api: it takes events and serves the API, and leaves sending to other nodes",
    "engine": "engine: it sends, and has no API but /healthz, /readyz and /metrics",
}


def serve(*, flags: Flags = NO_FLAGS) -> int:
    """Run the service: API and delivery in one process.

    On PostgreSQL any number of them share the work, and --role api or
    --role engine gives one a part of it.

    It runs until Ctrl-C or SIGTERM. Everything is kept in the data directory,
    made on the first start: the database, the master key that seals secrets,
    and the operator token. Keep it private. `tocsin backup` copies the
    database; keep the master key too.

    For example:

        tocsin serve
        tocsin serve --port 8500 --data-dir /var/lib/tocsin
        tocsin serve --allow-networks 127.0.0.0/8,10.0.0.0/8

    The last one lets deliveries through to targets inside your own network,
    which are refused otherwise.
    """
    settings = settings_of(flags)
    # Only now: a wrong setting is told at once, before half of the service is imported.
    from tocsin import app
    from tocsin.telemetry import configure_logging

    configure_logging(settings.log_level, settings.log_format)

    def announce(running: app.App) -> None:
        stack.enter_context(announced(settings.data_dir, running.url))
        told = lines(
            running.url,
            settings,
            made_token=running.made_token,
            first_link=running.first_link,
        )
        for line in told:
            print(line, flush=True)

    with start_errors(), ExitStack() as stack:
        return app.serve(settings, announce)


def lines(
    url: str, settings: Settings, *, made_token: bool, first_link: str | None = None
) -> list[str]:
    """What the start says: never a token, but on standard output, where no log goes, the link of
    a server without users. It is good for 15 minutes and one use."""
    data_dir = settings.data_dir.resolve()
    told = [f"Tocsin listens on {url}"]
    if settings.role != "all":
        told.append(f"  role          {ROLES[settings.role]}")
    if settings.serves:
        told.append(f"  API reference {url}/api/docs")
    told.append(f"  data          {data_dir}")
    if made_token:
        told.append(f"  first start   the operator token was put in {data_dir / TOKEN_FILE}")
    if first_link is not None:
        told.append(f"  first sign-in {first_link}")
    return [*told, "  stop          Ctrl-C"]

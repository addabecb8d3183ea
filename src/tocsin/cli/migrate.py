"""`tocsin migrate`: bring the database to this release's schema."""

import asyncio
from typing import Annotated

from cyclopts import Parameter

from tocsin.cli import output
from tocsin.cli.settings import NO_FLAGS, Flags, settings_of
from tocsin.cli.starting import start_errors
from tocsin.config import Settings, store_shown


def migrate(
    *,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
    flags: Flags = NO_FLAGS,
) -> None:
    """Bring the database to this release's schema, in one transaction.

    `tocsin serve` does the same when it starts; this is for those who want it
    to have happened before. It needs the database for itself. Run `tocsin
    backup` first: there is no way back to an older schema.

    For example:

        tocsin migrate
        tocsin migrate --data-dir /var/lib/tocsin
    """
    settings = settings_of(flags)
    with start_errors():
        version = asyncio.run(_migrate(settings))
    database = store_shown(settings)
    answer = {"database": database, "schema": version}
    output.done(f"{database} has schema {version}", answer, json=json)


async def _migrate(settings: Settings) -> int:
    """Open the store, which migrates it; today's schema version."""
    from tocsin.clock import Clock
    from tocsin.crypto.keyring import private_folder
    from tocsin.storage import Signals, open_store
    from tocsin.storage.tables import SCHEMA_VERSION

    private_folder(settings.data_dir)
    private_folder(settings.sqlite_path.parent)
    async with open_store(settings, Clock(), Signals(died=lambda error: None)):
        return SCHEMA_VERSION

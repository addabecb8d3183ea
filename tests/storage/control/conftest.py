from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.control.databases import Database, Sqlite, postgres_database
from tests.storage.stores import lay_sqlite

DRIVERS = ("sqlite", "postgresql")


@pytest.fixture(params=DRIVERS)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated database: to migrate it once more costs nothing and changes nothing."""
    if request.param == "sqlite":
        path = tmp_path / "control.db"
        lay_sqlite(path)
        opened = Sqlite(path)
        yield opened
        opened.engine.dispose()
        return
    async with postgres_database(migrated=True) as made:
        yield made


@pytest.fixture(params=DRIVERS)
async def empty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        opened = Sqlite(tmp_path / "empty.db")
        yield opened
        opened.engine.dispose()
        return
    async with postgres_database(migrated=False) as made:
        yield made

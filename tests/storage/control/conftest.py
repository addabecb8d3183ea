from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.storage.control.databases import Database, Sqlite, postgres_database


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        opened = Sqlite(tmp_path / "control.db")
        yield opened
        opened.engine.dispose()
        return
    async with postgres_database() as made:
        yield made

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.storage.control.databases import (
    Database,
    Sqlite,
    postgres_database,
    postgres_server,
)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database."""
    if request.param == "sqlite":
        opened = Sqlite(tmp_path / "control.db")
        yield opened
        opened.engine.dispose()
        return
    server = request.getfixturevalue("postgres")
    async with postgres_database(server, f"test{next(_numbers)}") as made:
        yield made

"""One service in this process for the whole table."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.hostile.world import SETTINGS, World
from tests.web.people import weak

from tocsin.app import App
from tocsin.config import load


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collecting what schemathesis makes up takes seconds: not where it is left out anyway."""
    left_out = "not long" in (config.option.markexpr or "")
    return True if left_out and collection_path.name == "test_schemathesis.py" else None


@pytest.fixture(scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("hostile")
    async with App(load(SETTINGS | {"data_dir": folder}), passwords=weak()) as app:
        found = World(app)
        yield found
        found.close()

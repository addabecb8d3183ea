"""The whole service in this process, and a new tenant for each test."""

from collections.abc import AsyncIterator
from itertools import count

import pytest
from tests.conformance.tenant import Tenant
from tests.hostile.world import SETTINGS, World
from tests.web.people import weak

from tocsin.app import App
from tocsin.config import load

_numbers = count()


@pytest.fixture(scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("conformance")
    settings = load(SETTINGS | {"data_dir": folder, "requests_per_minute": 6000})
    async with App(settings, passwords=weak()) as app:
        found = World(app)
        yield found
        found.close()


@pytest.fixture
async def tenant(service: World) -> Tenant:
    return Tenant(service, await service.tenant(f"tenant {next(_numbers)}"))

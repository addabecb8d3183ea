"""The edge over a service layer in memory."""

from collections.abc import AsyncIterator

import pytest
from tests.web.fakes import Client, Fake, application, services


@pytest.fixture
def fake() -> Fake:
    return services()


@pytest.fixture
async def call(fake: Fake) -> AsyncIterator[Client]:
    app = application(fake)
    async with app.lifespan():
        yield Client(app, "admin")

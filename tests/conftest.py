"""Async tests run on uvloop, like the product: mark a module `pytestmark = pytest.mark.anyio`."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": True})

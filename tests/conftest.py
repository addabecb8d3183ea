"""Async tests run on uvloop, like the product: mark a module `pytestmark = pytest.mark.anyio`.

Property-based tests take the same examples every time, so that a change is judged by itself;
`HYPOTHESIS_PROFILE=random make test` looks for new ones.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.postgres import close_server

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="session", autouse=True)
def postgres_ends_with_the_session() -> Iterator[None]:
    """The PostgreSQL that some test may have started."""
    yield
    close_server()

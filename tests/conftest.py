"""Async tests run on uvloop, like the product: mark a module `pytestmark = pytest.mark.anyio`.

Property-based tests take the same examples every time, so that a change is judged by itself;
`HYPOTHESIS_PROFILE=random make test` looks for new ones.
"""

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from tests.patience import patient
from tests.postgres import close_server

# How long examples take says how busy the machine is.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", PATIENT, derandomize=True)
settings.register_profile("random", PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_collection_finish() -> None:
    """What was collected stays to the end: looking for garbage in it took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, object]]:
    return ("asyncio", {"use_uvloop": True})


@pytest.fixture(scope="module")
def patience() -> Iterator[None]:
    """See `tests.patience`."""
    with patient():
        yield


@pytest.fixture(scope="session", autouse=True)
def postgres_ends_with_the_session() -> Iterator[None]:
    """The PostgreSQL that some test may have started."""
    yield
    close_server()

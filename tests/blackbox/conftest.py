"""One service and one receiver for all tests that do nothing to the process itself."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server, Tenant

STORES = ("sqlite", "postgres")

QUICK_ON_POSTGRES = ("test_publish", "test_hostile_publish", "test_retry", "test_postgres")
"""The rest of what runs on the shared service runs on PostgreSQL with the long tests."""

NewServer = Callable[..., Server]

_names = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        quick = item.path.stem in QUICK_ON_POSTGRES
        if "[postgres" in item.name and not quick and item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", params=STORES)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("service") / "data",
        {"requests_per_minute": 0, "stranger_requests_per_minute": 0},
        store=request.param,
    )
    try:
        yield server.start()
        assert server.stop() == 0, server.said()
    finally:
        server.close()


@pytest.fixture
def tenant(service: Server) -> Tenant:
    """A new organization of the shared service."""
    return service.tenant(f"tenant-{next(_names)}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NewServer]:
    """Makes servers of the test's own, not started yet; none outlives the test."""
    made: list[Server] = []

    def make(name: str = "data", *, store: str = "sqlite", **settings: str | int) -> Server:
        settings.setdefault("requests_per_minute", 0)
        settings.setdefault("stranger_requests_per_minute", 0)
        made.append(Server(tmp_path / name, settings, store=store))
        return made[-1]

    yield make
    for server in made:
        server.close()

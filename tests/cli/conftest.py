"""A command line in an empty folder, and one beside a running server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.running import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="session")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """A command line whose folder a server runs from, with an organization and a project."""
    cli = Cli(tmp_path_factory.mktemp("beside"), TOCSIN_ORG="acme")
    with cli.serving():
        cli.good("orgs", "create", "Acme")
        cli.good("projects", "create", "iOS app", "--slug", "ios")
        yield cli

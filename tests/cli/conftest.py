"""A command line in an empty folder, and one beside a running server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.running import Cli, Forks, Inside


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    with Forks() as started:
        yield started


@pytest.fixture
def cli(tmp_path: Path, forks: Forks) -> Cli:
    return Cli(tmp_path, forks)


@pytest.fixture
def inside(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Inside:
    for name in [name for name in os.environ if name.startswith("TOCSIN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return Inside(capsys)


@pytest.fixture(scope="session")
def beside(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[Cli]:
    """A command line whose folder a server runs from, with an organization and a project."""
    cli = Cli(tmp_path_factory.mktemp("beside"), forks, TOCSIN_ORG="acme")
    with cli.serving():
        cli.good("orgs", "create", "Acme")
        cli.good("projects", "create", "iOS app", "--slug", "ios")
        yield cli

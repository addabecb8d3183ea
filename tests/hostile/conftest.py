"""One service in this process for the whole table, and another one of it on PostgreSQL."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.blackbox.server import node_settings
from tests.hostile.world import SETTINGS, World
from tests.patience import patient
from tests.postgres import server
from tests.web.people import weak

from tocsin.app import App
from tocsin.config import load
from tocsin.service import evaluating


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collecting what schemathesis makes up takes seconds: not where it is left out anyway."""
    left_out = "not long" in (config.option.markexpr or "")
    return True if left_out and collection_path.name == "test_schemathesis.py" else None


QUICK_ON_POSTGRES = (
    "native POST /api/v1/organizations/{org}/channels",
    "native POST /api/v1/organizations/{org}/keys",
    "native POST /api/v1/organizations/{org}/projects",
    "hookstream POST /v1/notification-channels",
    "applivery POST /v1/organizations/{org}/notifications",
)
"""Rows whose fields are tried on PostgreSQL every time, the rest with the long tests."""


EVERYTHING = bool(os.environ.get("TOCSIN_TEST_EVERYTHING"))
"""What schemathesis makes up is tried on PostgreSQL, too: minutes more."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not EVERYTHING:
        made_up = "test_schemathesis.py"
        items[:] = [
            item
            for item in items
            if item.path.name != made_up or not item.name.endswith("[postgres]")
        ]
    for item in items:
        if item.path.parent != Path(__file__).parent or "[postgres-" not in item.name:
            continue
        tried = item.name.partition("[postgres-")[2].rstrip("]").rpartition(" ")[0]
        if tried not in QUICK_ON_POSTGRES:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="module")
def at_rest() -> Iterator[None]:
    """Nothing is changed by the minute that no row has asked for, and a machine that stands still
    makes no answer another one."""
    with patient() as patch:
        patch.setattr(evaluating, "LOOK_SECONDS", 86_400.0)
        yield


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, at_rest: None
) -> AsyncIterator[World]:
    settings = SETTINGS | {"data_dir": tmp_path_factory.mktemp("hostile")}
    if request.param == "postgres":
        shared = node_settings(server().dsn(server().migrated()))
        settings |= {name.removeprefix("TOCSIN_").lower(): shared[name] for name in shared}
    async with App(load(settings), passwords=weak()) as app:
        found = World(app)
        yield found
        found.close()

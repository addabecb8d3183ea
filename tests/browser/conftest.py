"""A real browser, and a real service for it to look at."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.blackbox.server import Server

PATIENCE_MS = 180_000
"""For whatever the browser is asked: a busy machine is no failure."""

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Not for the session: its loop must not run any more when the next module's tests start theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        say = "THE PAGES ARE NOT TESTED: chromium is not installed (apt-get install chromium)"
        assert not os.environ.get("CI"), say
        pytest.skip(say)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=ARGUMENTS, timeout=PATIENCE_MS
        )
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("browser") / "data")
    try:
        yield server.start()
        assert server.stop() == 0, server.said()
    finally:
        server.close()

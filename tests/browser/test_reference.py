"""The API reference as people see it."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from tests.blackbox.server import Server, until
from tests.browser.conftest import PATIENCE_MS

pytestmark = pytest.mark.long

WIDTHS = (360, 820, 1440)


class Seen:
    """A page, what it complained of, and what it asked for."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{server.url}/api/docs")


@pytest.fixture
def seen(browser: Browser, service: Server) -> Iterator[Seen]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    found = Seen(context, service)
    yield found
    context.close()
    assert found.complaints == []
    assert {url.startswith(service.url + "/api/") for url in found.asked} == {True}


def test_the_page_says_what_can_be_called(seen: Seen, service: Server) -> None:
    page = seen.page
    assert page.title() == "Tocsin API reference"
    assert [h.inner_text().split()[0] for h in page.locator(".dialect h2").all()] == [
        "Tocsin",
        "Applivery",
        "hookstream",
        "Channel",
    ]
    page.locator(".side a", has_text="Publish an event").click()
    page.wait_for_url(lambda url: url.endswith("#post-api-v1-organizations-org-events"))
    heading = page.locator("#post-api-v1-organizations-org-events h4")

    def in_sight() -> bool:
        box = heading.bounding_box()
        return box is not None and 50 <= box["y"] <= 300

    until(in_sight, "the call is in sight")
    assert f"BASE={service.url}" in page.locator("#start figure code").inner_text()


def test_a_copied_command_works(seen: Seen, service: Server) -> None:
    tenant = service.tenant("reader")
    # What a button says after a click stays, however late it is looked at.
    seen.page.evaluate("window.setTimeout = () => 0")
    call = seen.page.locator("#post-api-v1-organizations-org-events")
    call.get_by_role("button", name="Copy: Request").click()
    call.get_by_role("button", name="Copied: Request").wait_for()
    command: str = seen.page.evaluate("navigator.clipboard.readText()")
    ended = subprocess.run(
        ["bash", "-c", command],
        env={"PATH": "/usr/bin:/bin", "BASE": service.url, "KEY": tenant.key, "ORG": "reader"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert '"unmatched":"no_channel"' in ended.stdout


def test_the_filter_finds_calls(seen: Seen) -> None:
    page = seen.page
    page.keyboard.press("/")
    page.keyboard.type("show signing secret")
    assert [one.inner_text() for one in page.locator("article.call h4").all() if one.is_visible()]

    def shown() -> list[str | None]:
        calls = page.locator("article.call[data-find]").filter(visible=True)
        return [one.get_attribute("id") for one in calls.all()]

    wanted = ["get-api-v1-organizations-org-channels-id-secret"]
    until(lambda: shown() == wanted, "the only one that is called that")
    page.keyboard.type(" nothing")
    page.get_by_text("No call is called that.").wait_for()
    page.keyboard.press("Escape")
    page.locator("#post-v1-notification-channels").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: Browser, service: Server, scheme: Any) -> None:
    """WCAG AA: at least 4.5 between text and what is behind it."""
    context = browser.new_context(color_scheme=scheme)
    page = Seen(context, service).page
    faint: list[str] = page.evaluate(CONTRAST)
    context.close()
    assert faint == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_sticks_out(browser: Browser, service: Server, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = Seen(context, service).page
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    context.close()


def test_it_works_without_scripts(browser: Browser, service: Server) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = Seen(context, service).page
    assert page.get_by_role("button").count() == 0
    assert page.get_by_role("searchbox").count() == 0
    assert page.locator("article.call .code").first.is_visible()
    context.close()


CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255)
      .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !one.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.add(`${one.tagName}.${one.className} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""

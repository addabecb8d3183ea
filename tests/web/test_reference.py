"""What the API says of itself: all of it, true, and on a page that loads nothing from elsewhere.

A new call or field gets its words in `words.py` of its dialect.
"""

import json
import re
import shlex
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from litestar.routes import HTTPRoute
from tests.web.fakes import Client

from tocsin.web.reference.all import DIALECTS
from tocsin.web.reference.document import dialect_of, operations
from tocsin.web.reference.pages import HEADERS

pytestmark = pytest.mark.anyio


@pytest.fixture
async def document(call: Client) -> Any:
    return (await call("GET", "/api/openapi.json")).json()


async def test_every_call_has_its_words_and_an_example(document: Any) -> None:
    words = {name for dialect in DIALECTS for name in dialect.calls}
    assert words == {f"{method.upper()} {path}" for method, path, _ in operations(document)}
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, where
        assert all(one["description"] for one in operation.get("parameters", ())), where
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"]["application/json"], where
        for status, reply in operation["responses"].items():
            for media in reply.get("content", {}).values():
                assert "example" in media, (where, status)


async def test_every_field_has_its_words(document: Any) -> None:
    schemas = document["components"]["schemas"]
    silent = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, rule in schema.get("properties", {}).items()
        if not rule.get("description")
    ]
    assert silent == []
    assert not [name for name in schemas if not re.fullmatch(r"\w+", name)]
    for dialect in DIALECTS:
        for struct, fields in dialect.fields.items():
            if struct != "*":
                assert set(fields) <= set(schemas[struct]["properties"]), struct


async def test_every_example_is_what_the_call_takes_and_answers(
    call: Client, document: Any
) -> None:
    handlers: dict[tuple[str, str], Any] = {
        (method, route.path_format): handler
        for route in call._app.framework.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for method in handler.http_methods
    }
    for method, path, _ in operations(document):
        handler = handlers[str(method.upper()), path]
        words = dialect_of(path, DIALECTS).calls[f"{method.upper()} {path}"]
        body, reply = handler.parsed_data_field, handler.parsed_return_field
        assert (body is None) == (words.request is msgspec.UNSET), path
        if body is not None:
            strict(words.request, body.annotation)
        if words.reply is not msgspec.UNSET:
            strict(words.reply, reply.annotation)
        else:
            assert reply.annotation is type(None) or "Response" in str(reply.annotation), path


def strict(example: Any, type: Any) -> None:
    """The example has the type, and nothing that the type has not."""
    made = msgspec.json.decode(msgspec.json.encode(example), type=type)
    again = json.loads(msgspec.json.encode(made))
    assert contains(again, example), (example, again)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], one) for name, one in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(contains, whole, part))
    return bool(whole == part)


async def test_every_command_is_one_that_a_shell_takes(document: Any) -> None:
    for method, path, operation in operations(document):
        (sample,) = operation["x-codeSamples"]
        words = shlex.split(sample["source"])
        assert words[0] == "curl"
        url = next(word for word in words if word.startswith("$BASE"))
        assert re.sub(r"\{\w+\}", "$", path).split("$")[0] in url
        if "requestBody" in operation:
            sent = json.loads(words[words.index("-d") + 1])
            assert sent == operation["requestBody"]["content"]["application/json"]["example"]
        implied = "POST" if "-d" in words else "GET"
        named = words[words.index("-X") + 1] if "-X" in words else implied
        assert named == method.upper()


class Page(HTMLParser):
    """What a page loads, where it leads, and what would run within it."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.within: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.within += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.within.append(tag)
        if "src" in given or tag == "link":
            self.loads.append(given.get("src") or given["href"])
        elif "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])


async def test_the_page_is_for_everybody_and_loads_nothing_from_elsewhere(call: Client) -> None:
    answer = await call("GET", "/api/docs", token=None)
    assert answer.status == 200
    page = Page()
    page.feed(answer.body.decode())
    assert page.within == []
    for path in page.loads:
        assert path.startswith("/api/docs/")
        file = await call("GET", path, token=None)
        assert file.status == 200
        assert b"://" not in file.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert set(page.links) - {f"#{one}" for one in page.ids} == {"/api/openapi.json"}
    assert len(set(page.ids)) == len(page.ids)


async def test_the_page_shows_every_call(call: Client, document: Any) -> None:
    text = (await call("GET", "/api/docs", token=None)).body.decode()
    shown = re.sub(r"<[^>]+>", "", text).replace("&#34;", '"').replace("&#39;", "'")
    for _, _, operation in operations(document):
        assert operation["x-codeSamples"][0]["source"] in shown.replace("&amp;", "&")
        assert operation["summary"] in shown


@pytest.mark.parametrize("path", ["", "/", "/reference.js", "/reference.css", "/icon.svg"])
async def test_pages_are_served_strictly(call: Client, path: str) -> None:
    answer = await call("GET", f"/api/docs{path}", token=None)
    assert answer.status == 200
    for name, value in HEADERS:
        assert answer.headers[name.decode()] == value.decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    refused = await call("POST", f"/api/docs{path}", {}, token=None)
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_nothing_else_is_there(call: Client) -> None:
    for path in ("/page.html", "/__init__.py", "/../reference.css", "/x/icon.svg"):
        assert (await call("GET", f"/api/docs{path}", token=None)).status == 404

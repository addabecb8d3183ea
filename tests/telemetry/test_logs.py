"""Logs: no secret and no control character gets out, and nothing floods them."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tocsin.domain.text import MASK
from tocsin.telemetry import REQUEST_ID, JsonLines
from tocsin.telemetry.logs import SteadyHandler
from tocsin.telemetry.masking import masked

TOKEN = "toc_" + "aB3-" * 12 + "x"
SAY = """
import logging
from tocsin.telemetry import configure_logging
configure_logging("info", {form!r})
log = logging.getLogger("tocsin.x")
secret = "in-a-local-variable"
try:
    raise ValueError("Bearer abcdefghijklmnopqrst \\x1b[2J")
except ValueError:
    log.exception("line one\\nline two \\u202e")
log.debug("not asked for")
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {TOKEN} is wrong", f"key toc_{MASK} is wrong"),
        ("hs_live_" + "0" * 64, f"hs_live_{MASK}"),
        ("hs_test_" + "0" * 64, f"hs_test_{MASK}"),
        ("secret=whsec_QUJDREVGR0g=, next", f"secret=whsec_{MASK}, next"),
        ("whsk_QUJDREVGR0g=", f"whsk_{MASK}"),
        ("xoxb-123456789-abc", f"xoxb-{MASK}"),
        ("Authorization: Bearer abc", f"Authorization: {MASK}"),
        (
            "{'authorization': 'Basic dXNlcjpwYXNz', 'a': 1}",
            f"{{'authorization': '{MASK}', 'a': 1}}",
        ),
        ("(b'cookie', b'a=1; b=2')", f"(b'cookie', b'{MASK}')"),
        ("set-cookie: session=abc; Path=/\nnext", f"set-cookie: {MASK}\nnext"),
        ("X-API-Key: abc", f"X-API-Key: {MASK}"),
        ("sent bearer AAAAAAAAAAAAAAAAAAAA to it", f"sent bearer {MASK} to it"),
        ("better-auth.session_token=abc.def; x", f"better-auth.session_token={MASK}; x"),
        ("postgresql://user:pass@host/db", f"postgresql://user:{MASK}@host/db"),
        ("GET /link/AAAAAAAAAAAAAAAAAAAAAAAAA", f"GET /link/{MASK}"),
    ],
)
def test_what_looks_like_a_credential_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the bearer of bad news",
        "basic authentication is not offered",
        "a cookie jar",
        "http://127.0.0.1:8400/api/docs",
        "the key toc_ is a prefix",
        "channel 0193e1f2a3b4c5d6e7f80912 is disabled: its target is gone",
        "see docs/links",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


def line(message: str, *arguments: object) -> dict[str, Any]:
    record = logging.LogRecord("tocsin.x", 30, "f", 1, message, arguments, None)
    found: dict[str, Any] = json.loads(JsonLines().format(record))
    return found


def test_json_hides_credentials_and_shows_what_json_would_pass_on() -> None:
    text = JsonLines().format(
        logging.LogRecord("tocsin.x", 30, "f", 1, "\x1b \x85 \u202e %s", (TOKEN,), None)
    )
    assert "\\u001b <U+0085> <U+202E> toc_" in text
    assert TOKEN not in text


def test_a_time_has_milliseconds() -> None:
    assert len(line("x")["timestamp"]) == len("2026-11-22T01:47:14.272Z")


def test_the_id_of_the_request_goes_with_it() -> None:
    assert "request_id" not in line("x")
    token = REQUEST_ID.set("req_0123")
    try:
        assert line("x")["request_id"] == "req_0123"
    finally:
        REQUEST_ID.reset(token)


# What repeats itself

Log = Callable[..., None]


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(out: io.StringIO) -> Iterator[SteadyHandler]:
    handler = SteadyHandler(out)
    handler.setFormatter(JsonLines())
    yield handler
    handler.close()


def log(handler: SteadyHandler, at: float, message: str, *, level: int = logging.ERROR) -> None:
    record = logging.LogRecord("tocsin.x", level, "f", 1, message, (), None)
    record.created = at
    handler.handle(record)


def told(out: io.StringIO) -> list[tuple[str, int]]:
    lines = map(json.loads, out.getvalue().splitlines())
    return [(line["event"], line.get("repeated", 0)) for line in lines]


def test_the_same_error_is_written_once_a_second(handler: SteadyHandler, out: io.StringIO) -> None:
    for tenth in range(25):
        log(handler, 1000 + tenth / 10, "away")
    assert told(out) == [("away", 0), ("away", 9), ("away", 0), ("away", 9), ("away", 0)]
    handler.close()
    assert told(out)[5:] == [("away", 4)]


def test_other_errors_and_plain_news_are_not_held_back(
    handler: SteadyHandler, out: io.StringIO
) -> None:
    for at in (1000.0, 1000.1):
        log(handler, at, "one")
        log(handler, at, "two", level=logging.WARNING)
        log(handler, at, "news", level=logging.INFO)
    assert told(out) == [("one", 0), ("two", 0), ("news", 0), ("news", 0)]
    log(handler, 1001.0, "news", level=logging.INFO)
    log(handler, 1001.2, "news", level=logging.INFO)
    assert told(out)[4:] == [("one", 1), ("two", 1), ("news", 0), ("news", 0)]


def test_a_clock_that_is_put_back_silences_nothing(
    handler: SteadyHandler, out: io.StringIO
) -> None:
    log(handler, 2000.0, "away")
    log(handler, 1000.0, "away")
    assert told(out) == [("away", 0), ("away", 0)]


def test_many_different_ones_are_not_remembered_for_ever(
    handler: SteadyHandler, out: io.StringIO
) -> None:
    for number in range(2_000):
        log(handler, 1000.0, f"error {number}")
    assert len(told(out)) == 2_000
    assert len(handler._seen) <= 256


# As a process writes them


def said(form: str, *, terminal: bool = False, **environment: str) -> str:
    given = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-c", SAY.format(form=form)]
    if not terminal:
        ended = subprocess.run(
            command, env=given | environment, capture_output=True, text=True, timeout=120
        )
        return ended.stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, env=given | environment, stderr=theirs)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65_536):
            text += part
    except OSError:
        pass  # so a terminal says that its other end is closed
    finally:
        os.close(ours)
        process.wait(120)
    return text.decode()


def test_for_machines_a_line_each() -> None:
    [line] = said("auto").splitlines()
    found = json.loads(line)
    assert found["event"] == "line one\nline two <U+202E>"
    assert f"ValueError: Bearer {MASK} \x1b[2J" in found["exception"]
    assert "in-a-local-variable" not in line


def test_for_people_without_colour_where_nobody_looks() -> None:
    text = said("console")
    assert "[error    ] line one␊line two <U+202E>" in text
    assert f"ValueError: Bearer {MASK} ␛[2J" in text
    assert "\x1b" not in text
    assert "in-a-local-variable" not in text


def test_for_people_on_a_terminal() -> None:
    text = said("auto", terminal=True)
    assert "line one␊line two <U+202E>" in text
    assert "\x1b[" in text
    assert "\x1b[2J" not in text
    assert "\x1b" not in said("auto", terminal=True, NO_COLOR="1")

"""One line of JSON for every record, whatever is in it."""

import json
import logging
import sys

from tocsin.telemetry import JsonLines


def line(message: str, *arguments: object, error: bool = False) -> dict[str, str]:
    try:
        raise ValueError("of\nthree\nlines")
    except ValueError:
        info = sys.exc_info() if error else None
    record = logging.LogRecord("tocsin.x", 30, "f", 1, message, arguments, info)
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, str] = json.loads(text)
    return found


def test_a_record_is_a_line() -> None:
    found = line("%s has %d", "one", 2)
    assert found.pop("timestamp").endswith("Z")
    assert found == {"event": "one has 2", "level": "warning", "logger": "tocsin.x"}


def test_an_exception_goes_with_it() -> None:
    assert "ValueError: of\nthree\nlines" in line("failed", error=True)["exception"]


def test_text_that_is_none_does_no_harm() -> None:
    assert line("a\udc80b\n\x1b[31m")["event"] == "a\\udc80b\n\x1b[31m"

"""A real `tocsin serve`, in a process of its own, and what a customer does with it over HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0
CALL_SECONDS_MAX = 30.0
SERVE = (sys.executable, "-m", "tocsin", "serve")
LOG_TAIL_BYTES = 4_000


class Reply:
    """What the service answered."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:400]!r}>"


def call(
    url: str, method: str, path: str, *, body: bytes | None, headers: Mapping[str, str]
) -> Reply:
    """One request on a connection of its own."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(
        address.hostname, address.port, timeout=CALL_SECONDS_MAX
    )
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, found, answer.read())
    finally:
        connection.close()


def until[T](look: Callable[[], T | None], what: str, seconds: float = 15.0) -> T:
    """Ask again and again until there is something; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)

"""A real `tocsin serve`, in a process of its own, and what a customer does with it over HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from tests import postgres

READY_SECONDS_MAX = 180.0
STOP_SECONDS_MAX = 60.0
CALL_SECONDS_MAX = 60.0
SERVE = (sys.executable, "-m", "tocsin", "serve")
LOG_TAIL_BYTES = 4_000
API = "/api/v1"

MASTER_KEY = "bWFzdGVyIGtleSBvZiB0aGUgYmxhY2tib3ggdGVzdHMh"

T = TypeVar("T")


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


def until(look: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """Look again and again until there is something to see; fails when it takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


def node_settings(dsn: str) -> dict[str, str]:
    """What all nodes on one PostgreSQL database share."""
    return {
        "TOCSIN_STORE": dsn,
        "TOCSIN_MASTER_KEY": MASTER_KEY,
        "TOCSIN_OPERATOR_TOKEN": "operator-token-of-the-blackbox-tests",
    }


class Server:
    """One data directory, and the process that serves it while there is one.

    `kill` and `stop` end the process that `start` made and no other. A later `start` takes up the
    same data directory, on another port.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str | int] | None = None,
        *,
        command: Sequence[str] = SERVE,
        store: str = "sqlite",
    ) -> None:
        self.data_dir = data_dir
        self.store = store
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.url = ""
        self.ready_at = 0.0
        self.settings = {
            f"TOCSIN_{name.upper()}": str(value) for name, value in (settings or {}).items()
        }
        if store == "postgres":
            self.database = postgres.server().migrated()
            self.settings = node_settings(postgres.server().dsn(self.database)) | self.settings
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    # The process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self, *, umask: int = -1) -> subprocess.Popen[bytes]:
        """Start a process on the data directory and leave it to the caller."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")
        }
        environment |= {
            "TOCSIN_DATA_DIR": str(self.data_dir),
            "TOCSIN_PORT": "0",
            "TOCSIN_ALLOW_NETWORKS": "127.0.0.0/8",
            "TOCSIN_LOG_LEVEL": "warning",
            **self.settings,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command,
                env=environment,
                cwd=self.data_dir.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=umask,
            )

    def start(self, *, umask: int = -1) -> "Server":
        """Start it, and return as soon as /readyz says that it is ready."""
        assert self._process is None
        address = self.data_dir / "url"
        address.unlink(missing_ok=True)
        process = self._process = self.spawn(umask=umask)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self._ready(address):
            code = process.poll()
            assert code is None, f"serve ended with {code}:\n{self.said()}"
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"serve is not ready:\n{self.said()}")
            time.sleep(0.01)
        self.ready_at = time.monotonic()
        return self

    def kill(self) -> float:
        """End it as a power cut would; returns the moment."""
        assert self._process is not None
        at = time.monotonic()
        self._process.kill()
        self._process.wait()
        self._process = None
        return at

    def stop(self) -> int:
        """Ask it to end in good order; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"serve did not end:\n{self.said()}") from None
        finally:
            self._process = None

    def close(self) -> None:
        """Leave no process behind; safe whatever has happened."""
        if self._process is not None:
            self.kill()

    def said(self) -> str:
        """The end of what it has written to its log."""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    def _ready(self, address: Path) -> bool:
        if not address.exists():
            return False
        self.url = address.read_text().strip()
        try:
            return bool(self.url) and self.call("GET", "/readyz", token=None).status == 200
        except OSError:
            return False

    # Its API

    @property
    def operator_token(self) -> str:
        given = self.settings.get("TOCSIN_OPERATOR_TOKEN")
        return given or (self.data_dir / "operator-token").read_text().strip()

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request on a connection of its own; `body` is bytes, or a value for JSON."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if raw is not None else {}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=CALL_SECONDS_MAX)
        try:
            connection.request(method, path, raw, sent | dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def tenant(self, slug: str, *, projects: Sequence[str] = ()) -> "Tenant":
        """A new organization with an admin key of its own."""
        operator = self.operator_token
        made = self.call(
            "POST", f"{API}/organizations", {"name": slug, "slug": slug}, token=operator
        )
        assert made.status == 201, made
        organization = made.json()["id"]
        root = f"{API}/organizations/{organization}"
        ids = {}
        for project in projects:
            made = self.call(
                "POST", f"{root}/projects", {"name": project, "slug": project}, token=operator
            )
            assert made.status == 201, made
            ids[project] = made.json()["id"]
        made = self.call("POST", f"{root}/keys", {"name": "test", "role": "admin"}, token=operator)
        assert made.status == 201, made
        return Tenant(self, organization, made.json()["token"], ids)


class Tenant:
    """One organization, and calls in its name with a key of its own."""

    def __init__(
        self, server: Server, organization: str, key: str, projects: Mapping[str, str]
    ) -> None:
        self.server = server
        self.organization = organization
        self.key = key
        self.projects = projects
        self.root = f"{API}/organizations/{organization}"

    def at(self, server: Server) -> "Tenant":
        """The same one at another node."""
        return Tenant(server, self.organization, self.key, self.projects)

    def call(self, method: str, path: str, body: Any = None, **query: str | int) -> Reply:
        """A native call; `path` is below the organization."""
        asked = f"?{urlencode(query)}" if query else ""
        return self.server.call(method, f"{self.root}{path}{asked}", body, token=self.key)

    def get(self, path: str, **query: str | int) -> Any:
        """What a native GET answers."""
        reply = self.call("GET", path, **query)
        assert reply.status == 200, reply
        return reply.json()

    def all(self, path: str, **query: str | int) -> Iterator[Any]:
        """Everything of a list, page by page."""
        cursor: dict[str, str] = {}
        while True:
            page = self.get(path, limit=200, **query, **cursor)
            yield from page["data"]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}

    def channel(self, url: str, **fields: Any) -> Any:
        """A new webhook channel, with its `secret`."""
        body = {"name": "hook", "type": "webhook", "settings": {"url": url}, **fields}
        made = self.call("POST", "/channels", body)
        assert made.status == 201, made
        return made.json()

    def change(self, channel_id: str, **fields: Any) -> Any:
        """PATCH a channel."""
        changed = self.call("PATCH", f"/channels/{channel_id}", fields)
        assert changed.status == 200, changed
        return changed.json()

    def publish(self, type: str = "build.created", data: Any = None, **fields: Any) -> Any:
        """Publish one event; returns the 202's body."""
        reply = self.call("POST", "/events", {"type": type, "data": data, **fields})
        assert reply.status == 202, reply
        return reply.json()

    def publish_batch(self, events: Sequence[Any]) -> list[Any]:
        """Publish a batch; returns the results."""
        reply = self.call("POST", "/events/batch", {"events": events})
        assert reply.status == 202, reply
        results: list[Any] = reply.json()["results"]
        return results

    def deliveries(self, event_id: str) -> list[Any]:
        """What became of an event so far."""
        found: list[Any] = self.get(f"/events/{event_id}")["deliveries"]
        return found

    def attempts(self, delivery_id: str) -> list[Any]:
        """Every attempt of a delivery."""
        found: list[Any] = self.get(f"/deliveries/{delivery_id}")["attempts"]
        return found

    def settled(self, event_id: str, *statuses: str, seconds: float = 60.0) -> Any:
        """The event's only delivery, once it has one of these statuses."""

        def look() -> Any:
            (delivery,) = self.deliveries(event_id)
            return delivery if delivery["status"] in statuses else None

        return until(look, f"delivery of {event_id} in {statuses}", seconds)

"""hookstream's notification channels on a running service: what its receivers get, what a test
touches, when a revoked key stops, and the commands of the page for those who move."""

import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.receiver import Receipt, Receiver, always, in_turn, reply
from tests.blackbox.server import CALL_SECONDS_MAX, Server, Tenant, until
from tests.blackbox.test_publish import verify

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/moving-from-hookstream.md"
CHANNELS = "/v1/notification-channels"
KEYS = "/v1/auth/api-keys"
SECRET = "s3cret of ours: ü"


class Env:
    """An environment of a platform that was hookstream's customer, and a key that it made."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.id = tenant.projects["app"]
        made = self.call("POST", KEYS, {"name": "ci"}, status=201, key=tenant.key)
        self.key, self.key_id = made["key"], made["id"]

    def call(
        self, method: str, path: str, body: Any = None, *, status: int = 200, key: str = ""
    ) -> Any:
        headers = {"X-API-Key": key or self.key}
        answer = self.tenant.server.call(method, path, body, token=None, headers=headers)
        assert answer.status == status, answer
        return answer.json()

    def channel(self, url: str, **config: Any) -> Any:
        body = {"name": "On call", "channel_type": "webhook", "config": {"url": url, **config}}
        return self.call("POST", CHANNELS, body, status=201)["channel"]

    def read(self, channel: Any) -> Any:
        return self.call("GET", f"{CHANNELS}/{channel['id']}")["channel"]

    def test(self, channel: Any) -> Any:
        return self.call("POST", f"{CHANNELS}/{channel['id']}/test")

    def native(self, channel: Any) -> Any:
        return self.tenant.get(f"/channels/{channel['id']}")


@pytest.fixture
def env(service: Server, request: pytest.FixtureRequest) -> Env:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Env(service.tenant(f"hs-{name[-58:].strip('-')}", projects=["app"]))


def signed(receipt: Receipt, secret: str) -> None:
    digest = hmac.new(secret.encode(), receipt.body, hashlib.sha256).hexdigest()
    assert receipt.headers["x-hookstream-signature"] == f"sha256={digest}"


def test_what_a_receiver_gets(env: Env, receiver: Receiver) -> None:
    channel = env.channel(receiver.url(), secret=SECRET)
    plain = env.channel(receiver.url("/plain"))
    event = env.tenant.publish("build.created", {"n": "ü"}, project="app")
    (receipt,) = receiver.wait(1)
    signed(receipt, SECRET)
    verify(receipt, env.tenant.get(f"/channels/{channel['id']}/secret")["secret"])
    place = {"org_id": env.tenant.organization, "env_id": env.id}
    assert receipt.json() == {
        "event": "build.created",
        "id": event["id"],
        "data": {"n": "ü"},
        **place,
        "timestamp": event["created_at"],
    }
    (bare,) = receiver.wait(1, "/plain")
    assert "x-hookstream-signature" not in bare.headers
    verify(bare, env.tenant.get(f"/channels/{plain['id']}/secret")["secret"])

    assert env.test(channel) == {"success": True, "error": None}
    tested = receiver.wait(2)[1]
    signed(tested, SECRET)
    body = tested.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body.pop("timestamp"))
    assert body.pop("message")
    assert body == {"event": "test", "channel": {"id": channel["id"], "name": "On call"}, **place}
    assert tested.headers["content-type"] == "application/json"


def test_what_a_test_touches(env: Env, receiver: Receiver) -> None:
    """Tracking and the log; not the breaker, the streak, the channel itself, nor what waits."""
    failing, gone = reply(500, b"secret answer"), reply(410)
    held = reply(429, retry_after="600")
    answers = (*[failing] * 6, gone, held, reply(204), reply(503))
    channel = env.channel(receiver.url("/hook", in_turn(*answers)))
    for number in range(1, 9):
        said = env.test(channel)
        assert said["success"] is False
        code = {7: 410, 8: 429}.get(number, 500)
        assert said["error"] == f"http_status: {code}"
        shown = env.read(channel)
        assert (shown["error_count"], shown["last_error"]) == (number, said["error"])
        assert (shown["enabled"], shown["last_sent_at"]) == (1, None)
        native = env.native(channel)
        assert (native["status"], native["disabled_reason"]) == ("active", None)
    assert env.test(channel) == {"success": True, "error": None}
    shown = env.read(channel)
    assert (shown["error_count"], shown["last_error"]) == (0, None)
    sent_at = shown["last_sent_at"]
    assert sent_at
    assert env.test(channel)["success"] is False
    shown = env.read(channel)
    assert (shown["error_count"], shown["last_error"]) == (1, "http_status: 503")
    assert shown["last_sent_at"] == sent_at
    assert shown["updated_at"] == channel["updated_at"]
    # No test was tried again, and none of the answers holds what is sent now.
    log = list(env.tenant.all("/deliveries", channel=channel["id"]))
    assert len(log) == len(receiver.at()) == 10
    assert {(one["origin"], one["event_type"], one["attempt_count"]) for one in log} == {
        ("test", "tocsin.test", 1)
    }
    receiver.behave("/hook", always(reply()))
    event = env.tenant.publish(project="app")
    env.tenant.settled(event["id"], "delivered")
    assert env.read(channel)["error_count"] == 0


def test_a_test_goes_past_disabled(env: Env, receiver: Receiver) -> None:
    channel = env.channel(receiver.url())
    path = f"{CHANNELS}/{channel['id']}"
    env.call("PATCH", path, {"enabled": 0})
    event = env.tenant.publish(project="app")
    assert env.test(channel) == {"success": True, "error": None}
    assert env.read(channel)["enabled"] == 0
    (tested,) = receiver.at()
    assert tested.json()["event"] == "test"
    env.call("PATCH", path, {"enabled": True})
    env.tenant.settled(event["id"], "delivered")


def test_changes_and_deletes_are_exact(env: Env, receiver: Receiver) -> None:
    channel = env.channel(receiver.url("/old"), secret="old")
    path = f"{CHANNELS}/{channel['id']}"
    env.call("PATCH", path, {"config": {"url": receiver.url("/new"), "secret": "new"}})
    env.tenant.publish(project="app")
    (receipt,) = receiver.wait(1, "/new")
    signed(receipt, "new")
    receiver.behave("/new", always(reply(500)))
    waiting = env.tenant.publish(project="app")
    receiver.wait(2, "/new")
    assert env.call("DELETE", path) == {"success": True}
    env.tenant.settled(waiting["id"], "cancelled")
    assert receiver.at("/old") == []
    env.call("GET", path, status=404)


@contextmanager
def half_sent(env: Env, path: str, body: bytes) -> Iterator[Any]:
    """A call that has been let in and whose body has not come; gives what sends the body and
    returns the whole answer."""
    with socket.create_connection(("127.0.0.1", env.tenant.server.port)) as wire:
        wire.settimeout(CALL_SECONDS_MAX)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {env.key}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
        )
        wire.sendall(head.encode())
        with wire.makefile("rb") as answers:
            assert answers.readline().startswith(b"HTTP/1.1 100 ")
            assert answers.readline() == b"\r\n"

            def finish() -> bytes:
                wire.sendall(body)
                return answers.read()

            yield finish


def test_a_revoked_key_stops_what_was_let_in_before(env: Env, receiver: Receiver) -> None:
    made = {"name": "late", "channel_type": "webhook", "config": {"url": receiver.url()}}
    event = {"type": "late", "data": 1}
    events = f"/api/v1/organizations/{env.tenant.organization}/events"
    with (
        half_sent(env, CHANNELS, json.dumps(made).encode()) as create,
        half_sent(env, events, json.dumps(event).encode()) as publish,
    ):
        gone = env.call("DELETE", f"{KEYS}/{env.key_id}", key=env.tenant.key)
        assert gone == {"success": True}
        for finish in (create, publish):
            answer = finish()
            assert answer.startswith(b"HTTP/1.1 401 "), answer
    refused = env.call("GET", CHANNELS, status=401)
    assert refused["error"] == "Invalid API key"
    assert env.call("GET", CHANNELS, key=env.tenant.key)["channels"] == []
    assert env.tenant.get("/events")["data"] == []


def test_use_of_a_key_is_counted(env: Env) -> None:
    for _ in range(4):
        env.call("GET", CHANNELS)

    def counted() -> Any:
        (shown,) = [
            one
            for one in env.call("GET", KEYS, key=env.tenant.key)["api_keys"]
            if one["id"] == env.key_id
        ]
        return shown["request_count"] == 4 and shown

    shown = until(counted, "the uses of the key", 60)
    assert shown["last_used_at"] >= shown["created_at"]
    assert shown["key_prefix"] == env.key[:12]


def test_the_commands_of_the_page_work(env: Env, receiver: Receiver) -> None:
    """What stands in its shell blocks, run in turn; only the addresses are filled in."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("https://example.com/hook", receiver.url())
    given = {
        "BASE": env.tenant.server.url,
        "ORG": env.tenant.organization,
        "ENV": "app",
        "KEY": env.tenant.key,
        "NO_PROXY": "*",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euc", lines],
        env=os.environ | given,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.replace(" ", "")
    assert '{"success":true,"error":null}' in said
    assert '"name":"Nights"' in said
    assert '"deliveries":1' in said
    assert said.endswith('{"success":true}')
    tested = receiver.wait(1)[0]
    signed(tested, "s3cret")
    assert tested.json()["event"] == "test"

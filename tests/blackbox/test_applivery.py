"""Applivery's notifications on a running service: every event type delivered, changes and deletes
as its clients see them, and the script that publishes a build's life."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.receiver import Receiver, always, reply
from tests.blackbox.server import Server, Tenant, until
from tests.blackbox.slack import FakeSlack
from tests.blackbox.test_publish import verify
from tests.channels.block_kit import words
from tests.conformance.test_applivery import LARGE, SMALL
from tests.conformance.test_applivery_events import ACTIONS, FLAG_OF

SCRIPT = Path(__file__).parents[2] / "examples/publish_build.py"
PAGE = Path(__file__).parents[2] / "docs/moving-from-applivery.md"


class App:
    """An application of a platform that was Applivery's customer."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.id = tenant.projects["app"]
        self.o = f"/v1/organizations/{tenant.organization}/notifications"
        self.a = f"/v1/organizations/{tenant.organization}/apps/app/notifications"

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = self.tenant.server.call(method, path, body, token=self.tenant.key)
        assert answer.status == status, answer
        return answer.json()

    def listen(self, path: str, url: str, *flags: str) -> Any:
        setup = {"webhook": {"url": url}}
        body = {"type": "webhook", "events": dict.fromkeys(flags, True), "setup": setup}
        return self.call("POST", path, body)["data"]


@pytest.fixture
def app(service: Server, request: pytest.FixtureRequest) -> App:
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return App(service.tenant(name[:60], projects=["app"]))


def test_every_type_arrives_with_its_action_at_both_levels(app: App, receiver: Receiver) -> None:
    whole = app.listen(app.o, receiver.url("/whole"), *LARGE)
    own = app.listen(app.a, receiver.url("/own"), *SMALL)
    sent = {
        app.tenant.publish(type, {"n": 1}, project="app")["id"]: (type, action)
        for type, action in ACTIONS.items()
    }
    for path, channel, types in (
        ("/whole", whole, list(ACTIONS)),
        ("/own", own, [type for type, flag in FLAG_OF.items() if flag in SMALL]),
    ):
        receipts = receiver.wait(len(types), path)
        assert {sent[receipt.event_id][0] for receipt in receipts} == set(types)
        assert len(receipts) == len(types)
        for receipt in receipts:
            verify(receipt, channel["config"]["webhook"]["token"])
            body = receipt.json()
            assert body.keys() == {
                *("action", "id", "organization", "application", "timestamp", "data")
            }
            assert body["action"] == sent[body["id"]][1]
            assert (body["organization"], body["application"], body["data"]) == (
                *(app.tenant.organization, app.id),
                {"n": 1},
            )
            assert receipt.headers["content-type"] == "application/json"
            assert receipt.headers["user-agent"].startswith("Tocsin/")
            assert "x-applivery-token" not in receipt.headers
    tested = app.tenant.call("POST", f"/channels/{own['id']}/test")
    assert tested.json()["success"] is True
    assert receiver.at("/own")[-1].json()["action"] == "test"


def test_a_put_takes_effect_at_once_and_the_token_stays(app: App, receiver: Receiver) -> None:
    made = app.listen(app.a, receiver.url("/old"), "buildCreated")
    app.tenant.publish("build.created", project="app")
    receiver.wait(1, "/old")
    change = {"setup": {"webhook": {"url": receiver.url("/new")}}}
    changed = app.call("PUT", f"{app.a}/{made['id']}", change)["data"]
    assert changed["config"]["webhook"]["token"] == made["config"]["webhook"]["token"]
    app.call("PUT", f"{app.a}/{made['id']}", {"events": {"feedbackCreated": True}})
    for type in ("build.created", "bug.created"):
        app.tenant.publish(type, project="app")
    for receipt in receiver.wait(2, "/new"):
        verify(receipt, made["config"]["webhook"]["token"])
    assert len(receiver.at("/old")) == 1


def test_a_put_revives_what_a_410_disabled(app: App, receiver: Receiver) -> None:
    receiver.behave("/gone", always(reply(410)))
    made = app.listen(app.a, receiver.url("/gone"), "buildCreated")
    event = app.tenant.publish("build.created", project="app")
    place = f"/channels/{made['id']}"
    until(lambda: not app.tenant.get(place)["enabled"], "disabled")
    app.call("PUT", f"{app.a}/{made['id']}", {"description": "still off"})
    assert app.tenant.get(place)["enabled"] is False
    app.call("PUT", f"{app.a}/{made['id']}", {"setup": {"webhook": {"url": receiver.url("/here")}}})
    assert app.tenant.get(place)["enabled"] is True
    (receipt,) = receiver.wait(1, "/here")
    assert receipt.event_id == event["id"]


def test_puts_at_once_leave_every_flag_set(app: App, receiver: Receiver) -> None:
    made = app.listen(app.o, receiver.url())

    def put(flag: str) -> Any:
        return app.call("PUT", f"{app.o}/{made['id']}", {"events": {flag: True}})

    with ThreadPoolExecutor(len(LARGE)) as pool:
        for flag, answer in zip(LARGE, pool.map(put, LARGE), strict=True):
            assert answer["data"]["events"][flag] is True
    events = app.call("GET", f"{app.o}/{made['id']}")["data"]["events"]
    assert events == dict.fromkeys(LARGE, True)


def test_a_delete_stops_what_waits(app: App, receiver: Receiver) -> None:
    receiver.behave("/down", always(reply(500)))
    made = app.listen(app.a, receiver.url("/down"), "buildCreated")
    app.tenant.change(made["id"], retry={"schedule": ["1s"] * 20})
    event = app.tenant.publish("build.created", project="app")
    receiver.wait(2, "/down")
    gone = app.call("DELETE", f"{app.a}/{made['id']}")
    assert gone == {"status": True, "data": {"delete": "OK"}}
    delivery = app.tenant.settled(event["id"], "cancelled")
    had = len(receiver.at("/down"))
    assert len(app.tenant.attempts(delivery["id"])) in (had, had - 1)
    app.call("GET", f"{app.a}/{made['id']}", status=404)


def environment(app: App) -> dict[str, str]:
    given = {
        "BASE": app.tenant.server.url,
        "ORG": app.tenant.organization,
        "APP": "app",
        "KEY": app.tenant.key,
        "NO_PROXY": "*",
    }
    return {**os.environ, **given}


def run(app: App, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment(app),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_publishes_a_builds_life(app: App, receiver: Receiver) -> None:
    hook = app.listen(app.a, receiver.url(), *SMALL)
    slack = FakeSlack(receiver)
    settings = {"url": slack.webhook("life")}
    body = {"name": "s", "type": "slack", "settings": settings, "project": "app"}
    assert app.tenant.call("POST", "/channels", body).status == 201
    said = run(app, "life")
    assert said.count("2 deliveries") == 5
    receipts = receiver.wait(5)
    for receipt in receipts:
        verify(receipt, hook["config"]["webhook"]["token"])
    assert {receipt.json()["action"] for receipt in receipts} == {
        *("build_created", "build_processed", "feedback_created", "bug_created"),
        "certificate_will_expire",
    }
    messages = receiver.wait(5, "/services/T024F4A92/B07GBUE3Z/life")
    shown = "\n".join(words(message.json()) for message in messages)
    for part in (
        "📦 New build: Fjord 4.2.0 (",
        "for iOS",
        "📦 Build ready: Fjord 4.2.0 (",
        "• Maps work offline.",
        "💬 Feedback from Ana on Fjord 4.2.0",
        "🐞 Bug in Fjord 4.2.0 reported by Ana",
        "It stops when the list of tickets is empty.",
        "⚠️ Apple Push: com.example.fjord expires in 30 days",
        "Open apps.example",
    ):
        assert part in shown, shown


def test_the_script_publishes_one_event(app: App, receiver: Receiver) -> None:
    app.listen(app.a, receiver.url(), "buildCreated")
    assert "1 deliveries" in run(app, "build.created", "app=Fjord", "version=4.2.0")
    (receipt,) = receiver.wait(1)
    assert receipt.json()["data"] == {"app": "Fjord", "version": "4.2.0"}


def test_the_commands_of_the_page_work(app: App, receiver: Receiver) -> None:
    """What stands in its shell blocks, run in turn; only the addresses are filled in."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("https://example.com/hook", receiver.url())
    assert "examples/publish_build.py" in lines
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", lines],
        env=environment(app) | {"PATH": path},
        cwd=SCRIPT.parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    receipts = receiver.wait(2)
    assert {receipt.json()["action"] for receipt in receipts} == {"build_created"}
    assert '"delete":"OK"' in done.stdout.replace(" ", "")

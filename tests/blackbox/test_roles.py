"""Nodes that do a part of the work: one takes events and serves the API, the other one sends."""

import re
from pathlib import Path

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import API, Server, until
from tests.blackbox.test_postgres import node, words
from tests.blackbox.test_start import refusal
from tests.postgres import server

SECONDS_MAX = 180.0


@pytest.mark.long
def test_taking_events_and_sending_them_apart(
    new_server: NewServer, receiver: Receiver, tmp_path: Path
) -> None:
    taking = new_server(store="postgres", role="api").start()
    tenant = taking.tenant("roles")
    channel = tenant.channel(receiver.url())
    # Whoever tests a channel waits for the answer: it is sent by the node that was asked.
    tested = tenant.call("POST", f"/channels/{channel['id']}/test")
    assert tested.status == 200, tested
    assert tested.json()["attempt"]["outcome"] == "delivered", tested
    before = len(receiver.at())
    first = tenant.publish(data=1)
    # It carries out no jobs either: they wait for a node that does.
    assert not duties_of(taking)
    sending = node(tmp_path / "sending", server().dsn(taking.database), TOCSIN_ROLE="engine")
    try:
        sending.start()
        tenant.settled(first["id"], "delivered", seconds=SECONDS_MAX)
        second = tenant.publish(data=2)
        tenant.settled(second["id"], "delivered", seconds=SECONDS_MAX)
        assert [receipt.json()["data"] for receipt in receiver.at()[before:]] == [1, 2]
        until(lambda: duties_of(taking), "the other node does what only one does", SECONDS_MAX)
        serves_nothing_but_its_state(sending)
        assert sending.stop() == 0, sending.said()
        # A clean stop leaves nothing to wait for.
        assert not duties_of(taking)
    finally:
        sending.close()
    assert taking.stop() == 0, taking.said()


def duties_of(served: Server) -> list[str]:
    """What a node has said it does for all."""
    rows = server().command("SELECT name FROM duties", served.database)
    return [row["name"] for row in rows]


def serves_nothing_but_its_state(sending: Server) -> None:
    for path in ("/healthz", "/readyz"):
        assert sending.call("GET", path, token=None).status == 200
        assert sending.call("POST", path, {}, token=None).status == 405
    assert sending.call("GET", "/metrics", token=None).status == 401
    page = sending.call("GET", "/metrics", token=sending.operator_token)
    assert page.status == 200
    sent = re.search(rb'tocsin_attempts_total\{[^}]*outcome="delivered"[^}]*\} (\d+)', page.body)
    assert sent is not None, page.body
    assert int(sent[1]) >= 2
    for path in (f"{API}/organizations", "/api/docs", "/v1/alert-rules", "/", "/link/" + "a" * 40):
        assert sending.call("GET", path, token=sending.operator_token).status == 404, path


def test_one_file_has_one_node_which_does_everything(tmp_path: Path) -> None:
    said = words(refusal(Server(tmp_path / "data", {"role": "engine"})))
    assert "TOCSIN_ROLE" in said
    assert "PostgreSQL" in said

"""Rotation on a real process: of a channel's secret, of its ed25519 key, and of the master key."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
import standardwebhooks
import svix
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receipt, Receiver
from tests.blackbox.server import Server, Tenant, until
from tests.blackbox.test_backup import tocsin
from tests.blackbox.test_start import refusal

from tocsin.crypto.sealing import new_master_key

CHANNELS = 30


def sent(tenant: Tenant, receiver: Receiver) -> Receipt:
    """What arrives of a new event."""
    event_id = tenant.publish(data={"ü": 1})["id"]
    tenant.settled(event_id, "delivered", seconds=60)
    (found,) = (one for one in receiver.at() if one.event_id == event_id)
    return found


def accepted(receipt: Receipt, secret: str) -> bool:
    """What both foreign verifiers say, who must agree."""
    said = []
    for library in (standardwebhooks, svix):
        try:
            library.Webhook(secret).verify(receipt.body, receipt.headers)
        except (standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError):
            said.append(False)
        else:
            said.append(True)
    assert len(set(said)) == 1
    return said[0]


def versions(receipt: Receipt) -> list[str]:
    return [one.partition(",")[0] for one in receipt.headers["webhook-signature"].split(" ")]


def by_key(receipt: Receipt, public_key: str) -> bool:
    """Whether one of the `v1a` signatures is by the key."""
    raw = base64.b64decode(public_key.removeprefix("whpk_"), validate=True)
    key = Ed25519PublicKey.from_public_bytes(raw)
    signed = f"{receipt.event_id}.{receipt.headers['webhook-timestamp']}.".encode() + receipt.body
    for one in receipt.headers["webhook-signature"].split(" "):
        version, _, signature = one.partition(",")
        if version == "v1a":
            try:
                key.verify(base64.b64decode(signature, validate=True), signed)
            except InvalidSignature:
                continue
            return True
    return False


def rotate(tenant: Tenant, channel_id: str, **fields: Any) -> Any:
    reply = tenant.call("POST", f"/channels/{channel_id}/rotate-secret", fields)
    assert reply.status == 200, reply
    return reply.json()


def test_both_secrets_are_good_until_the_overlap_ends(tenant: Tenant, receiver: Receiver) -> None:
    made = tenant.channel(receiver.url())
    assert "public_key" not in made
    path = f"/channels/{made['id']}"
    assert accepted(sent(tenant, receiver), made["secret"])
    new = rotate(tenant, made["id"])
    assert new.keys() == {"secret"}
    assert tenant.get(f"{path}/secret") == new
    receipt = sent(tenant, receiver)
    assert versions(receipt) == ["v1", "v1"]
    assert accepted(receipt, new["secret"])
    assert accepted(receipt, made["secret"])
    # Without an overlap it is exact from the answer on.
    newest = rotate(tenant, made["id"], overlap_seconds=0)
    receipt = sent(tenant, receiver)
    assert versions(receipt) == ["v1"]
    assert accepted(receipt, newest["secret"])
    assert not accepted(receipt, new["secret"])
    # A short overlap ends by itself.
    last = rotate(tenant, made["id"], overlap_seconds=1)
    until(lambda: len(versions(sent(tenant, receiver))) == 1, "the old one signs no more", 60)
    assert accepted(sent(tenant, receiver), last["secret"])
    audit = json.dumps(list(tenant.all("/audit", action="channel.update")))
    assert "rotated" in audit
    for one in (made, new, newest, last):
        assert one["secret"] not in audit
    assert tenant.call("POST", f"{path}/rotate-secret", {"overlap_seconds": -1}).status == 400


def test_a_type_without_a_secret_says_so(tenant: Tenant) -> None:
    settings = {"url": "https://hooks.slack.com/services/T000/B000/XXXXXXXX"}
    body = {"name": "slack", "type": "slack", "settings": settings}
    made = tenant.call("POST", "/channels", body).json()
    for method, call in (("POST", "rotate-secret"), ("GET", "secret")):
        reply = tenant.call(method, f"/channels/{made['id']}/{call}", {"POST": {}}.get(method))
        assert reply.status == 404
        assert "slack has no signing secret" in reply.json()["detail"]


def test_a_channel_that_asks_signs_with_its_key_too(tenant: Tenant, receiver: Receiver) -> None:
    url = receiver.url()
    made = tenant.channel(url, settings={"url": url, "asymmetric_signature": True})
    path = f"/channels/{made['id']}"
    read = tenant.get(path)
    assert read["settings"]["asymmetric_signature"] is True
    assert read["public_key"] == made["public_key"]
    keys = {"secret": made["secret"], "public_key": made["public_key"]}
    assert tenant.get(f"{path}/secret") == keys
    receipt = sent(tenant, receiver)
    assert versions(receipt) == ["v1", "v1a"]
    assert accepted(receipt, made["secret"])
    assert by_key(receipt, made["public_key"])
    # A rotation is of both.
    new = rotate(tenant, made["id"], overlap_seconds=600)
    receipt = sent(tenant, receiver)
    assert versions(receipt) == ["v1", "v1a", "v1", "v1a"]
    for one in (keys, new):
        assert accepted(receipt, one["secret"])
        assert by_key(receipt, one["public_key"])
    # Another change keeps the key; without the setting the channel is as it would be without it.
    assert tenant.change(made["id"], name="other")["public_key"] == new["public_key"]
    off = tenant.change(made["id"], settings={"asymmetric_signature": None})
    assert "public_key" not in off
    assert off["settings"].keys() == {"url", "send_token", "signing_secret"}
    assert versions(sent(tenant, receiver)) == ["v1", "v1"]


def test_the_command_rotates_a_secret(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start()
    tenant = server.tenant("acme")
    made = tenant.channel(receiver.url())
    told = tocsin(server, "channels", "rotate-secret", made["id"], "--overlap", "2h")
    assert told.returncode == 0, told.stderr
    secret = told.stdout.strip()
    receipt = sent(tenant, receiver)
    assert accepted(receipt, secret)
    assert accepted(receipt, made["secret"])
    told = tocsin(server, "channels", "rotate-secret", made["id"], "--overlap", "0", "--json")
    assert versions(sent(tenant, receiver)) == ["v1"]
    assert accepted(sent(tenant, receiver), json.loads(told.stdout)["secret"])
    told = tocsin(server, "channels", "rotate-secret", made["id"], "--overlap", "soon")
    assert told.returncode == 2
    assert "no duration" in told.stderr


# The master key


def with_keys(server: Server, *keys: str) -> Server:
    """The same server with these master keys, the first one sealing; not started."""
    server.settings["TOCSIN_MASTER_KEY"] = ",".join(keys)
    return server


@pytest.mark.long
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_the_master_key_is_rotated_while_deliveries_go_on(
    new_server: NewServer, receiver: Receiver, store: str
) -> None:
    old, new = new_master_key(), new_master_key()
    server = with_keys(new_server(store=store), old).start()
    tenant = server.tenant("acme")
    made = tenant.channel(
        receiver.url(),
        settings={"url": receiver.url(), "asymmetric_signature": True},
        headers={"x-token": "s3cr3t-of-a-header"},
    )
    quiet = {"event_types": ["nothing.at.all"]}
    others = [tenant.channel(receiver.url("/other"), **quiet) for _ in range(CHANNELS)]
    assert server.stop() == 0
    assert "TOCSIN_MASTER_KEY" in refusal(with_keys(server, new))
    with_keys(server, new, old).start()
    # Killed at some point of it, it goes on when it is begun again.
    begun = server.call("POST", "/api/v1/master-key/rotate", token=server.operator_token)
    assert begun.status == 202, begun
    server.kill()
    server.start()
    told = tocsin(server, "rotate-master-key", "--token", server.operator_token, "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert (answer["status"], answer["total"], answer["unreadable"]) == ("done", CHANNELS + 1, 0)
    check_signed(sent(tenant, receiver), made)
    assert server.stop() == 0
    assert "TOCSIN_MASTER_KEY" in refusal(with_keys(server, old))
    with_keys(server, new).start()
    receipt = sent(tenant, receiver)
    check_signed(receipt, made)
    assert receipt.headers["x-token"] == "s3cr3t-of-a-header"
    check_secrets(tenant, others)
    assert server.stop() == 0


def check_signed(receipt: Receipt, made: Any) -> None:
    assert accepted(receipt, made["secret"])
    assert by_key(receipt, made["public_key"])


def check_secrets(tenant: Tenant, made: Sequence[Any]) -> None:
    for one in made:
        assert tenant.get(f"/channels/{one['id']}/secret") == {"secret": one["secret"]}

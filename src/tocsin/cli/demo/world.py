"""What the demo makes in a fresh service: a tenant, and one channel through each dialect."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tocsin.cli.client import Api, at
from tocsin.cli.receiver import Secrets

ORGANIZATION = "acme"
PROJECT = "ios-app"
HOOKSTREAM_SECRET = "demo-shared-secret"  # noqa: S105 - of a channel that lives for minutes


@dataclass(frozen=True)
class Made:
    """One channel: through which dialect, by which call, heard on which path, how it is proved."""

    dialect: str
    call: str
    path: str
    hears: str
    proof: str
    secrets: Secrets


@dataclass(frozen=True)
class World:
    """Where the demo plays."""

    api: Api
    url: str
    key: str
    channels: tuple[Made, ...]

    def publish(self, type: str, data: dict[str, Any]) -> dict[str, Any]:
        """Publish an event of the project; the server's answer."""
        path = at("organizations", ORGANIZATION, "events")
        accepted: dict[str, Any] = self.api.call("POST", path, {"type": type, "data": data})
        return accepted

    def deliveries(self) -> list[dict[str, Any]]:
        """The log of every delivery so far."""
        path = at("organizations", ORGANIZATION, "deliveries")
        return [one for page in self.api.pages(path, {}) for one in page["data"]]


def make_world(
    url: str, operator_token: str, receiver_url: str, told: Callable[[Made], None]
) -> World:
    """Make it all; `told` hears of each channel."""
    operator = Api(url, operator_token)
    operator.call("POST", at("organizations"), {"name": "Acme", "slug": ORGANIZATION})
    operator.call(
        "POST", at("organizations", ORGANIZATION, "projects"), {"name": "iOS app", "slug": PROJECT}
    )
    bound = {"name": "demo", "project": PROJECT}
    key = operator.call("POST", at("organizations", ORGANIZATION, "keys"), bound)["token"]
    api = Api(url, key)
    channels = []
    for make in (_applivery, _hookstream, _native):
        made = make(api, url, key, receiver_url)
        channels.append(made)
        told(made)
    return World(api, url, key, tuple(channels))


def _applivery(api: Api, url: str, key: str, receiver_url: str) -> Made:
    path = f"/v1/organizations/{ORGANIZATION}/apps/{PROJECT}/notifications"
    body = {
        "type": "webhook",
        "events": {"buildCreated": True, "buildProcessed": True},
        "setup": {"webhook": {"url": f"{receiver_url}/applivery"}},
    }
    token = api.call("POST", path, body)["data"]["config"]["webhook"]["token"]
    return Made(
        "Applivery",
        f"POST {path}",
        "/applivery",
        "builds created and processed",
        "the token it answered",
        Secrets.of([token]),
    )


def _hookstream(api: Api, url: str, key: str, receiver_url: str) -> Made:
    path = "/v1/notification-channels"
    config = {"url": f"{receiver_url}/hookstream", "secret": HOOKSTREAM_SECRET}
    body = {"name": "demo", "channel_type": "webhook", "config": config}
    # This dialect's own credential header, with the same key.
    channel = Api(url, key, as_api_key=True).call("POST", path, body)["channel"]
    place = at("organizations", ORGANIZATION, "channels", quote(channel["id"]), "secret")
    secret = api.call("GET", place)["secret"]
    return Made(
        "hookstream",
        f"POST {path}",
        "/hookstream",
        "everything",
        "our own secret and the channel's",
        Secrets.of([secret, HOOKSTREAM_SECRET]),
    )


def _native(api: Api, url: str, key: str, receiver_url: str) -> Made:
    path = at("organizations", ORGANIZATION, "channels")
    body = {
        "name": "demo",
        "type": "webhook",
        "settings": {"url": f"{receiver_url}/native"},
        "event_types": ["build.*"],
        "retry": {"schedule": ["1s", "1s", "2s"]},
    }
    secret = api.call("POST", path, body)["secret"]
    return Made(
        "Tocsin",
        f"POST {path}",
        "/native",
        "build.*",
        "the secret it answered",
        Secrets.of([secret]),
    )

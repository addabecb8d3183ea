"""One channel in three dialects: made in one, then read, changed, tested and deleted in the others.

Whoever adds a channel type adds its `Sample`. Applivery knows Slack and webhooks only, and makes
Slack channels by OAuth, which has tests of its own.
"""

import json
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pytest
from msgspec import Struct
from tests.conformance.tenant import HOOK, MASK, Tenant
from tests.hostile.world import SETTINGS, World

from tocsin.app import App
from tocsin.channels import channel_types
from tocsin.config import load

pytestmark = pytest.mark.anyio

APPLIVERY = ("slack", "webhook")
SLACK = "http://127.0.0.9:9/services/T1/B1/"
DISCORD = "http://127.0.0.9:9/api/webhooks/1/"
MAIL: dict[str, Any] = {"smtp_url": "smtp://127.0.0.9:9", "smtp_from": "tocsin@example.com"}


class Sample(Struct, frozen=True):
    """Settings of a type as hookstream's `config`, natively, and how both read back; `other` is
    another config, and `read` how that one reads in both."""

    config: Any
    settings: Any
    shown: Any
    masked: Any
    other: Any
    read: Any


SAMPLES = {
    "webhook": Sample(
        config={"url": HOOK, "secret": "s3cret"},
        settings={"url": HOOK, "signing_secret": "s3cret"},
        shown={"url": HOOK, "secret": MASK},
        masked={"url": HOOK, "signing_secret": MASK},
        other={"url": HOOK + "/other", "secret": MASK},
        read={"url": HOOK + "/other"},
    ),
    "slack": Sample(
        config={"webhook_url": SLACK + "x"},
        settings={"url": SLACK + "x"},
        shown={"url": SLACK + MASK},
        masked={"url": SLACK + MASK},
        other={"url": SLACK.replace("B1", "B2") + "y"},
        read={"url": SLACK.replace("B1", "B2") + MASK},
    ),
    "discord": Sample(
        config={"webhook_url": DISCORD + "x"},
        settings={"url": DISCORD + "x"},
        shown={"url": DISCORD + MASK},
        masked={"url": DISCORD + MASK},
        other={"url": DISCORD.replace("/1/", "/2/") + "y"},
        read={"url": DISCORD.replace("/1/", "/2/") + MASK},
    ),
    "email": Sample(
        config={"email": "ana@example.com"},
        settings={"to": ["ana@example.com"]},
        shown={"to": ["ana@example.com"]},
        masked={"to": ["ana@example.com"]},
        other={"to": ["ana@example.com", "bo@example.com"]},
        read={"to": ["ana@example.com", "bo@example.com"]},
    ),
}
MADE = [
    pytest.param(dialect, type, id=f"{type} by {dialect}")
    for type in channel_types()
    for dialect in ("native", "hookstream", "applivery")
    if dialect != "applivery" or type == "webhook"
]

_numbers = count()


@pytest.fixture(scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A service that can also send mail, to a server that refuses every connection."""
    settings = SETTINGS | MAIL | {"data_dir": tmp_path_factory.mktemp("matrix")}
    async with App(load(settings)) as app:
        found = World(app)
        yield found
        found.close()


@pytest.fixture
async def home(matrix: World) -> Tenant:
    return Tenant(matrix, await matrix.tenant(f"matrix {next(_numbers)}"))


class Made(Struct):
    """A channel, and its paths in each dialect; `applivery` is empty where it has none."""

    home: Tenant
    type: str
    id: str

    @property
    def native(self) -> str:
        return f"{self.home.native}/channels/{self.id}"

    @property
    def hookstream(self) -> str:
        return f"{self.home.h}/{self.id}"

    @property
    def applivery(self) -> str:
        return f"{self.home.a}/{self.id}" if self.type in APPLIVERY else ""

    async def change(self, method: str, path: str, body: Any) -> None:
        answer = await self.home.call(method, path, body)
        assert answer.status == 200, answer

    async def gone(self) -> None:
        for path in filter(None, (self.native, self.hookstream, self.applivery)):
            await self.home.get(path, status=404)


async def make(home: Tenant, dialect: str, type: str) -> Made:
    sample = SAMPLES[type]
    project = home.names["project"]
    if dialect == "native":
        body = {"name": "made", "type": type, "settings": sample.settings, "project": project}
        return Made(home, type, (await home.post("/channels", body))["id"])
    if dialect == "hookstream":
        body = {"name": "made", "channel_type": type, "config": sample.config, "env_id": project}
        return Made(home, type, (await home.post(home.h, body))["channel"]["id"])
    body = {"type": type, "description": "made", "setup": {"webhook": {"url": HOOK}}}
    made = Made(home, type, (await home.post(home.a, body, status=200))["data"]["id"])
    # This dialect has no other secret than the signature's: the others do.
    await made.change("PATCH", made.hookstream, {"config": sample.config})
    return made


async def reads(made: Made, name: str, *, enabled: bool, shown: Any, masked: Any) -> None:
    """The same channel in every dialect."""
    native = await made.home.get(made.native)
    assert (native["name"], native["type"], native["enabled"]) == (name, made.type, enabled)
    settings = native["settings"]
    assert {key: value for key, value in settings.items() if key in masked} == masked
    channel = (await made.home.get(made.hookstream))["channel"]
    assert (channel["name"], channel["channel_type"]) == (name, made.type)
    assert (channel["enabled"], channel["event_types"]) == (int(enabled), native["event_types"])
    assert json.loads(channel["config"]) == shown
    assert (channel["error_count"], channel["last_error"]) == (
        native["error_count"],
        native["last_error"],
    )
    listed = (await made.home.get(made.home.h + "?limit=100"))["channels"]
    assert channel in listed
    if made.applivery:
        data = (await made.home.get(made.applivery))["data"]
        assert (data["type"], data["application"]) == (made.type, made.home.names["project"])
        if made.type == "webhook":
            assert data["config"]["webhook"]["url"] == shown["url"]


def test_every_type_has_a_sample() -> None:
    assert set(SAMPLES) == set(channel_types())


@pytest.mark.parametrize(("dialect", "type"), MADE)
async def test_read_and_changed_in_all(home: Tenant, dialect: str, type: str) -> None:
    sample = SAMPLES[type]
    made = await make(home, dialect, type)
    await reads(made, "made", enabled=True, shown=sample.shown, masked=sample.masked)
    await made.change("PATCH", made.hookstream, {"name": "by hookstream", "enabled": 0})
    await reads(made, "by hookstream", enabled=False, shown=sample.shown, masked=sample.masked)
    change = {"name": "by native", "enabled": True, "event_types": ["build.created"]}
    await made.change("PATCH", made.native, change)
    await reads(made, "by native", enabled=True, shown=sample.shown, masked=sample.masked)
    # Masked text of any dialect is good in the others.
    await made.change("PATCH", made.hookstream, {"config": sample.shown})
    await made.change("PATCH", made.native, {"settings": sample.masked})
    await reads(made, "by native", enabled=True, shown=sample.shown, masked=sample.masked)
    await made.change("PATCH", made.hookstream, {"config": sample.other})
    other = sample.other if type == "webhook" else sample.read
    await reads(made, "by native", enabled=True, shown=other, masked=sample.read)
    if made.applivery:
        body = {"description": "by applivery", "events": {"buildProcessed": True}}
        await made.change("PUT", made.applivery, body)
        await reads(made, "by native", enabled=True, shown=other, masked=sample.read)
        native = await home.get(made.native)
        assert native["description"] == "by applivery"
        assert native["event_types"] == ["build.created", "build.processed"]
    if type == "webhook":
        # Whoever made it, its format and its own secret are what they were.
        assert (await home.get(made.native))["format"] == (
            "tocsin" if dialect == "native" else dialect
        )


@pytest.mark.parametrize(("dialect", "type"), MADE)
async def test_tested_in_all(home: Tenant, dialect: str, type: str) -> None:
    made = await make(home, dialect, type)
    here = (await home.call("POST", made.hookstream + "/test")).json()
    there = (await home.call("POST", made.native + "/test")).json()
    assert (here["success"], there["success"]) == (False, False)
    assert here["error"].partition(":")[0] == there["attempt"]["error"].partition(":")[0]
    channel = (await home.get(made.hookstream))["channel"]
    native = await home.get(made.native)
    assert channel["error_count"] == native["error_count"] == 2
    assert channel["last_error"] == native["last_error"] == there["attempt"]["error"]
    assert (native["status"], native["enabled"]) == ("active", True)


@pytest.mark.parametrize(("dialect", "type"), MADE)
async def test_deleted_in_any(home: Tenant, dialect: str, type: str) -> None:
    for deleter in ("native", "hookstream", "applivery"):
        made = await make(home, dialect, type)
        path = getattr(made, deleter)
        if path:
            answer = await home.call("DELETE", path)
            assert answer.status == (204 if deleter == "native" else 200)
            await made.gone()


async def test_levels_and_types_that_a_dialect_has_not(home: Tenant) -> None:
    """Each dialect sees its own part of the channels, and none stumbles over the others."""
    whole = home.names["whole"]
    await home.get(f"{home.h}/{whole}", status=404)
    await home.get(f"{home.o}/{whole}")
    hidden = [type for type in channel_types() if type not in APPLIVERY]
    ids = [(await make(home, "hookstream", type)).id for type in hidden]
    listed = {one["id"] for one in (await home.get(home.a))["data"]["items"]}
    assert not listed & set(ids)
    for id in ids:
        await home.get(f"{home.a}/{id}", status=404)

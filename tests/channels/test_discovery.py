"""The registry, plug-ins, and what the base class does for types with secrets in transit."""

import importlib
import logging
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from tests.channels.contract import CANARY, ChannelTypeContract, sending

from tocsin.channels import (
    ENTRY_POINT_GROUP,
    ChannelType,
    Sending,
    Settings,
    channel_types,
    discover,
    origin_of,
    shown_url,
)
from tocsin.channels.base import post_json
from tocsin.channels.fields import field, secret
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Request
from tocsin.domain.text import MASK


class PagerSettings(Settings, frozen=True):
    url: Annotated[str, field("URL")]
    token: Annotated[str, secret("Token", "A bearer token.", transmitted=True)]
    urgency: Annotated[int, field("Urgency", ge=1, le=5)] = 3
    to: Annotated[list[str], field("Recipients", max_length=3)] = msgspec.field(
        default_factory=list
    )


class Pager(ChannelType[PagerSettings]):
    name = "pager"
    title = "Pager"
    settings_type = PagerSettings

    def build(self, sending: Sending, settings: PagerSettings) -> Request:
        bearer = ("authorization", f"Bearer {settings.token}")
        return post_json(settings.url, {"type": sending.event.type}, (bearer,))


class Impostor(Pager):
    name = "webhook"


class Misnamed(Pager):
    name = "No Slug"


PAGER, IMPOSTOR, MISNAMED, NO_TYPE = Pager(), Impostor(), Misnamed(), object()
URL = "https://pager.example/in"
STORED = {"url": URL, "token": CANARY, "urgency": 2}


class TestPager(ChannelTypeContract):
    """The contract itself, on a type that people read."""

    type: ClassVar[ChannelType[Any]] = PAGER
    settings = {**STORED, "to": ["a"]}  # noqa: RUF012


def plug_in(name: str) -> EntryPoint:
    return EntryPoint(name.lower(), f"{__name__}:{name}", ENTRY_POINT_GROUP)


def test_every_registered_type_has_a_contract_test() -> None:
    here = Path(__file__).parent
    for path in here.glob("test_*.py"):
        importlib.import_module(f"tests.channels.{path.stem}")
    tested = {c.type.name for c in ChannelTypeContract.__subclasses__() if hasattr(c, "type")}
    assert channel_types().keys() - tested == set()


def test_types_are_sorted_and_can_t_be_changed() -> None:
    types = discover([plug_in("PAGER")])
    assert list(types) == sorted(types)
    assert types["pager"] is PAGER
    assert types["webhook"].signs
    with pytest.raises(TypeError):
        types["x"] = PAGER  # type: ignore[index]


@pytest.mark.parametrize("name", ["IMPOSTOR", "MISNAMED", "NO_TYPE", "ABSENT"])
def test_a_broken_plug_in_is_left_out_and_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    missing = EntryPoint("gone", "no.such.module:X", ENTRY_POINT_GROUP)
    with caplog.at_level(logging.ERROR):
        types = discover([plug_in(name), missing, plug_in("PAGER")])
    assert "pager" in types
    assert types["webhook"] is channel_types()["webhook"]
    assert f"'{name.lower()}' was left out" in caplog.text
    assert "'gone' was left out" in caplog.text


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({**STORED, "urgency": True}, "settings.urgency"),
        ({**STORED, "urgency": 6}, "settings.urgency"),
        ({**STORED, "urgency": "3"}, "settings.urgency"),
        ({**STORED, "to": ["a", 1]}, "settings.to[1]"),
        ({**STORED, "to": ["a\0"]}, "settings.to"),
        ({**STORED, "to": ["a"] * 4}, "settings.to"),
        ({"url": URL}, "settings.token"),
        ({}, "settings.url"),
    ],
)
def test_errors_name_the_field(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        PAGER.parse_settings(raw)
    assert caught.value.problems[0].field == field


@pytest.mark.parametrize(
    "url", ["http://pager.example/in", "https://other.example/in", "https://pager.example:8443/in"]
)
def test_a_transmitted_secret_is_forgotten_when_the_origin_changes(url: str) -> None:
    assert PAGER.merge_masked({"url": url}, STORED) == {"url": url, "urgency": 2}
    assert PAGER.merge_masked({"url": url, "token": "new"}, STORED)["token"] == "new"
    with pytest.raises(Invalid, match="another origin"):
        PAGER.merge_masked({"url": url, "token": MASK}, STORED)


@pytest.mark.parametrize(
    "url", ["https://PAGER.example:443/other?x", URL, "https://pager.example."]
)
def test_it_stays_when_the_origin_does(url: str) -> None:
    assert PAGER.merge_masked({"url": url}, STORED)["token"] == CANARY
    assert PAGER.merge_masked({"url": url, "token": MASK}, STORED)["token"] == CANARY


def test_origins() -> None:
    assert origin_of("HTTP://Example.COM/x") == ("http", "example.com", 80)
    assert origin_of("https://[2001:DB8::1]:8443") == ("https", "[2001:db8::1]", 8443)
    assert origin_of("nonsense") is None
    assert shown_url(f"https://hooks.example/services/{CANARY}") == "https://hooks.example"
    assert shown_url(CANARY) == "?"


def test_a_type_may_leave_sending_to_the_engine_only() -> None:
    assert PAGER.speaks_http
    request = PAGER.build(sending(), PAGER.parse_settings(STORED))
    assert dict(request.headers)["content-type"] == "application/json"

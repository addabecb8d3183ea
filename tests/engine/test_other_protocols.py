"""Channel types that do not speak HTTP: the same gate, timeout, log and journal as all others."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.engine.parts import Parts, running
from tests.storage.stores import ORGANIZATION

from tocsin.channels import ChannelType, Sending, Settings
from tocsin.channels.fields import field
from tocsin.domain.exchange import Reply
from tocsin.domain.outcome import Outcome, Reason, Rejected
from tocsin.net.errors import NotSent, SendFailed

pytestmark = pytest.mark.anyio

Send = Callable[[Callable[[], bool]], Awaitable[Reply | Outcome]]


class PigeonSettings(Settings, frozen=True):
    url: Annotated[str, field("Where to")]


class Pigeon(ChannelType[PigeonSettings]):
    """Does what the test says, once per attempt."""

    name = "pigeon"
    title = "Pigeon"
    speaks_http = False
    settings_type = PigeonSettings

    def __init__(self, *flights: Send) -> None:
        self.flights = list(flights)

    async def send(
        self, sending: Sending, settings: PigeonSettings, may_write: Callable[[], bool]
    ) -> Reply | Outcome:
        return await self.flights.pop(0)(may_write)


async def lofted(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, *flights: Send, **over: Any
) -> None:
    """A channel of the pigeon's."""
    pigeon = Pigeon(*flights)
    monkeypatch.setattr(parts.engine._targets, "_type_of", lambda _: pigeon)
    await parts.channel("http://loft.example/", type="pigeon", **over)


def landing(status: int, body: bytes = b"", note: str | None = None) -> Send:
    async def flight(may_write: Callable[[], bool]) -> Reply:
        assert may_write()
        return Reply(status=status, headers=(), body=body, note=note)

    return flight


def lost(error: Exception) -> Send:
    async def flight(may_write: Callable[[], bool]) -> Reply:
        raise error

    return flight


async def test_a_reply_is_judged_and_its_code_is_not_taken_for_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as parts:
        flights = landing(503, b"busy", "truncated"), landing(250, b"thanks")
        await lofted(parts, monkeypatch, *flights)
        await parts.publish()
        (delivery,) = await parts.settled(1)
        first, second = await parts.attempts(2)
    assert delivery["status"] == "delivered"
    assert (first["status_code"], second["status_code"]) == (None, None)
    assert (first["response_body"], second["response_body"]) == ("busy", "thanks")
    assert (first["error"], second["error"]) == ("http_status: 503 (truncated)", None)


async def test_an_outcome_may_be_given_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flight(may_write: Callable[[], bool]) -> Outcome:
        return Rejected(Reason.TARGET_REFUSED, "no")

    async with running(tmp_path) as parts:
        await lofted(parts, monkeypatch, flight)
        await parts.publish()
        (delivery,) = await parts.settled(1)
    assert (delivery["status"], delivery["last_error"]) == ("rejected", "target_refused: no")


async def test_it_ends_with_the_channel_s_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = asyncio.Event()

    async def flight(may_write: Callable[[], bool]) -> Reply:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with running(tmp_path) as parts:
        await lofted(parts, monkeypatch, flight, landing(250), timeout_ms=1000)
        await parts.publish()
        (delivery,) = await parts.settled(1)
        first, _ = await parts.attempts(2)
        await parts.idle()
        assert len(parts.engine.dispatcher.journal.free) == 2_000
    assert cancelled.is_set()
    assert (delivery["status"], first["error"]) == ("delivered", "timeout")


async def test_what_its_transport_raises_has_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as parts:
        failure = SendFailed(Reason.TLS_FAILED, "no certificate")
        await lofted(parts, monkeypatch, lost(failure), lost(RuntimeError("x")), landing(250),
                     schedule=("1s", "1s"))  # fmt: skip
        await parts.publish()
        (delivery,) = await parts.settled(1)
        first, second, _ = await parts.attempts(3)
    assert delivery["status"] == "delivered"
    assert first["error"] == "tls_failed: no certificate"
    assert second["error"] == "internal_error: RuntimeError"


async def test_what_the_gate_stops_is_no_attempt_and_goes_by_the_new_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel changes while the type connects: nothing with the old settings goes out."""
    asked: list[bool] = []

    async with running(tmp_path) as parts:

        async def flight(may_write: Callable[[], bool]) -> Reply:
            asked.append(may_write())
            parts.engine.forget(ORGANIZATION)
            asked.append(may_write())
            raise NotSent

        await lofted(parts, monkeypatch, flight, landing(250))
        await parts.publish()
        (delivery,) = await parts.settled(1)
        found = await parts.attempts(1)
    assert asked == [True, False]
    assert delivery["status"] == "delivered"
    assert [row["outcome"] for row in found] == ["delivered"]

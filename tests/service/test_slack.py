"""Consents to channels, with a Slack that is a function."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from tests.service.parts import OPERATOR, Parts, caller, open_parts

from tocsin.domain.errors import (
    Forbidden,
    Invalid,
    QuotaExceeded,
    RateLimited,
    SlackNotConfigured,
    SlackRefused,
    Unavailable,
)
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.model import ChannelState, Role
from tocsin.domain.outcome import Reason
from tocsin.net import ReadLimits, SendFailed
from tocsin.service.drafts import ChannelDraft
from tocsin.service.sight import Page, Sight
from tocsin.service.slack import AT_ONCE_MAX, EXCHANGE_SECONDS_MAX, Installed, SlackSetup

pytestmark = pytest.mark.anyio

CODE = "c0d3-4724469134"
SECRET = "c1i3nt-53cr3t"
HOOK = "https://hooks.slack.com/services/T1/B1/h00k-53cr3t"
URI = "https://dashboard.example/r3turn"

Answerer = Callable[[Request], Awaitable[Reply]]


def granted(team: Any = "Fjord", channel: Any = "#ops", url: Any = HOOK) -> Reply:
    webhook = {"url": url, "channel": channel}
    document = {"ok": True, "team": {"name": team}, "incoming_webhook": webhook}
    return Reply(status=200, headers=(), body=msgspec.json.encode(document))


async def grant(request: Request) -> Reply:
    return granted()


class Slack:
    """Answers by `answer`; notes how it was asked."""

    def __init__(self) -> None:
        self.answer: Answerer = grant
        self.requests: list[Request] = []
        self.organizations: list[str] = []

    async def send(
        self, request: Request, *, organization: str, timeout_seconds: float, limits: ReadLimits
    ) -> Reply:
        assert timeout_seconds == EXCHANGE_SECONDS_MAX
        self.requests.append(request)
        self.organizations.append(organization)
        return await self.answer(request)


@pytest.fixture
def slack() -> Slack:
    return Slack()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path, channels_max=2) as found:
        yield found


@pytest.fixture
def setup(parts: Parts, slack: Slack) -> SlackSetup:
    return made(parts, slack)


def made(parts: Parts, slack: Slack, **over: str) -> SlackSetup:
    given = {"client_id": "1.2", "client_secret": SECRET, "api_url": "https://slack.example/api/"}
    return SlackSetup(
        channels=parts.channels, sender=slack, wall_ms=parts.clock.wall_ms, **(given | over)
    )


async def connect(setup: SlackSetup, sight: Sight, name: str = "", **more: Any) -> ChannelState:
    draft = ChannelDraft(name=name, type="slack", settings={}, **more)
    return await setup.create(OPERATOR, sight, draft, code=CODE, redirect_uri=URI)


async def count(parts: Parts, sight: Sight) -> int:
    return len((await parts.channels.list(OPERATOR, sight, Page(limit=50))).items)


async def test_it_is_one_form_post(parts: Parts, slack: Slack, setup: SlackSetup) -> None:
    sight = await parts.organization()
    state = await connect(setup, sight)
    (request,) = slack.requests
    assert (request.method, request.url) == ("POST", "https://slack.example/api/oauth.v2.access")
    assert dict(request.headers)["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode(), strict_parsing=True) == {
        "client_id": ["1.2"],
        "client_secret": [SECRET],
        "code": [CODE],
        "redirect_uri": [URI],
    }
    assert slack.organizations == [sight.organization_id]
    assert parts.vetted == [HOOK]
    assert parts.vault.open(state.channel).settings == {
        "url": HOOK,
        "team": "Fjord",
        "channel": "#ops",
    }


@pytest.mark.parametrize(
    ("reply", "given", "name"),
    [
        (granted(), "Mine", "Mine"),
        (granted(), "", "slack Fjord/#ops"),
        (granted(team=None), "", "slack #ops"),
        (granted(team=7, channel=""), "", "slack hooks.slack.com"),
        (granted(team="T" * 500), "", "slack " + "T" * 122),
        (granted(team="a••••\nb"), "", "slack a…␊b/#ops"),
    ],
)
async def test_it_gets_a_name(
    reply: Reply, given: str, name: str, parts: Parts, slack: Slack, setup: SlackSetup
) -> None:
    async def answer(request: Request) -> Reply:
        return reply

    slack.answer = answer
    sight = await parts.organization()
    state = await connect(setup, sight, given)
    assert state.channel.name == name


async def test_no_transaction_is_open_meanwhile(
    parts: Parts, slack: Slack, setup: SlackSetup
) -> None:
    sight = await parts.organization()

    async def answer(request: Request) -> Reply:
        for number in range(2):
            await parts.channel(sight, name=f"meanwhile {number}")
        return granted()

    slack.answer = answer
    with pytest.raises(QuotaExceeded):
        await connect(setup, sight)
    assert await count(parts, sight) == 2


async def test_slack_is_asked_last(parts: Parts, slack: Slack, setup: SlackSetup) -> None:
    sight = await parts.organization()
    viewer = caller(sight, Role.VIEWER)
    draft = ChannelDraft(name="", type="slack", settings={})
    with pytest.raises(Forbidden):
        await setup.create(viewer, sight, draft, code=CODE, redirect_uri=URI)
    for more in ({"project": "f" * 24}, {"event_types": ["no good"]}, {"filter": [{"field": "x"}]}):
        with pytest.raises(Invalid):
            await connect(setup, sight, **more)
    for _ in range(2):
        await parts.channel(sight)
    with pytest.raises(QuotaExceeded):
        await connect(setup, sight)
    assert slack.requests == []


@pytest.mark.parametrize("missing", ["client_id", "client_secret"])
async def test_it_needs_an_app(missing: str, parts: Parts, slack: Slack) -> None:
    sight = await parts.organization()
    with pytest.raises(SlackNotConfigured):
        await connect(made(parts, slack, **{missing: ""}), sight)
    assert slack.requests == []


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.ADDRESS_REFUSED, Reason.TLS_FAILED])
async def test_no_answer_is_unavailable(
    reason: Reason, parts: Parts, slack: Slack, setup: SlackSetup
) -> None:
    async def answer(request: Request) -> Reply:
        raise SendFailed(reason)

    slack.answer = answer
    sight = await parts.organization()
    with pytest.raises(Unavailable) as caught:
        await connect(setup, sight)
    assert caught.value.retry_after_seconds == 10
    assert await count(parts, sight) == 0


@pytest.mark.parametrize("url", ["https://refused.example/x", "https://invalid.example/x", "", 5])
async def test_a_webhook_that_is_no_target_is_slack_s_fault(
    url: Any, parts: Parts, slack: Slack, setup: SlackSetup
) -> None:
    async def answer(request: Request) -> Reply:
        return granted(url=url)

    slack.answer = answer
    sight = await parts.organization()
    with pytest.raises(Unavailable):
        await connect(setup, sight)
    assert await count(parts, sight) == 0


async def test_few_at_once_for_each_organization(
    parts: Parts, slack: Slack, setup: SlackSetup
) -> None:
    sight, other = await parts.organization(), await parts.organization("Other")
    all_in, held = asyncio.Event(), asyncio.Event()

    async def answer(request: Request) -> Reply:
        if len(slack.requests) == AT_ONCE_MAX:
            all_in.set()
        await held.wait()
        return Reply(status=200, headers=(), body=b'{"ok":false,"error":"invalid_code"}')

    slack.answer = answer
    waiting = [asyncio.ensure_future(connect(setup, sight)) for _ in range(AT_ONCE_MAX)]
    await all_in.wait()
    with pytest.raises(RateLimited):
        await connect(setup, sight)
    waiting.append(asyncio.ensure_future(connect(setup, other)))
    held.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, SlackRefused) for result in results)
    with pytest.raises(SlackRefused, match="invalid_code"):
        await connect(setup, sight)


def files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


async def test_nothing_secret_is_written_anywhere(
    parts: Parts, slack: Slack, setup: SlackSetup, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sight = await parts.organization()
    with caplog.at_level(logging.DEBUG):
        await connect(setup, sight)
        for body in (f'{{"ok":false,"error":"{CODE}"}}', f'{{"ok":true,"x":"{SECRET}"}}', CODE):

            async def answer(request: Request, body: str = body) -> Reply:
                return Reply(status=200, headers=(), body=body.encode())

            slack.answer = answer
            with pytest.raises((SlackRefused, Unavailable)) as caught:
                await connect(setup, sight)
            assert CODE not in str(caught.value)
    held = files(tmp_path)
    assert held
    for secret in (CODE, SECRET, HOOK, "h00k-53cr3t", URI):
        assert secret not in caplog.text
        assert secret not in repr(Installed(HOOK, "Fjord", "#ops"))
        assert not any(secret.encode() in one for one in held)

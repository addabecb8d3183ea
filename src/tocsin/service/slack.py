"""Slack channels by OAuth: the code of Slack's consent page is exchanged for an incoming webhook.

The exchange is one form POST to `oauth.v2.access` (docs.slack.dev/reference/methods). Code,
redirect URI, client secret and the tokens in Slack's answer are neither kept nor logged; all that
is kept is the webhook's URL, sealed, and the names of workspace and channel.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tocsin.channels import check_url, origin_of
from tocsin.channels.base import USER_AGENT
from tocsin.domain.errors import (
    Invalid,
    RateLimited,
    SlackNotConfigured,
    SlackRefused,
    Unavailable,
)
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.model import ChannelState, OrganizationId
from tocsin.domain.permissions import Caller
from tocsin.domain.retry import parse_retry_after
from tocsin.domain.text import CUT, MASK, shortened, visible
from tocsin.net import ReadLimits, SendFailed
from tocsin.service.channel_rules import NAME_CHARS_MAX
from tocsin.service.channels import ChannelDraft, Channels
from tocsin.service.sight import Sight

EXCHANGE_SECONDS_MAX = 10.0
AT_ONCE_MAX = 5
"""So many exchanges of one organization at a time; more are refused."""
RETRY_SECONDS = 10
LABEL_CHARS_MAX = 128
ERROR_CHARS_MAX = 64

# An answer of Slack's lists all scopes and tokens; it is larger than what is kept of a delivery's.
_LIMITS = ReadLimits(body_kept_bytes_max=64 * 1024)

# What Slack calls its own trouble, not the code's.
_PASSING = {
    "fatal_error",
    "internal_error",
    "ratelimited",
    "request_timeout",
    "service_unavailable",
}
_MISCONFIGURED = {"bad_client_secret", "invalid_client_id"}

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """The outbound HTTP client, as far as it is needed here."""

    async def send(
        self, request: Request, *, organization: str, timeout_seconds: float, limits: ReadLimits
    ) -> Reply:
        """The reply to a request; raises `SendFailed`."""
        ...


class Installed(Struct, frozen=True):
    """What Slack gave for a code. The URL is a secret."""

    url: str
    team: str | None
    channel: str | None

    def __repr__(self) -> str:
        return f"Installed(url={MASK}, team={self.team!r}, channel={self.channel!r})"


class SlackSetup:
    """Makes Slack channels out of consents; without a client id and secret it refuses to."""

    def __init__(
        self,
        *,
        channels: Channels,
        sender: Sender,
        client_id: str,
        client_secret: str,
        api_url: str,
        wall_ms: Callable[[], int],
    ) -> None:
        self._channels = channels
        self._sender = sender
        self._client_id = client_id
        self._client_secret = client_secret
        self._url = f"{api_url.rstrip('/')}/oauth.v2.access"
        self._wall_ms = wall_ms
        self._running: Counter[str] = Counter()

    async def create(
        self,
        caller: Caller,
        sight: Sight,
        draft: ChannelDraft,
        *,
        code: str,
        redirect_uri: str,
        operation: str = "channel.create",
    ) -> ChannelState:
        """Make a channel where Slack's user wants it; a draft without a name gets one.

        A code works once, so everything else is checked before Slack is asked. Raises what
        `Channels.create` does, SlackNotConfigured, SlackRefused with Slack's error, and Unavailable
        when Slack can't be asked or answers nonsense; nothing is stored then.
        """
        named = bool(draft.name)
        draft = replace(draft, type="slack", settings={}, name=draft.name or "slack")
        await self._channels.rehearse(caller, sight, draft, operation=operation)
        if not self._client_id or not self._client_secret:
            raise SlackNotConfigured
        installed = await self._bounded_exchange(sight.organization_id, code, redirect_uri)
        settings = {"url": installed.url, "team": installed.team, "channel": installed.channel}
        draft = replace(
            draft,
            name=draft.name if named else _name(installed),
            settings={name: value for name, value in settings.items() if value is not None},
        )
        try:
            state, _ = await self._channels.create(caller, sight, draft, operation=operation)
        except Invalid as error:
            (problem,) = error.problems
            if problem.field.startswith("settings"):
                raise _unusable("a webhook that can't be a target") from None
            raise
        return state

    async def _bounded_exchange(
        self, organization_id: OrganizationId, code: str, redirect_uri: str
    ) -> Installed:
        if self._running[organization_id] >= AT_ONCE_MAX:
            raise RateLimited("Too many channels are being connected to Slack.", 1)
        self._running[organization_id] += 1
        try:
            return await self._exchange(organization_id, code, redirect_uri)
        finally:
            self._running[organization_id] -= 1
            if not self._running[organization_id]:
                del self._running[organization_id]

    async def _exchange(
        self, organization_id: OrganizationId, code: str, redirect_uri: str
    ) -> Installed:
        form = {
            "client_id": self._client_id,
            "client_secret": self._client_secret,
            "code": code,
            "redirect_uri": redirect_uri,
        }
        request = Request(
            url=self._url,
            headers=(
                ("content-type", "application/x-www-form-urlencoded"),
                ("accept", "application/json"),
                ("user-agent", USER_AGENT),
            ),
            body=urlencode(form).encode(),
        )
        try:
            reply = await self._sender.send(
                request,
                organization=organization_id,
                timeout_seconds=EXCHANGE_SECONDS_MAX,
                limits=_LIMITS,
            )
        except SendFailed as error:
            _log.warning("Slack can't be asked: %s", error.message)
            raise Unavailable("Slack can't be reached.", RETRY_SECONDS) from None
        return self._read(reply, (code, self._client_secret))

    def _read(self, reply: Reply, secrets: tuple[str, ...]) -> Installed:
        """What the answer says; raises SlackRefused, or Unavailable for anything but an answer."""
        if (not 200 <= reply.status < 300 and not 400 <= reply.status < 500) or reply.status == 429:
            raise self._later(reply, f"status {reply.status}")
        answer = _object(reply.body)
        if answer.get("ok") is False:
            name = _error_name(answer.get("error"), secrets)
            if name in _PASSING:
                raise self._later(reply, name)
            if name in _MISCONFIGURED:
                _log.error("Slack does not know TOCSIN_SLACK_CLIENT_ID and its secret: %s", name)
            raise SlackRefused(name)
        if answer.get("ok") is not True or reply.status >= 300:
            raise _unusable("something that is no answer")
        webhook, team = answer.get("incoming_webhook"), answer.get("team")
        url = webhook.get("url") if isinstance(webhook, dict) else None
        if not isinstance(webhook, dict) or not isinstance(url, str):
            raise _unusable("no incoming webhook; the Slack app needs the scope incoming-webhook")
        try:
            check_url(url)
        except Invalid:
            raise _unusable("a webhook without a URL") from None
        return Installed(
            url=url,
            team=_label(team.get("name") if isinstance(team, dict) else None),
            channel=_label(webhook.get("channel")),
        )

    def _later(self, reply: Reply, what: str) -> Unavailable:
        _log.warning("Slack is in trouble: %s", what)
        wait_ms = parse_retry_after(reply.header("retry-after"), self._wall_ms())
        seconds = RETRY_SECONDS if wait_ms is None else max(1, -(-wait_ms // 1000))
        return Unavailable("Slack can't answer now.", seconds)


def _unusable(what: str) -> Unavailable:
    _log.warning("Slack answered with %s", what)
    return Unavailable("Slack's answer can't be used.", RETRY_SECONDS)


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise _unusable("something that is no JSON object")
    return answer


def _error_name(error: Any, secrets: tuple[str, ...]) -> str:
    """Slack's name of an error, made fit to show; one that repeats what we sent is not shown."""
    if not isinstance(error, str) or any(len(s) > 7 and s in error for s in secrets):
        return "unknown_error"
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", error)[:ERROR_CHARS_MAX].strip("_") or "unknown_error"


def _label(name: Any) -> str | None:
    """A name from Slack within the bounds of a setting; None where there is none."""
    if not isinstance(name, str):
        return None
    return shortened(visible(name.replace(MASK, CUT)).strip(), LABEL_CHARS_MAX) or None


def _name(installed: Installed) -> str:
    labels = [label for label in (installed.team, installed.channel) if label]
    origin = origin_of(installed.url)
    where = "/".join(labels) or (origin[1] if origin else "")
    return f"slack {where}"[:NAME_CHARS_MAX].strip()

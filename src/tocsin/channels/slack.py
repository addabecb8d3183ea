"""Slack: an incoming webhook that gets each event as a Block Kit message.

Nothing of an event is read as markup, a link or a mention: its words stand in plain_text objects,
escaped all the same. Limits and escapes are those of https://docs.slack.dev (Block Kit, formatting
message text). Servers that speak Slack's format, like Mattermost, show the plain `text`.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta
from msgspec.structs import replace

from tocsin.channels.base import ChannelType, Sending, post_json
from tocsin.channels.fields import URL_CHARS_MAX, Settings, field, masked_tail, secret
from tocsin.channels.people import SEVERITY_ICONS, message_for
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.message import Message
from tocsin.domain.model import Event
from tocsin.domain.outcome import Delivered, Outcome
from tocsin.domain.text import CUT, MASK, iso

LABEL_CHARS_MAX = 256

HEADER_SIZE_MAX = 150
SECTION_SIZE_MAX = 3000
FIELD_SIZE_MAX = 2000
FIELDS_PER_SECTION_MAX = 10
FALLBACK_LINK_SIZE_MAX = 1000

Block = dict[str, Any]

_SERVICES = re.compile(r"https?://[^/?#]+/services/[^/?#]+/[^/?#]+(?=/)", re.IGNORECASE)
_MENTION = re.compile(r"@(?=(?:here|channel|everyone|all)\b)|(?<!\w)@(?=\w)", re.IGNORECASE)
# A label may be bold if no character in it could be markup where it stands.
_TAME = re.compile(r"[^\W_]+(?:[ ._-][^\W_]+)*")
_HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)

_MEANINGS = {
    "action_prohibited": "an administrator of the workspace forbids it",
    "channel_is_archived": "the Slack channel is archived",
    "channel_not_found": "the Slack channel does not exist any more",
    "invalid_token": "the webhook is not valid any more; make a new one in Slack",
    "no_active_hooks": "the webhook is switched off in Slack",
    "no_service": "the webhook was removed or switched off in Slack",
    "no_service_id": "the webhook's URL is not complete",
    "no_team": "the workspace does not exist",
    "posting_to_general_channel_denied": "the webhook may not post to this Slack channel",
    "team_disabled": "the workspace is disabled",
    "user_not_found": "the person it posts to does not exist any more",
}
"""What Slack's plain-text errors mean; any other body is not repeated."""


class SlackSettings(Settings, frozen=True, omit_defaults=True):
    """The incoming webhook, and where it posts as far as Slack has said so."""

    url: Annotated[
        str,
        secret(
            "Webhook URL",
            "An incoming webhook, such as https://hooks.slack.com/services/T…/B…/…; "
            "whoever knows it can post.",
            min_length=1,
            max_length=URL_CHARS_MAX,
        ),
    ]
    team: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS_MAX)] | None,
        field("Workspace", "Its name, for people only."),
    ] = None
    channel: Annotated[
        Annotated[str, Meta(min_length=1, max_length=LABEL_CHARS_MAX)] | None,
        field("Channel", "Where in Slack the messages appear, for people only."),
    ] = None


class Slack(ChannelType[SlackSettings]):
    """Messages by an incoming webhook; the webhook itself decides where they appear."""

    name = "slack"
    title = "Slack"
    docs_url = "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"
    settings_type = SlackSettings

    def mask_value(self, name: str, value: Any) -> Any:
        """All but the secret: workspace and webhook id tell people which one it is."""
        services = _SERVICES.match(value)
        if services:
            return f"{services[0]}/{MASK}"
        # Discord takes Slack's format at …/<id>/<token>/slack.
        path = re.split(r"[?#]", value, maxsplit=1)[0].rstrip("/")
        return masked_tail(value, parts=2 if path.endswith("/slack") else 1)

    def merge_masked(self, new: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        """As for all types; another webhook makes what was known of the old one void."""
        merged = super().merge_masked(new, stored)
        if merged.get("url") != stored.get("url"):
            for name in ("team", "channel"):
                if name not in new:
                    merged.pop(name, None)
        return merged

    def build(self, sending: Sending, settings: SlackSettings) -> Request:
        icon, message = message_for(sending)
        document = {
            "text": _fallback(message, icon),
            "mrkdwn": False,
            "unfurl_links": False,
            "unfurl_media": False,
            "blocks": list(_blocks(message, icon, sending.event)),
        }
        return post_json(settings.url, document)

    def judge(self, reply: Reply, settings: SlackSettings, now_ms: int) -> Outcome:
        outcome = super().judge(reply, settings, now_ms)
        if isinstance(outcome, Delivered):
            return outcome
        word = reply.body[:64].decode("ascii", "replace").strip()
        meaning = _MEANINGS.get(word)
        if meaning is None:
            return outcome
        return replace(outcome, detail=f"{outcome.detail} {word}: {meaning}")


def _blocks(message: Message, icon: str, event: Event) -> Iterator[Block]:
    """Title, text, a table of two columns, the link, and a line about the event; ≤ 20 blocks."""
    header = f"{icon} {message.title}"
    yield {"type": "header", "text": _plain(header, HEADER_SIZE_MAX)}
    text = message.text
    if _room(_harmless(header), HEADER_SIZE_MAX) < len(_harmless(header)):
        text = f"{message.title}\n\n{text}"
    for piece in _pieces(_harmless(text), SECTION_SIZE_MAX):
        yield {"type": "section", "text": _plain_object(piece)}
    cells = [
        cell
        for name, value in message.fields
        for cell in (_label(name), _plain(value, FIELD_SIZE_MAX))
    ]
    for start in range(0, len(cells), FIELDS_PER_SECTION_MAX):
        yield {"type": "section", "fields": cells[start : start + FIELDS_PER_SECTION_MAX]}
    if message.link is not None:
        yield _link(message.link)
    moment = iso(event.occurred_at)
    about = (
        f"{SEVERITY_ICONS[message.severity]} {message.severity.capitalize()}",
        event.type,
        f"{moment[:10]} {moment[11:16]} UTC",
    )
    yield {"type": "context", "elements": [_plain("  ·  ".join(about), SECTION_SIZE_MAX)]}


def _fallback(message: Message, icon: str) -> str:
    """The message in plain words, for notifications and for servers that know no blocks."""
    lines = [f"{icon} {message.title}"]
    if message.text:
        lines.append(message.text)
    lines += [f"{name}: {value}" for name, value in message.fields]
    link = "" if message.link is None else f"\n<{_escaped(message.link)}>"
    if len(link) > FALLBACK_LINK_SIZE_MAX:
        link = ""
    return _cut("\n".join(lines), SECTION_SIZE_MAX - len(link)) + link


def _label(name: str) -> Block:
    if _TAME.fullmatch(name):
        return {"type": "mrkdwn", "text": f"*{name}*", "verbatim": True}
    return _plain(name, FIELD_SIZE_MAX)


def _link(url: str) -> Block:
    """A link that says where it leads. One too long for text becomes a button: Slack may show a
    warning beside buttons of apps that answer no clicks, so a link is better where it fits."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    label = f"Open {host}" if _HOST.fullmatch(host) else "Open"
    text = f"<{_escaped(url)}|{label} →>"
    if len(text) <= SECTION_SIZE_MAX:
        return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}
    button = {"type": "button", "text": _plain(label, 75), "url": url}
    return {"type": "actions", "elements": [button]}


def _plain(text: str, size_max: int) -> Block:
    return _plain_object(_cut(text, size_max))


def _plain_object(escaped: str) -> Block:
    # `emoji` would turn the :names: in an event's words into pictures.
    return {"type": "plain_text", "text": escaped, "emoji": False}


def _harmless(text: str) -> str:
    """The text with an invisible space in everything that reads like a mention."""
    return _MENTION.sub("@\u200b", text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_SIZES = {"&": 5, "<": 4, ">": 4}


def _room(text: str, size_max: int) -> int:
    """How many characters of the text fit once they are escaped; those beyond 16 bits are two."""
    size = 0
    for index, char in enumerate(text):
        size += _SIZES.get(char) or 1 + (char > "\uffff")
        if size > size_max:
            return index
    return len(text)


def _cut(text: str, size_max: int) -> str:
    """The text harmless, escaped, and as much of it as fits."""
    text = _harmless(text)
    if _room(text, size_max) == len(text):
        return _escaped(text)
    return _escaped(text[: _room(text, size_max - len(CUT))].rstrip()) + CUT


def _pieces(text: str, size_max: int) -> Iterator[str]:
    """The whole text, escaped, in pieces that fit; broken between lines or words if possible."""
    while text:
        room = _room(text, size_max)
        if room < len(text):
            broken = max(text.rfind("\n", 0, room), text.rfind(" ", 0, room))
            room = broken if broken > room // 2 else room
        piece = text[:room].strip()
        if piece:
            yield _escaped(piece)
        text = text[room:]


SLACK = Slack()

"""Discord: a webhook that gets each event as an embed.

Nothing of an event is read as Markdown or a mention: every character that could be is escaped, and
mentions are switched off besides. Limits, codes and `wait` are those of https://discord.com/developers/docs
(Webhook, Message: embed limits, Topics: rate limits). Sizes are counted in UTF-16 units, the
stricter of the two ways to read "characters".
"""

import math
import re
from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

from tocsin.channels.base import ChannelType, Sending, post_json
from tocsin.channels.fields import URL_CHARS_MAX, Settings, masked_tail, origin_of, secret
from tocsin.channels.people import about, message_for
from tocsin.domain.errors import Invalid
from tocsin.domain.exchange import Reply, Request
from tocsin.domain.message import Message
from tocsin.domain.model import Event
from tocsin.domain.outcome import Delivered, Outcome, Retry
from tocsin.domain.retry import RETRY_AFTER_MS_MAX
from tocsin.domain.text import CUT, MASK, iso

TITLE_SIZE_MAX = 256
DESCRIPTION_SIZE_MAX = 4096
FIELDS_MAX = 25
FIELD_NAME_SIZE_MAX = 256
FIELD_VALUE_SIZE_MAX = 1024
EMBED_SIZE_MAX = 6000
CONTENT_SIZE_MAX = 2000

TEXT_SIZE_KEPT = 2400
"""So much of the text goes before the fields when there is no room for both."""
INLINE_CHARS_MAX = 30
"""A longer value gets the whole width."""

Embed = dict[str, Any]

_COLOURS = {"info": 0x3B82F6, "warning": 0xF59E0B, "error": 0xEF4444, "critical": 0xB91C1C}
_LOUD = ("error", "critical")

_HOSTS = re.compile(r"(?:(?:ptb|canary)\.)?discord(?:app)?\.com")
_PATH = re.compile(r"https?://[^/?#]+/api(?:/v[0-9]+)?/webhooks/[0-9]+/[^/?#]+(?:[?#].*)?", re.I)
_WEBHOOK = re.compile(r"https?://[^/?#]+/(?:[^/?#]+/)*?webhooks/[^/?#]+(?=/)", re.IGNORECASE)
# Discord refuses a message for a link that it can't read: what is odd stands in the text instead.
_LINK = re.compile(r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]{1,5})?(?:[/?#][!-~]*)?")

# A bare link is no Markdown inside; an escape there would become part of it.
_BARE_LINK = re.compile(r"(https?://[A-Za-z0-9._/?#&=%+,;-]+)")
_MARKUP = re.compile(r"[\\*_~`|\[\]<>]|:(?=\w+:)|^[ \t]*(?=#|-#|[-+] )", re.MULTILINE)
_NUMBERED = re.compile(r"^([ \t]*[0-9]+)(?=\. )", re.MULTILINE)
_MENTION = re.compile(r"@(?=everyone\b|here\b)", re.IGNORECASE)
_FRACTION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}", re.ASCII)

_MEANINGS = {
    10003: "the Discord channel does not exist any more",
    10015: "the webhook was deleted in Discord",
    50027: "the webhook's token is not valid any more",
    220001: "the webhook posts to a forum: add ?thread_id=… to its URL",
}
"""What Discord's error codes mean; its own words are not repeated."""


class DiscordSettings(Settings, frozen=True):
    """The webhook; where it posts is Discord's to know."""

    url: Annotated[
        str,
        secret(
            "Webhook URL",
            "A webhook, such as https://discord.com/api/webhooks/<id>/<token>; whoever knows it "
            "can post. ?thread_id=… makes it post to a thread.",
            min_length=1,
            max_length=URL_CHARS_MAX,
        ),
    ]


class _Refusal(msgspec.Struct):
    """What Discord answers when it does not take a message."""

    code: int | None = None
    retry_after: float | None = None


class Discord(ChannelType[DiscordSettings]):
    """Messages by a webhook, which decides where they appear."""

    name = "discord"
    title = "Discord"
    docs_url = "https://support.discord.com/hc/en-us/articles/228383668-Intro-to-Webhooks"
    settings_type = DiscordSettings

    def check(self, settings: DiscordSettings) -> None:
        """At Discord itself only a webhook's own URL works; elsewhere the path is not ours."""
        super().check(settings)
        origin = origin_of(settings.url)
        if origin and _HOSTS.fullmatch(origin[1]) and not _PATH.fullmatch(settings.url):
            raise Invalid(
                "settings.url", "must look like https://discord.com/api/webhooks/<id>/<token>"
            )

    def mask_value(self, name: str, value: Any) -> Any:
        """All but the token: the webhook's id tells people which one it is."""
        webhook = _WEBHOOK.match(value)
        return f"{webhook[0]}/{MASK}" if webhook else masked_tail(value)

    def build(self, sending: Sending, settings: DiscordSettings) -> Request:
        icon, message = message_for(sending)
        document: dict[str, Any] = {
            "embeds": [_embed(message, icon, sending.event)],
            "allowed_mentions": {"parse": []},
        }
        if message.severity in _LOUD:
            # Seen on a lock screen, and by those who have embeds switched off.
            document = {"content": _cut(f"{icon} {message.title}", CONTENT_SIZE_MAX), **document}
        return post_json(_waiting(settings.url), document)

    def judge(self, reply: Reply, settings: DiscordSettings, now_ms: int) -> Outcome:
        outcome = super().judge(reply, settings, now_ms)
        if isinstance(outcome, Delivered):
            return outcome
        refusal = _refusal(reply.body)
        if isinstance(outcome, Retry) and reply.status == 429:
            wait_ms = _wait_ms(reply.header("retry-after"), refusal.retry_after)
            if wait_ms is not None:
                outcome = replace(outcome, not_before_ms=wait_ms, holds_channel=True)
        meaning = _MEANINGS.get(refusal.code or 0)
        if meaning is None:
            return outcome
        return replace(outcome, detail=f"{outcome.detail} {refusal.code}: {meaning}")


def _embed(message: Message, icon: str, event: Event) -> Embed:
    """Title, text, fields and a small print, together at most `EMBED_SIZE_MAX`."""
    text = message.text
    embed: Embed = {"title": _cut(f"{icon} {message.title}", TITLE_SIZE_MAX)}
    if message.link is not None:
        if _LINK.fullmatch(message.link):
            embed["url"] = message.link
        else:
            text = f"{text}\n\n{message.link}".strip()
    footer = about(message, event)
    room = EMBED_SIZE_MAX - _size(embed["title"]) - _size(footer)
    fields = _fields(message, room - min(_size(_escaped(text)), TEXT_SIZE_KEPT))
    room -= sum(_size(one["name"]) + _size(one["value"]) for one in fields)
    if text:
        embed["description"] = _cut(text, min(room, DESCRIPTION_SIZE_MAX))
    return embed | {
        "color": _COLOURS[message.severity],
        **({"fields": fields} if fields else {}),
        "footer": {"text": footer},
        "timestamp": iso(event.occurred_at),
    }


def _fields(message: Message, room: int) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = []
    for name, value in message.fields[:FIELDS_MAX]:
        name, inline = _cut(name, FIELD_NAME_SIZE_MAX), len(value) <= INLINE_CHARS_MAX
        value = _cut(value, FIELD_VALUE_SIZE_MAX)
        room -= _size(name) + _size(value)
        if room < 0:
            break
        fields.append({"name": name, "value": value, "inline": inline})
    return fields


def _waiting(url: str) -> str:
    """Asked to wait, Discord answers when the message is stored, and says if it could not be."""
    url = url.partition("#")[0]
    if re.search(r"[?&]wait=", url):
        return url
    return f"{url}{'&' if '?' in url else '?'}wait=true"


def _escaped(text: str) -> str:
    """The text so that Discord shows every character of it and obeys none."""
    parts = _BARE_LINK.split(text)
    parts[::2] = [_NUMBERED.sub(r"\1\\", _MARKUP.sub(_escape, part)) for part in parts[::2]]
    return _MENTION.sub("@\u200b", "".join(parts))


def _escape(found: re.Match[str]) -> str:
    # At the beginning of a line the backslash goes after the indentation, before the sign.
    return f"{found[0]}\\" if not found[0].strip() else f"\\{found[0]}"


def _size(text: str) -> int:
    return len(text) + sum(char > "\uffff" for char in text)


def _cut(text: str, size_max: int) -> str:
    """The text escaped, and as much of it as fits; no character and no escape is cut in two."""
    text = _escaped(text)
    if _size(text) <= size_max:
        return text
    kept = text[: size_max - len(CUT)]
    while (excess := _size(kept) - (size_max - len(CUT))) > 0:
        kept = kept[: -((excess + 1) // 2)]  # a character is at most two
    if (len(kept) - len(kept.rstrip("\\"))) % 2:
        kept = kept[:-1]
    return kept.rstrip() + CUT


def _refusal(body: bytes) -> _Refusal:
    try:
        return msgspec.json.decode(body, type=_Refusal)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _Refusal()


def _wait_ms(header: str | None, seconds: float | None) -> int | None:
    """The wait where it is given in fractions of a second, as Discord does in both places; the
    header goes first. None leaves it to what is the same for all targets."""
    if header is not None:
        if not _FRACTION.fullmatch(header):
            return None
        seconds = float(header)
    if seconds is None or seconds < 0:
        return None
    return min(math.ceil(min(seconds, 1e9) * 1000), RETRY_AFTER_MS_MAX)


DISCORD = Discord()

"""Slack's rules for a message (docs.slack.dev/reference/block-kit), as far as an incoming webhook
enforces them: what breaks one is answered `invalid_blocks` and never appears."""

import re
from typing import Any

BLOCKS_MAX = 50
TEXT_MAX = 40_000

# `<` may only open a link that we made; every `&` must begin one of the three entities.
_LINK = re.compile(r"<https?://[^<>|\s]+(?:\|[^<>|]+)?>")
_BARE = re.compile(r"&(?!amp;|lt;|gt;)|[<>]")


def check_message(message: Any) -> None:
    """Raise AssertionError naming the rule that a message breaks."""
    assert isinstance(message, dict)
    assert 0 < size(message["text"]) <= TEXT_MAX
    check_markup(message["text"])
    assert 0 < len(message["blocks"]) <= BLOCKS_MAX
    for block in message["blocks"]:
        match block["type"]:
            case "header":
                check_text(block["text"], 150, ("plain_text",))
                only(block, "text")
            case "section":
                check_section(block)
            case "context":
                assert 0 < len(block["elements"]) <= 10
                for element in block["elements"]:
                    check_text(element, 3000)
                only(block, "elements")
            case "actions":
                assert 0 < len(block["elements"]) <= 25
                for element in block["elements"]:
                    check_button(element)
                only(block, "elements")
            case kind:
                raise AssertionError(f"a block of type {kind}")


def check_section(block: dict[str, Any]) -> None:
    assert "text" in block or "fields" in block
    if "text" in block:
        check_text(block["text"], 3000)
    if "fields" in block:
        assert 0 < len(block["fields"]) <= 10
        for one in block["fields"]:
            check_text(one, 2000)
    only(block, "text", "fields")


def check_button(button: dict[str, Any]) -> None:
    assert button["type"] == "button"
    check_text(button["text"], 75, ("plain_text",))
    assert size(button["url"]) <= 3000
    assert button["url"].startswith(("http://", "https://"))
    only(button, "text", "url")


def check_text(text: dict[str, Any], most: int, types: tuple[str, ...] | None = None) -> None:
    assert text["type"] in (types or ("plain_text", "mrkdwn"))
    assert 0 < size(text["text"]) <= most, (size(text["text"]), most)
    if text["type"] == "plain_text":
        assert text["emoji"] is False
        assert not _BARE.search(text["text"])
        only(text, "text", "emoji")
    else:
        assert text["verbatim"] is True
        check_markup(text["text"])
        only(text, "text", "verbatim")


def check_markup(text: str) -> None:
    """Nothing is left of the text's own angle brackets, and nobody is called."""
    rest = _LINK.sub("", text)
    assert not _BARE.search(rest), rest
    assert not re.search(r"@(here|channel|everyone|all)\b", rest, re.IGNORECASE), rest


def size(text: str) -> int:
    """A text's length as Slack's own clients count it, in units of 16 bits."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def only(thing: dict[str, Any], *names: str) -> None:
    assert thing.keys() - {"type"} <= set(names), thing.keys()


def words(message: Any) -> str:
    """All that people read in the blocks, as Slack shows it, one piece a line."""
    shown: list[str] = []
    for block in message["blocks"]:
        texts = [block["text"]] if "text" in block else []
        texts += block.get("fields", [])
        texts += [
            e if "text" not in e or isinstance(e["text"], str) else e["text"]
            for e in block.get("elements", [])
        ]
        shown += [unescaped(text["text"]) for text in texts]
    return "\n".join(shown)


def unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

"""The last net under secrets on their way into a log: nothing should ever be caught in it."""

import re

from tocsin.domain.text import MASK

_NETS = (
    # A header, however it is written: all of its value.
    re.compile(
        r"""\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key)"""
        r"""(["']?\s*[:=]\s*(?:b?["'])?|["'],\s*b?["'])[^"'\r\n]+""",
        re.IGNORECASE,
    ),
    # A header's value alone; what is shorter is a word of a sentence.
    re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{16,}", re.IGNORECASE),
    re.compile(r"""(session_token)(=)[^\s"';,]+"""),
    # What Tocsin makes, and Slack: known by how it begins.
    re.compile(
        r"(?<![A-Za-z0-9])(whsec|whsk|toc|hs_live|hs_test|xox[a-z])([_-])[A-Za-z0-9+/=_-]{8,}"
    ),
    # In an address: a password, and the token of a link that signs somebody in.
    re.compile(r"(://[^\s/@:]*)(:)[^\s/@]+(?=@)"),
    re.compile(r"(/links?)(/)[A-Za-z0-9_-]{20,}"),
)


def masked(text: str) -> str:
    """The text with everything that looks like a credential replaced by the mask."""
    for net in _NETS:
        text = net.sub(rf"\1\2{MASK}", text)
    return text

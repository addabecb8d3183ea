"""A connection that sends arrays as text.

The driver looks at every element of an array several times before it sends it in the binary form;
one text that the server takes apart costs less on both sides. Measured: of what publishing and
settling a thousand deliveries took this process, 41 ms, 14 ms were that.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg

if TYPE_CHECKING:
    Base: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Base = asyncpg.Connection

_ARRAY = re.compile(r"\$(\d+)::(text|bigint|int|bool)\[\]")
# Where the planner has to know the elements: to see how many rows there will be, and by which
# index they are found.
_LOOKED_AT = re.compile(r"\b(?:ANY|ALL) \(\$(\d+)::")

Encode = Callable[[Sequence[Any]], str]


def texts(values: Sequence[str | None]) -> str:
    """An array of texts as a literal."""
    try:
        joined = '","'.join(values)  # type: ignore[arg-type]
    except TypeError:
        return "{" + ",".join(map(_text, values)) + "}"
    if joined.count('"') != 2 * max(len(values) - 1, 0) or "\\" in joined:
        return "{" + ",".join(map(_text, values)) + "}"
    return '{"' + joined + '"}' if values else "{}"


def _text(value: str | None) -> str:
    if value is None:
        return "NULL"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def numbers(values: Sequence[int | None]) -> str:
    """An array of whole numbers as a literal."""
    joined = ",".join(map(str, values))
    if "None" in joined:
        joined = joined.replace("None", "NULL")
    return "{" + joined + "}"


def flags(values: Sequence[bool | None]) -> str:
    """An array of booleans as a literal."""
    return "{" + ",".join("NULL" if v is None else "t" if v else "f" for v in values) + "}"


_ENCODE: dict[str, Encode] = {"text": texts, "bigint": numbers, "int": numbers, "bool": flags}


@lru_cache(maxsize=512)
def lean(query: str) -> tuple[str, tuple[tuple[int, Encode], ...]]:
    """The statement with arrays taken as text where that may be, and how each is made."""
    looked_at = {found[1] for found in _LOOKED_AT.finditer(query)}
    made: dict[int, Encode] = {}

    def taken(found: re.Match[str]) -> str:
        if found[1] in looked_at:
            return found[0]
        made[int(found[1]) - 1] = _ENCODE[found[2]]
        return f"${found[1]}::text::{found[2]}[]"

    text = _ARRAY.sub(taken, query)
    return text, tuple(made.items())


def _sent(query: str, args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    text, encoders = lean(query)
    sent = list(args)
    for at, encode in encoders:
        sent[at] = encode(sent[at])
    return text, sent


class LeanConnection(Base):
    """Statements name the type of every array: `$1::text[]`."""

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        query, sent = _sent(query, args)
        return await super().execute(query, *sent, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        query, sent = _sent(query, args)
        return await super().fetch(query, *sent, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        query, sent = _sent(query, args)
        return await super().fetchval(query, *sent, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        query, sent = _sent(query, args)
        return await super().fetchrow(query, *sent, **options)

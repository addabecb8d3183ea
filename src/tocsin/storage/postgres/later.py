"""Writes that may wait until their transaction ends, and then go as one statement.

Every statement waits once for the server and once for its turn of the event loop, which is as
long again on a busy node.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tocsin.storage.postgres.session import Connection

Write = tuple[str, Sequence[Any]]
"""A statement that changes rows and returns none, and its arguments."""

_PARAMETER = re.compile(r"\$(\d+)")


class Later:
    """What a transaction has still to write, by what it writes: at most one of each."""

    __slots__ = ("_connection", "_writes")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writes: dict[str, Write] = {}

    async def put(self, name: str, statement: str, arguments: Sequence[Any]) -> None:
        """Write this at the end; what waits under the same name goes first, and all else with it.

        One statement doesn't see what another part of it does, and changes no row twice.
        """
        if name in self._writes:
            await self.write()
        self._writes[name] = (statement, arguments)

    async def write(self, *more: Write) -> None:
        """Write all that waits, and more."""
        writes = [*self._writes.values(), *more]
        self._writes.clear()
        if writes:
            arguments = [argument for _, its in writes for argument in its]
            statement = _joined(tuple((text, len(its)) for text, its in writes))
            await self._connection.execute(statement, *arguments)


@lru_cache(maxsize=256)
def _joined(parts: tuple[tuple[str, int], ...]) -> str:
    """Statements with so many parameters each as one, theirs one after the other's."""
    moved: list[str] = []
    before = 0
    for text, count in parts:

        def later(found: re.Match[str], by: int = before) -> str:
            return f"${int(found[1]) + by}"

        moved.append(_PARAMETER.sub(later, text))
        before += count
    names = ", ".join(f"part_{at} AS ({text})" for at, text in enumerate(moved[:-1]))
    return f"WITH {names} {moved[-1]}" if names else moved[-1]

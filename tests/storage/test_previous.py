"""Migrations are online: what nodes of the previous release ask goes on working meanwhile.

`statements_of_schema_1.json` is what `recording.py` has noted of the last release with schema 1.
"""

import base64
import json
from collections.abc import Set
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from tests.postgres import server, sqlalchemy_url
from tests.storage.recording import BYTES, DATA_TABLES, contents

from tocsin.storage.postgres.partitions import make

pytestmark = pytest.mark.anyio

RECORDED = Path(__file__).with_name("statements_of_schema_1.json")
ANSWER_SECONDS_MAX = 60.0
_DRIVERS_OWN = "typeinfo"


def value(plain: Any) -> Any:
    """An argument as it was."""
    if isinstance(plain, dict):
        return base64.b64decode(plain[BYTES])
    if isinstance(plain, list):
        return [value(one) for one in plain]
    return plain


async def replay(dsn: str, recorded: Any) -> None:
    """Send everything again, over as many connections and in the same order."""
    connections: dict[int, Any] = {}
    async with AsyncExitStack() as stack:
        for number, at, arguments in recorded["calls"]:
            query = recorded["statements"][at]
            if _DRIVERS_OWN in query or query == ";":
                continue
            if number not in connections:
                connections[number] = await asyncpg.connect(dsn, timeout=ANSWER_SECONDS_MAX)
                stack.push_async_callback(connections[number].close, timeout=5)
            work = connections[number].fetch if arguments else connections[number].execute
            await work(query, *value(arguments), timeout=ANSWER_SECONDS_MAX)


def narrowed(rows: list[dict[str, Any]], columns: Set[str]) -> list[str]:
    """Rows with these columns only, in some order that both sides have."""
    return sorted(json.dumps({name: row[name] for name in sorted(columns)}) for row in rows)


async def make_day(dsn: str, day: int) -> None:
    """The tables of the day on which it was recorded."""
    engine = create_async_engine(sqlalchemy_url(dsn))
    async with engine.begin() as connection:
        await connection.run_sync(make, [day])
    await engine.dispose()


async def test_statements_of_the_previous_schema_work_on_this_one() -> None:
    recorded = json.loads(RECORDED.read_text())
    name = server().migrated()
    try:
        await make_day(server().dsn(name), recorded["day"])
        await replay(server().dsn(name), recorded)
        found = contents(name)
        for table in DATA_TABLES:
            before = recorded["tables"][table]
            known = before[0].keys() & found[table][0].keys()
            assert narrowed(found[table], known) == narrowed(before, known), table
    finally:
        server().drop(name)

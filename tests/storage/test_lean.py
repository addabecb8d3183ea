"""Arrays sent as text arrive as they were, whatever is in them."""

import random
from typing import Any

import asyncpg
import pytest
from tests.postgres import server

from tocsin.storage.postgres.lean import LeanConnection, lean

pytestmark = pytest.mark.anyio

PARTS = ("", "a", '"', "\\", ",", "{", "}", "NULL", "null", " ", "\n", "ä", "中", "\U0001f514", "'")


async def connected(kind: Any = LeanConnection) -> Any:
    return await asyncpg.connect(server().dsn("postgres"), connection_class=kind, timeout=60)


async def test_what_is_sent_arrives() -> None:
    chance = random.Random(3)
    texts: list[list[str | None]] = [[], [""], [None], ["NULL"], ['"', "\\"]]
    for _ in range(200):
        size = chance.randrange(1, 6)
        made: list[str | None] = ["".join(chance.choices(PARTS, k=3)) for _ in range(size)]
        if chance.random() < 0.3:
            made[chance.randrange(size)] = None
        texts.append(made)
    connection = await connected()
    try:
        for values in texts:
            found = await connection.fetchval("SELECT $1::text[]", values)
            assert found == values
        for query, numbers in (
            ("SELECT $1::bigint[]", [2**63 - 1, -(2**63), None, 0]),
            ("SELECT $1::int[]", [2**31 - 1, -(2**31), None]),
            ("SELECT $1::bool[]", [True, None, False]),
            ("SELECT $1::int[]", []),
        ):
            assert await connection.fetchval(query, numbers) == numbers
            assert (await connection.fetchrow(query, numbers))[0] == numbers
            assert (await connection.fetch(query, numbers))[0][0] == numbers
    finally:
        await connection.close()


async def test_both_ways_refuse_the_same() -> None:
    for kind in (LeanConnection, asyncpg.Connection):
        connection = await connected(kind)
        try:
            for query, values in (
                ("SELECT $1::text[]", ["a\0b"]),
                ("SELECT $1::int[]", [2**31]),
                ("SELECT $1::bigint[]", [2**63]),
            ):
                with pytest.raises((asyncpg.DataError, ValueError)):
                    await connection.fetchval(query, values)
        finally:
            await connection.close()


def test_what_the_planner_looks_at_stays_an_array() -> None:
    query = """
        UPDATE t SET a = v.a FROM unnest($1::text[], $2::int[], $3::bytea[]) AS v (id, a, b)
        WHERE t.id = v.id AND t.id = ANY ($1::text[]) AND t.node <> ALL ($4::int[])
    """
    text, encoders = lean(query)
    assert "unnest($1::text[], $2::text::int[], $3::bytea[])" in text
    assert "ANY ($1::text[])" in text
    assert "ALL ($4::int[])" in text
    assert [at for at, _ in encoders] == [1]

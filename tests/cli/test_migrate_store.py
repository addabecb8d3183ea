"""`tocsin migrate-store`: what it refuses before it touches anything."""

import json
from pathlib import Path

import pytest
from tests.cli.running import Inside
from tests.postgres import server

NOWHERE = "postgresql://me:hidden@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["sqlite:///.tocsin/tocsin.db"], 2, "no PostgreSQL database"),
        (["sqlite:///.tocsin/tocsin.db", "sqlite:///other.db"], 2, "no PostgreSQL database"),
        ([NOWHERE, NOWHERE], 2, "only a SQLite file"),
        (["sqlite:///missing.db", NOWHERE], 1, "there is no database"),
        (["sqlite:///.tocsin/tocsin.db", NOWHERE], 1, "can't use the database"),
        (["mysql://here", NOWHERE], 2, "TOCSIN_STORE"),
    ],
)
def test_what_it_refuses(inside: Inside, arguments: list[str], code: int, word: str) -> None:
    inside.good("migrate")
    ended, out, errors = inside.run("migrate-store", *arguments)
    assert ended == code
    assert word in errors
    assert "hidden" not in errors
    assert out == ""
    assert not Path("missing.db").exists()


def test_what_it_says(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    inside.good("migrate")
    database = server().empty()
    dsn = server().dsn(database)
    try:
        said = inside.good("migrate-store", "sqlite:///.tocsin/tocsin.db", dsn)
        assert "rows, compared" in said
        monkeypatch.setenv("TOCSIN_STORE", dsn)
        again = json.loads(inside.good("migrate-store", "sqlite:///.tocsin/tocsin.db", "--json"))
        assert again["moved_before"]
        assert again["tables"]["events"] == {"rows": 0, "checksum": "0" * 32}
    finally:
        server().drop(database)

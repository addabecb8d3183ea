"""`tocsin backup` beside a server and without one, and what it refuses."""

import sqlite3
import stat
from pathlib import Path

import pytest
from tests.cli.running import Cli, Inside

from tocsin.cli import backup as command
from tocsin.cli.errors import CommandFailed
from tocsin.storage.tables import SCHEMA_VERSION


def organizations(path: Path) -> list[str]:
    connection = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
    try:
        return [row[0] for row in connection.execute("SELECT slug FROM organizations")]
    finally:
        connection.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_server_makes_it_while_it_runs(beside: Cli) -> None:
    target = beside.folder / "kept.db"
    answer = beside.json("backup", str(target))
    assert answer["backup"] == str(target)
    assert (answer["check"], answer["bytes"]) == ("integrity_check", target.stat().st_size)
    assert answer["keep_too"].endswith("master-key")
    assert "acme" in organizations(target)
    assert mode(target) == 0o600
    folder = beside.folder / ".tocsin" / "backups"
    assert mode(folder) == 0o700
    assert list(folder.iterdir()) == []
    again = beside.run("backup", str(target))
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_without_a_server_it_is_made_here(inside: Inside, tmp_path: Path) -> None:
    inside.good("migrate")
    (tmp_path / "kept").mkdir()
    code, out, errors = inside.run("backup", "kept")
    assert code == 0
    (made,) = (tmp_path / "kept").iterdir()
    assert made.name in out
    assert "master-key" in errors
    assert mode(made) == 0o600
    assert organizations(made) == []


def test_what_it_refuses(inside: Inside, tmp_path: Path) -> None:
    for arguments, word in (
        (("backup", "x.db"), "no database"),
        (("backup", "nowhere/x.db"), "no directory"),
        (("backup", "x.db", "--store", "postgresql://u:secret@h/d"), "pg_dump"),
    ):
        code, _, errors = inside.run(*arguments)
        assert code == 1
        assert word in errors
        assert "secret" not in errors
    assert list(tmp_path.glob("x.db*")) == []


def test_a_newer_database_is_refused_by_name(inside: Inside, tmp_path: Path) -> None:
    inside.good("migrate")
    path = tmp_path / ".tocsin" / "tocsin.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE meta SET value = '7' WHERE key = 'schema_version'")
    connection.close()
    before = path.read_bytes()
    for arguments in (("serve", "--port", "0"), ("migrate",), ("backup", "x.db")):
        code, _, errors = inside.run(*arguments)
        assert code == 1, arguments
        assert (
            "This database has schema 7, made by a newer Tocsin; this one knows schemas up to "
            f"{SCHEMA_VERSION}. Start the newer release, or restore a backup made before it."
        ) in errors
    assert path.read_bytes() == before
    assert list(tmp_path.glob("x.db*")) == []


def test_a_file_that_is_no_database(inside: Inside, tmp_path: Path) -> None:
    inside.good("migrate")
    (tmp_path / ".tocsin" / "tocsin.db").write_bytes(b"nothing of the kind" * 500)
    code, _, errors = inside.run("backup", "x.db")
    assert code == 1
    assert "file is not a database" in errors
    assert list(tmp_path.glob("x.db*")) == []


@pytest.mark.parametrize("name", ["../tocsin.db", "/etc/passwd", "master-key", "tocsin-1.db\n", ""])
def test_a_server_can_lead_it_nowhere_else(name: str, tmp_path: Path) -> None:
    class Other:
        url = "http://127.0.0.1:9"

        def call(self, method: str, path: str) -> dict[str, object]:
            return {"name": name, "status": "done", "bytes_done": 0, "bytes_total": 0}

    with pytest.raises(CommandFailed, match="no backup has"):
        command._fetch(Other(), tmp_path, tmp_path / "x", lambda *_: None)  # type: ignore[arg-type]

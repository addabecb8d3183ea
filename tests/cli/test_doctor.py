"""`tocsin doctor` finds what is wrong, says what to do, and changes nothing."""

import json
import os
import socket
import sqlite3
from pathlib import Path

import pytest
from tests.cli.running import Cli, Inside

from tocsin import __version__
from tocsin.crypto.sealing import fingerprint, new_master_key


@pytest.fixture
def folder(inside: Inside, tmp_path: Path) -> Path:
    """A data directory with a database, which nobody serves from."""
    inside.good("migrate")
    return tmp_path / ".tocsin"


def findings(inside: Inside, *arguments: str) -> dict[str, str]:
    """Each finding that is not good, with what to do about it; the exit code fits them."""
    code, out, _ = inside.run("doctor", "--json", *arguments)
    found = json.loads(out)["data"]
    assert code == any(one["state"] == "bad" for one in found)
    assert all(one["hint"] for one in found if one["state"] != "good")
    return {
        f"{one['state']}: {one['what']}": one["hint"] for one in found if one["state"] != "good"
    }


def only(found: dict[str, str], word: str) -> str:
    """What is said about something, once."""
    (said,) = (what for what in found if word in what)
    return said


def test_a_sound_directory(inside: Inside, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    said = inside.good("doctor")
    assert f"Tocsin {__version__}" in said
    assert f"SQLite {sqlite3.sqlite_version}" in said
    for word in ("is private", "free on the disk", "schema", "sync", "clock", "no server runs"):
        assert word in said, word
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_part_of_the_work_on_one_file(inside: Inside, folder: Path) -> None:
    found = findings(inside, "--role", "api")
    assert only(found, "TOCSIN_ROLE").startswith("bad: ")


def test_open_files(inside: Inside, folder: Path) -> None:
    backups = folder / "backups"
    backups.mkdir(mode=0o755)
    backups.chmod(0o755)
    (backups / "some.db").touch()
    (backups / "some.db").chmod(0o644)
    (folder / "tocsin.db").chmod(0o640)
    found = findings(inside)
    for path, mode in ((backups, 700), (backups / "some.db", 600), (folder / "tocsin.db", 600)):
        relative = path.relative_to(folder.parent)
        assert found[f"bad: others may read {relative}"] == f"chmod {mode} {relative}"


def test_keys(inside: Inside, folder: Path) -> None:
    needed, other = new_master_key(), new_master_key()
    connection = sqlite3.connect(folder / "tocsin.db")
    with connection:
        known = json.dumps([fingerprint(needed)])
        connection.execute("INSERT INTO meta VALUES ('master_keys', ?)", (known,))
    connection.close()
    assert only(findings(inside), "is missing").startswith("bad")
    said = only(findings(inside, "--master-key", other), "does not fit")
    assert fingerprint(needed) in said
    assert other not in said
    assert not any("key" in what for what in findings(inside, "--master-key", f"{other},{needed}"))
    (folder / "master-key").write_text("nonsense\n")
    (folder / "master-key").chmod(0o600)
    assert only(findings(inside), "TOCSIN_MASTER_KEY").startswith("bad")


def test_a_database_that_is_none(inside: Inside, folder: Path) -> None:
    (folder / "tocsin.db").write_bytes(b"nothing of the kind" * 500)
    assert only(findings(inside), "can't be read").startswith("bad")


def test_a_newer_and_an_empty_database(inside: Inside, folder: Path) -> None:
    connection = sqlite3.connect(folder / "tocsin.db")
    with connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    connection.close()
    assert "schema 99" in only(findings(inside), "newer Tocsin")
    os.truncate(folder / "tocsin.db", 0)
    assert only(findings(inside), "no schema yet").startswith("note")


def test_a_clock_that_was_put_back(inside: Inside, folder: Path) -> None:
    connection = sqlite3.connect(folder / "tocsin.db")
    with connection:
        connection.execute(
            "INSERT INTO organizations VALUES (?, 'a', 'a', 1, 1, 1, NULL)", ("f0" * 12,)
        )
    connection.close()
    assert only(findings(inside), "behind what the database holds").startswith("bad")


def test_wide_networks_and_an_open_port(inside: Inside, folder: Path) -> None:
    found = findings(
        inside, "--host", "0.0.0.0", "--allow-networks", "0.0.0.0/0,10.0.0.0/8,10.1.2.0/24"
    )
    assert only(found, "without TLS").startswith("note")
    assert only(found, "every address")
    assert "10.0.0.0/8" in only(found, "16,777,216")
    assert not any("10.1.2.0" in what for what in found)


def test_what_is_kept_for_too_short(inside: Inside, folder: Path) -> None:
    found = findings(inside, "--retention-days", "2", "--idempotency-hours", "72")
    assert "24 hours" in only(found, "TOCSIN_DELIVERY_DAYS_MAX=14")
    assert only(found, "idempotency key").startswith("note")


def test_what_retention_has_removed(inside: Inside, folder: Path) -> None:
    connection = sqlite3.connect(folder / "tocsin.db")
    with connection:
        connection.execute("INSERT INTO meta VALUES ('purged_events', '1234')")
    connection.close()
    assert "1,234 events, 0 deliveries" in inside.good("doctor")


def test_little_room(inside: Inside, folder: Path) -> None:
    said = only(findings(inside, "--disk-reserve-mb", "999999999999"), "are free")
    assert said.startswith("bad")


def test_what_must_be_reachable(inside: Inside, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        slack = ("--slack-client-id", "x", "--slack-api-url", f"http://127.0.0.1:{port}/")
        mail = ("--smtp-url", f"smtp://127.0.0.1:{port}", "--smtp-from", "a@example.com")
        refused = findings(inside, *slack, *mail)
        assert "TOCSIN_ALLOW_NETWORKS" in refused[only(refused, "guard")]
        assert not any("mail" in what for what in refused)
        allowed = findings(inside, *slack, "--allow-networks", "127.0.0.0/8")
        assert not any("Slack" in what for what in allowed)
    gone = findings(inside, *slack, *mail, "--allow-networks", "127.0.0.0/8")
    assert only(gone, "Slack").startswith("bad")
    assert only(gone, "mail server").startswith("bad")
    unknown = ("--smtp-url", "smtp://nowhere.invalid", "--smtp-from", "a@example.com")
    assert only(findings(inside, *unknown), "not found").startswith("bad")


def test_a_running_server_is_asked(beside: Cli) -> None:
    found = beside.json("doctor")["data"]
    assert not [one for one in found if one["state"] == "bad"]
    said = " ".join(one["what"] for one in found)
    for word in (
        "answers at",
        "is ready",
        f"is release {__version__}",
        "key fits",
        "token is valid",
    ):
        assert word in said, word

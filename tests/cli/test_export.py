"""`tocsin export-org`: all of one organization, nothing of another, no secret."""

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.cli.running import Cli

PARTS = ("projects", "members", "keys", "channels", "events", "deliveries", "attempts", "jobs")
CANARY = "canary-5f1e"


@pytest.fixture(scope="module")
def filled(beside: Cli) -> Cli:
    """An organization with one of everything, and a neighbour."""
    for slug in ("exported", "neighbour"):
        beside.good("orgs", "create", slug)
        on = ("--org", slug)
        beside.good("projects", "create", "one", *on)
        made = beside.json(
            *("channels", "create", "hook", "--to", "http://127.0.0.1:9/x", "--retry", ""),
            *("--more", json.dumps({"headers": {"authorization": CANARY}}), *on),
        )
        beside.good("keys", "create", "ci", "--role", "viewer", *on)
        for number in range(3):
            beside.good("publish", "a.b", json.dumps({"of": slug, "number": number}), *on)
        (beside.folder / slug).write_text(made["secret"])
    return beside


def lines(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def wait_for_attempts(cli: Cli) -> None:
    for _ in range(60):
        found = cli.json("deliveries", "--org", "exported")["data"]
        if found and all(one["status"] == "exhausted" for one in found):
            return
    raise AssertionError("the deliveries have not ended")


def test_everything_of_one_organization(filled: Cli) -> None:
    wait_for_attempts(filled)
    target = filled.folder / "out"
    answer = filled.json("export-org", "exported", str(target))
    assert {
        "events": 3,
        "deliveries": 3,
        "attempts": 3,
        "channels": 1,
        "keys": 1,
    }.items() <= answer["rows"].items()
    assert {path.stem for path in target.iterdir()} == {*PARTS, "audit", "organization", "manifest"}
    assert json.loads((target / "manifest.json").read_text())["rows"] == answer["rows"]
    assert sorted(one["data"]["number"] for one in lines(target, "events")) == [0, 1, 2]
    deliveries = {one["id"] for one in lines(target, "deliveries")}
    assert {one["delivery_id"] for one in lines(target, "attempts")} == deliveries
    assert lines(target, "organization")[0]["slug"] == "exported"
    whole = "".join(path.read_text() for path in target.iterdir())
    assert "neighbour" not in whole
    for secret in (CANARY, (filled.folder / "exported").read_text(), "token_hash"):
        assert secret not in whole
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}


def test_as_an_archive(filled: Cli) -> None:
    target = filled.folder / "out.tar.gz"
    said = filled.good("export-org", "exported", str(target))
    assert "3 events" in said
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with tarfile.open(target) as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == {"out"}
        events = archive.extractfile("out/events.jsonl")
        assert events is not None
        assert len(events.read().splitlines()) == 3
    again = filled.run("export-org", "exported", str(target))
    assert again.returncode == 1
    assert "is there already" in again.stderr
    assert not list(filled.folder.glob(".out*"))


def test_an_export_that_fails_leaves_nothing(filled: Cli) -> None:
    missing = filled.run("export-org", "nobody", str(filled.folder / "none"))
    assert missing.returncode == 1
    assert not (filled.folder / "none").exists()

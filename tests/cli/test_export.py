"""`tocsin export-org`: all of one organization, nothing of another, no secret."""

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.server import until
from tests.cli.running import Cli

from tocsin.cli.client import Api, at

PARTS = ("projects", "members", "keys", "channels", "events", "deliveries", "attempts", "jobs")
CANARY = "canary-5f1e"


def api_of(cli: Cli) -> Api:
    folder = cli.folder / ".tocsin"
    url, token = ((folder / name).read_text().strip() for name in ("url", "operator-token"))
    return Api(url, token)


@pytest.fixture(scope="module")
def filled(beside: Cli) -> Cli:
    """An organization with one of everything, and a neighbour."""
    api = api_of(beside)
    for slug in ("exported", "neighbour"):
        api.call("POST", at("organizations"), {"name": slug, "slug": slug})
        path = at("organizations", slug)
        api.call("POST", f"{path}/projects", {"name": "one"})
        channel = {
            "name": "hook",
            "type": "webhook",
            "settings": {"url": "http://127.0.0.1:9/x"},
            "headers": {"authorization": CANARY},
            "retry": {"schedule": []},
        }
        made = api.call("POST", f"{path}/channels", channel)
        (beside.folder / slug).write_text(made["secret"])
        api.call("POST", f"{path}/keys", {"name": "ci", "role": "viewer"})
        for number in range(3):
            event = {"type": "a.b", "data": {"of": slug, "number": number}}
            api.call("POST", f"{path}/events", event)

    def ended() -> bool:
        found = api.call("GET", at("organizations", "exported", "deliveries"))["data"]
        return len(found) == 3 and {one["status"] for one in found} == {"exhausted"}

    until(ended, "the deliveries have ended", seconds=60)
    return beside


def lines(folder: Path, name: str) -> list[Any]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_everything_of_one_organization(filled: Cli) -> None:
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


def test_attempts_come_in_pages_of_deliveries(filled: Cli) -> None:
    api, path = api_of(filled), at("organizations", "exported", "attempts")
    whole = [one for page in api.pages(path, {}) for one in page["data"]]
    pages = list(api.pages(path, {}, limit=1))
    assert [len(page["data"]) for page in pages] == [1, 1, 1]
    assert [one for page in pages for one in page["data"]] == whole
    assert whole == sorted(whole, key=lambda one: str(one["delivery_id"]), reverse=True)


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

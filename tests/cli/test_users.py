"""`tocsin users`, and the link that a server without users prints."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.cli.running import Cli

from tocsin.cli.serve import lines
from tocsin.config import load

PASSWORD = "correct horse battery"


def use(url: str, **more: str) -> Any:
    """Use the link as the API does."""
    base, _, token = url.partition("/link/")
    request = urllib.request.Request(
        f"{base}/api/v1/auth/links/{token}",
        json.dumps({"password": PASSWORD} | more).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def test_users(beside: Cli) -> None:
    link = beside.good("users", "create", "bob@example.com", "--role", "viewer").strip()
    session = use(link)
    assert (session["organization"]["slug"], session["organization"]["role"]) == ("acme", "viewer")
    link = beside.good("users", "invite", "dora@example.com").strip()
    assert use(link)["organization"]["role"] == "developer"
    link = beside.good("users", "reset", "Bob@example.com").strip()
    assert use(link)["user"]["email"] == "bob@example.com"
    listed = beside.json("users")["data"]
    assert [one["email"] for one in listed] == ["dora@example.com", "bob@example.com"]
    again = beside.run("users", "create", "bob@example.com")
    assert (again.returncode, "already" in again.stderr) == (1, True)


def test_a_server_without_users_prints_a_link(tmp_path: Path) -> None:
    settings = load({"data_dir": tmp_path})
    url = "http://127.0.0.1:8400"
    said = lines(url, settings, made_token=True, first_link=f"{url}/link/token")
    assert said[-2:] == [f"  first sign-in {url}/link/token", "  stop          Ctrl-C"]
    assert not [one for one in lines(url, settings, made_token=True) if "/link/" in one]

"""Every command that speaks to a server, against a real one."""

import json
import socket
import stat
import subprocess

import pytest
from tests.cli.running import Cli, lines_until

from tocsin.cli.address import announced

HOSTILE = "evil \x1b[31mred\x1b[0m \u202eright"


def receiver(cli: Cli, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A `tocsin listen` on a free port, and its address."""
    process = cli.start("listen", "--port", "0", "--json", *arguments)
    assert process.stderr is not None
    first = process.stderr.readline()
    return process, first.split()[2].rstrip(";")


def finish(process: subprocess.Popen[str]) -> tuple[list[dict[str, object]], int]:
    """What a receiver printed until it ended by itself, and its exit code."""
    out, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in out.splitlines()], process.returncode


def test_organizations_and_projects(beside: Cli) -> None:
    made = beside.json("orgs", "create", "Beta Inc.", "--slug", "beta")
    assert made["slug"] == "beta"
    assert beside.json("orgs", "show", "beta") == made
    listed = beside.json("orgs")
    assert {"acme", "beta"} <= {one["slug"] for one in listed["data"]}
    assert set(listed) == {"data", "next_cursor"}
    assert "beta" in beside.good("orgs", "list")
    project = beside.json("projects", "create", "Web", "--org", "beta")
    assert project["slug"] == "web"
    assert beside.json("projects", "show", "web", "-o", "beta") == project
    assert beside.json("projects", "delete", "web", "--yes", "--org", "beta") == {}
    assert beside.json("projects", "--org", "beta")["data"] == []
    ambiguous = beside.run("projects", env={"TOCSIN_ORG": ""})
    assert ambiguous.returncode == 2
    assert "--org" in ambiguous.stderr
    beside.good("orgs", "delete", "beta", "--yes")
    assert "beta" not in {one["slug"] for one in beside.json("orgs")["data"]}


def test_keys_show_their_token_once(beside: Cli) -> None:
    token = beside.good("keys", "create", "one", "--role", "viewer", "--bare").strip()
    assert token.startswith("toc_")
    keys = beside.good("keys")
    assert token not in keys
    assert token[:12] in keys
    url = (beside.folder / ".tocsin" / "url").read_text().strip()
    as_viewer = ("--url", url, "--token", token)
    assert beside.json("channels", *as_viewer)["data"] == []
    refused = beside.run("publish", "a.b", "{}", *as_viewer)
    assert refused.returncode == 1
    assert "(403)" in refused.stderr
    key_id = next(one["id"] for one in beside.json("keys")["data"] if one["name"] == "one")
    beside.good("keys", "delete", key_id)
    void = beside.run("channels", *as_viewer)
    assert void.returncode == 1
    assert "TOCSIN_TOKEN" in void.stderr


def test_from_channel_to_retry(beside: Cli) -> None:
    process, url = receiver(beside, "--count", "3")
    created = beside.json(
        *("channels", "create", "ci", "--to", f"{url}/x", "--project", "ios"),
        *("--event-type", "build.*", "--retry", "1s,1s"),
    )
    id = created["id"]
    assert created["retry"] == {"schedule": ["1s", "1s"]}
    assert beside.good("channels", "secret", id).strip() == created["secret"]
    assert "arrived" in beside.good("channels", "test", id)
    accepted = beside.json("publish", "build.created", '{"n": 1}', "--project", "ios")
    assert accepted["deliveries"] == 1
    event = beside.json("events", "show", accepted["id"])
    assert event["data"] == {"n": 1}
    [delivery] = event["deliveries"]
    for _ in range(20):
        if delivery["status"] == "delivered":
            break
        delivery = beside.json("deliveries", "show", delivery["id"])
    assert "delivered" in beside.good("deliveries", "--channel", id)
    assert "delivered" in beside.good("deliveries", "show", delivery["id"])
    counted = beside.json("stats", "--channel", id, "--bucket", "day")["data"]
    assert sum(row["delivered"] for row in counted) == 1
    assert "0.0 %" in beside.good("stats", "--project", "ios", "--bucket", "day")
    again = beside.json("retry", delivery["id"])
    assert again["data"][0]["id"] == delivery["id"]
    arrivals, code = finish(process)
    assert code == 0
    assert [one["path"] for one in arrivals] == ["/x"] * 3
    bodies = [json.loads(str(one["body"])) for one in arrivals]
    assert [body["type"] for body in bodies] == ["tocsin.test", "build.created", "build.created"]
    assert beside.json("channels", "disable", id)["enabled"] is False
    assert beside.json("channels", "enable", id)["enabled"] is True
    assert beside.json("channels", "update", id, '{"name": "new"}')["name"] == "new"
    assert "new" in beside.good("channels", "show", id)
    beside.good("channels", "delete", id)
    missing = beside.run("channels", "show", id)
    assert (missing.returncode, missing.stdout) == (1, "")


def test_failed_test_send_exits_1(beside: Cli) -> None:
    process, url = receiver(beside, "--status", "503", "--count", "1")
    id = beside.json("channels", "create", "down", "--to", url)["id"]
    ended = beside.run("channels", "test", id)
    assert ended.returncode == 1
    assert "http_status" in ended.stdout
    finish(process)
    beside.good("channels", "delete", id)


def test_publishing_says_what_became_of_it(beside: Cli) -> None:
    said = beside.good("publish", "nobody.cares", "-", stdin='{"a": [1, "ü"]}')
    assert "stored, but" in said
    (beside.folder / "data.json").write_text('{"from": "file"}')
    first = beside.json("publish", "from.file", "@data.json", "--idempotency-key", "k1")
    again = beside.good("publish", "from.file", "@data.json", "--idempotency-key", "k1")
    assert first["id"] in again
    assert "published before" in again
    refused = beside.run("publish", "bad type", "{}")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: type: ")


def test_lists_go_on_where_they_ended(beside: Cli) -> None:
    for number in range(3):
        beside.good("publish", "many.events", str(number))
    some = beside.run("events", "--type", "many.events", "--limit", "2", "--json")
    page = json.loads(some.stdout)
    assert [one["data"] for one in page["data"]] == [2, 1]
    rest = beside.json("events", "--type", "many.events", "--cursor", page["next_cursor"])
    assert [one["data"] for one in rest["data"]] == [0]
    every = beside.json("events", "--type", "many.events", "--all")
    assert len(every["data"]) == 3
    assert every["next_cursor"] is None
    told = beside.run("events", "--type", "many.events", "--limit", "2")
    assert "--cursor" in told.stderr


def test_text_of_tenants_steers_no_terminal(beside: Cli) -> None:
    beside.good("publish", "hostile.text", json.dumps({"a": HOSTILE}))
    shown = beside.json("events", "--type", "hostile.text")
    [event] = shown["data"]
    assert event["data"] == {"a": HOSTILE}
    for arguments in (["events", "show", event["id"]], ["events", "--json"]):
        printed = beside.good(*arguments)
        assert "\x1b" not in printed
        assert "\u202e" not in printed


def test_doctor_finds_nothing_wrong_here_and_everything_elsewhere(beside: Cli, cli: Cli) -> None:
    findings = beside.json("doctor")["data"]
    # Nothing is wrong; a disk under the load of all tests may be called slow.
    assert "bad" not in {one["state"] for one in findings}
    assert "operator token is valid" in beside.good("doctor")
    assert "no data directory" in cli.good("doctor")
    folder = cli.folder / ".tocsin"
    folder.mkdir(mode=0o755)
    with announced(folder, "http://127.0.0.1:9"):
        ended = cli.run("doctor")
    assert ended.returncode == 1
    assert "chmod 700" in ended.stdout
    assert "no server answers" in ended.stdout


def test_the_address_of_a_server_that_was_killed_is_nobodys(cli: Cli) -> None:
    folder = cli.folder / ".tocsin"
    folder.mkdir(mode=0o700)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        (folder / "url").write_text(f"http://127.0.0.1:{stranger.getsockname()[1]}\n")
        (folder / "operator-token").write_text("o" * 40)
        ended = cli.run("orgs")
        assert ended.returncode == 1
        assert "no server runs" in ended.stderr
        assert "no server runs" in cli.run("doctor").stdout
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):
            stranger.accept()


def test_no_server_says_how_to_start_one(cli: Cli) -> None:
    ended = cli.run("orgs")
    assert ended.returncode == 1
    assert "tocsin serve" in ended.stderr
    gone = cli.run("orgs", "--url", "http://127.0.0.1:9", "--token", "t")
    assert gone.returncode == 1
    assert "tocsin serve" in gone.stderr


def test_operator_token_goes_to_its_own_server_only(beside: Cli) -> None:
    ended = beside.run("orgs", "--url", "http://127.0.0.1:9")
    assert ended.returncode == 2
    assert "no token for http://127.0.0.1:9" in ended.stderr


def test_serve_announces_and_leaves_no_trace(cli: Cli) -> None:
    with cli.serving() as lines:
        folder = cli.folder / ".tocsin"
        token = (folder / "operator-token").read_text().strip()
        url = (folder / "url").read_text().strip()
        assert f"Tocsin listens on {url}" in lines
        assert any("first start" in line and "operator-token" in line for line in lines)
        assert token not in "\n".join(lines)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert set(modes.values()) == {0o600}
        second = cli.run("serve", "--port", "0")
        assert second.returncode == 1
        assert "another process" in second.stderr
        assert (folder / "url").exists()
        busy = cli.run("serve", "--port", url.rpartition(":")[2], "--data-dir", "other")
        assert busy.returncode == 1
        assert "--port 0" in busy.stderr
        migrating = cli.run("migrate")
        assert migrating.returncode == 1
    assert not (folder / "url").exists()
    assert cli.json("migrate")["schema"] >= 1
    with cli.serving() as lines:
        assert not any("first start" in line for line in lines)


def test_serve_refuses_a_key_that_does_not_fit(cli: Cli) -> None:
    with cli.serving():
        pass
    other = "b" * 43 + "="
    ended = cli.run("serve", "--port", "0", env={"TOCSIN_MASTER_KEY": other})
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: TOCSIN_MASTER_KEY: ")
    assert other not in ended.stderr


@pytest.mark.parametrize("end", ["|", ">"])
def test_a_closed_pipe_is_no_error(beside: Cli, end: str) -> None:
    process = beside.start("events", "--all", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    if end == "|":
        process.stdout.close()
        assert process.stderr.read() == ""
        process.stderr.close()
        assert process.wait(60) == 0
    else:
        assert lines_until(process, "data")
        process.communicate(timeout=60)


def test_a_channel_is_recovered_by_a_job(beside: Cli) -> None:
    made = beside.json("channels", "create", "back", "--to", "https://example.com/", "-p", "ios")
    channel, since = made["id"], ("--since", "2026-01-01T00:00:00Z")
    job = beside.json("channels", "recover", channel, *since, "--wait")
    assert (job["kind"], job["status"], job["total"], job["done"]) == ("recover", "done", 0, 0)
    again = beside.run("channels", "recover", channel, *since, "--status", "rejected")
    assert again.returncode == 0
    assert "tocsin jobs watch" in again.stderr
    assert beside.json("jobs", "get", job["id"]) == job
    assert beside.good("jobs", "watch", job["id"]).startswith("done: 0 of 0")
    assert job["id"] in beside.good("jobs")
    ended = beside.run("jobs", "cancel", job["id"])
    assert ended.returncode == 1
    assert "ended" in ended.stderr
    beside.good("channels", "delete", channel)

"""Settings on the command line: what is shown, what is hidden, and how errors read."""

import json

import pytest
from tests.cli.running import Cli

from tocsin.config import SECRET_SETTINGS, Settings

TOKEN = "a-token-that-nobody-may-see-" + "x" * 20


def test_every_setting_is_shown_once(cli: Cli) -> None:
    shown = cli.json("config")
    assert list(shown) == [f"TOCSIN_{name.upper()}" for name in Settings.model_fields]
    assert shown["TOCSIN_PORT"] == 8400
    table = cli.good("config")
    assert all(name in table for name in shown)


def test_flag_goes_before_environment_before_file(cli: Cli) -> None:
    (cli.folder / "tocsin.toml").write_text('port = 1\nhost = "::1"\nlog_level = "error"\n')
    shown = cli.json("config", "--port", "3", env={"TOCSIN_PORT": "2", "TOCSIN_HOST": "::2"})
    assert shown["TOCSIN_PORT"] == 3
    assert shown["TOCSIN_HOST"] == "::2"
    assert shown["TOCSIN_LOG_LEVEL"] == "error"


def test_secrets_are_masked(cli: Cli) -> None:
    (cli.folder / "key").write_text("k" * 44)
    secret_file = str(cli.folder / "key")
    env = {"TOCSIN_OPERATOR_TOKEN": TOKEN, "TOCSIN_MASTER_KEY_FILE": secret_file}
    env["TOCSIN_SMTP_URL"] = f"smtp://tocsin:{TOKEN}@mail.example:587"
    env["TOCSIN_PROXY"] = f"http://tocsin:{TOKEN}@proxy.example:3128"
    flag = ("--slack-client-secret", TOKEN)
    table = cli.good("config", *flag, env=env)
    shown = cli.json("config", *flag, env=env)
    for text in (table, json.dumps(shown)):
        assert TOKEN not in text
        assert "k" * 44 not in text
    secrets = {name: shown[f"TOCSIN_{name.upper()}"] for name in SECRET_SETTINGS}
    given = {"operator_token", "master_key", "slack_client_secret", "smtp_url", "proxy"}
    assert secrets == {name: "••••" if name in given else None for name in secrets}
    assert given <= secrets.keys()


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"TOCSIN_PORT": "many"}, "TOCSIN_PORT"),
        ({"TOCSIN_PORT": "99999"}, "TOCSIN_PORT"),
        ({"TOCSIN_ALLOW_NETWORKS": "everything"}, "TOCSIN_ALLOW_NETWORKS"),
        ({"TOCSIN_OPERATOR_TOKEN": "k9"}, "TOCSIN_OPERATOR_TOKEN"),
        ({"TOCSIN_MASTER_KEY_FILE": "/nowhere/key"}, "TOCSIN_MASTER_KEY_FILE"),
        ({"TOCSIN_LOG_LEVEL": "loud"}, "TOCSIN_LOG_LEVEL"),
        ({"TOCSIN_SMTP_URL": "smtp://tocsin:k9@"}, "TOCSIN_SMTP_URL"),
        ({"TOCSIN_SMTP_URL": "http://tocsin:k9@mail.example"}, "TOCSIN_SMTP_URL"),
        ({"TOCSIN_SMTP_FROM": "nobody"}, "TOCSIN_SMTP_FROM"),
    ],
)
def test_wrong_setting_is_named(cli: Cli, env: dict[str, str], named: str) -> None:
    ended = cli.run("config", env=env)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: {named}: ")
    assert "Traceback" not in ended.stderr
    assert "k9" not in ended.stderr


@pytest.mark.parametrize("command", ["serve", "doctor", "migrate", "orgs"])
def test_wrong_setting_ends_every_command(cli: Cli, command: str) -> None:
    ended = cli.run(command, env={"TOCSIN_PORT": "many"})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: TOCSIN_PORT: ")


def test_unknown_key_of_the_file_is_named(cli: Cli) -> None:
    (cli.folder / "tocsin.toml").write_text("prot = 1\n")
    ended = cli.run("config")
    assert ended.returncode == 2
    assert "prot" in ended.stderr


def test_file_that_is_no_toml_is_told(cli: Cli) -> None:
    (cli.folder / "tocsin.toml").write_text("port = = 1\n")
    ended = cli.run("config")
    assert ended.returncode == 2
    assert "tocsin.toml" in ended.stderr
    assert "Traceback" not in ended.stderr

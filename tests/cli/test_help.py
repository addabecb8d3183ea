"""Help that teaches, usage errors, and output that respects its surroundings."""

import subprocess
import sys

import pytest
from tests.cli.running import Cli, Inside

from tocsin import __version__
from tocsin.cli.tree import COMMANDS
from tocsin.config import Settings

NAMES = [name for name, _, _ in COMMANDS]


def test_help_lists_every_command_with_what_it_does(inside: Inside) -> None:
    listed = inside.good("--help")
    assert inside.good() == listed
    for name in NAMES:
        line = next(line for line in listed.splitlines() if line.startswith(f"│ {name} "))
        assert len(line.strip("│ ").removeprefix(name).strip()) > 10
    assert "tocsin demo" in listed


@pytest.mark.parametrize("name", NAMES)
def test_each_command_gives_an_example(inside: Inside, name: str) -> None:
    help = inside.good(name, "--help")
    assert "For example:" in help
    assert f"    tocsin {name}" in help
    assert "FLAGS" not in help


def test_serve_has_a_flag_for_every_setting(inside: Inside) -> None:
    squeezed = "".join(inside.good("serve", "--help").replace("│", "").split())
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in squeezed


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["publish"],
        ["listen", "--port", "70000"],
        ["listen", "--status", "abc"],
        ["deliveries", "--status", "lost"],
        ["events", "--limit", "0"],
        ["retry"],
        ["publish", "a.b", "{not json"],
        ["publish", "a.b", "@missing.json"],
        ["orgs", "delete", "acme"],
        ["channels", "create", "x"],
        ["channels", "create", "x", "--settings", "[]"],
        ["listen", "--secret", "whsec_???"],
        ["listen", "--secret", "whpk_???"],
        ["channels", "rotate-secret", "x", "--overlap", "soon"],
        ["orgs", "--url", "ftp://x", "--token", "t"],
        ["orgs", "--url", "http://x", "--token", "ü"],
        ["orgs", "--url", "http://x"],
    ],
)
def test_wrong_use_exits_2_and_says_why(inside: Inside, arguments: list[str]) -> None:
    code, out, errors = inside.run(*arguments)
    assert code == (1 if "@missing.json" in arguments else 2)
    assert out == ""
    assert errors.strip()


def test_no_colour_where_it_is_not_wanted(cli: Cli) -> None:
    forced = {"FORCE_COLOR": "1"}
    assert "\x1b[" in cli.run("orgs", env=forced).stderr
    assert "\x1b[3" not in cli.run("orgs", env=forced | {"NO_COLOR": "1"}).stderr
    assert "\x1b" not in cli.run("orgs").stderr


def test_version(inside: Inside) -> None:
    assert inside.good("--version").strip() == __version__


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(inside: Inside, shell: str) -> None:
    script = inside.good("completion", shell)
    assert all(name in script for name in NAMES)


def test_completion_is_installed_where_it_is_asked_for(cli: Cli) -> None:
    home = cli.folder / "home"
    home.mkdir()
    cli.good("completion", "bash", "--install", env={"HOME": str(home)})
    assert [path for path in home.rglob("tocsin") if path.is_file()]


def test_client_commands_import_no_server(cli: Cli) -> None:
    """What a command does not need costs its user time at every call."""
    code = (
        "import sys; from tocsin.cli.tree import run; run(['orgs', '--url', 'http://127.0.0.1:1',"
        " '--token', 't']); print(*sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=cli.environment()
    )
    loaded = set(ended.stdout.split())
    assert "tocsin.cli.orgs" in loaded
    assert not loaded & {"pydantic", "sqlalchemy", "litestar", "uvicorn", "tocsin.app"}

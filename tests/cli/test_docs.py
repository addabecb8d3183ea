"""The pages say what the program does: settings, commands, codes, reasons, runnable examples."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from standardwebhooks import Webhook
from tests.cli.running import Cli

from tocsin.channels import channel_types
from tocsin.cli.tree import COMMANDS, tree
from tocsin.config import FILE_SETTINGS, Settings
from tocsin.crypto.ed25519 import new_private_key, public_key
from tocsin.crypto.signing import new_secret, sign
from tocsin.domain.model import Status
from tocsin.domain.outcome import Reason
from tocsin.domain.permissions import ROLES
from tocsin.web.applivery import errors as applivery
from tocsin.web.hookstream import errors as hookstream
from tocsin.web.native import problems

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CLIENT_VARIABLES = {"URL", "TOKEN", "ORG", "CONFIG", "LISTEN_SECRET"}


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The table under a heading, by its first cell."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = next(part for part in section.split("\n\n") if part.lstrip().startswith("|"))
    lines = table.strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_setting_stands_there_with_its_default() -> None:
    table = rows(page("configuration"), "Settings")
    assert set(table) == {f"TOCSIN_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        stated = table[f"TOCSIN_{name.upper()}"][0].strip("`")
        default = field.default
        written = "" if default in (None, ()) else str(default)
        assert stated == (written.lower() if isinstance(default, bool) else written), name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_names_a_setting_that_does_not_exist(path: Path) -> None:
    known = {name.upper() for name in Settings.model_fields} | CLIENT_VARIABLES
    known |= {f"{name.upper()}_FILE" for name in FILE_SETTINGS}
    named = set(re.findall(r"TOCSIN_([A-Z][A-Z_]*[A-Z])", path.read_text()))
    assert named <= known


def test_every_command_stands_there_with_its_own_commands() -> None:
    table = rows(page("configuration"), "Commands")
    assert set(table) == {f"tocsin {name}" for name, _, _ in COMMANDS}
    commands = tree().resolved_commands()
    for name, _, _ in COMMANDS:
        within = own_commands(commands[name])
        if within:
            assert set(re.findall(r"`([a-z-]+)`", table[f"tocsin {name}"][0])) == within


def own_commands(app: App) -> set[str]:
    return {name for name in app if not name.startswith("-")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_uses_a_command_that_does_not_exist(path: Path) -> None:
    commands = tree().resolved_commands()
    shell = "\n".join(blocks(path.read_text(), "sh"))
    shell += "\n".join(re.findall(r"`(tocsin [^`]*)`", path.read_text()))
    for name, second in re.findall(
        r"\btocsin ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+(?:-[a-z]+)*)\b)?", shell
    ):
        assert name in commands, name
        within = own_commands(commands[name])
        assert not (within and second) or second in within, f"{name} {second}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_native_code_stands_there() -> None:
    text = page("errors").split("## Applivery")[0]
    found = {
        (int(status), code) for status, code in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M)
    }
    assert found == {(status, code) for code, (status, _) in problems.STATUS.items()}


def test_every_applivery_code_stands_there() -> None:
    text = page("errors").split("## Applivery")[1].split("## hookstream")[0]
    found = set(re.findall(r"^\| (\d+) \| (\d+) \| `([^`]+)` \|", text, re.M))
    known = {*applivery.STATUS.values(), applivery.ROUTE_NOT_FOUND}
    assert found == {(str(status), str(code), text) for status, code, text in known}


def test_every_hookstream_status_stands_there() -> None:
    text = page("errors").split("## hookstream")[1].split("## Why")[0]
    found = dict(re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.M))
    assert set(found) == {str(status) for status, _ in hookstream.STATUS.values()}
    for status, message in hookstream.STATUS.values():
        assert message is None or f"`{message}`" in found[str(status)]


def test_every_reason_and_status_stands_there() -> None:
    assert set(rows(page("errors"), "Why an attempt failed")) == set(Reason)
    # No delivery is grouped yet: digests come later.
    assert set(rows(page("concepts"), "Delivery statuses")) == set(Status) - {Status.GROUPED}


def test_every_channel_type_stands_there() -> None:
    for name in channel_types():
        assert f"`{name}`" in page("concepts")


def test_roles_stand_there_with_their_grants() -> None:
    table = rows(page("security"), "Permissions")
    for role, grants in ROLES.items():
        assert tuple(re.findall(r"`([^`]+)`", table[role][0])) == grants


# The snippets that receivers copy, each run in its own language.

HARNESS = {
    "python": "import json, sys\nfor line in sys.stdin:\n    case = json.loads(line)\n"
    "    print(verify(case['secret'], case['headers'], case['body'].encode()))\n",
    "javascript": "const input = require('fs').readFileSync(0, 'utf8');\n"
    "for (const line of input.trim().split('\\n')) {\n"
    "  const c = JSON.parse(line);\n"
    "  console.log(verify(c.secret, c.headers, Buffer.from(c.body)));\n}\n",
    "go": "func main() {\n\tin := bufio.NewScanner(os.Stdin)\n"
    "\tfor in.Scan() {\n\t\tvar c struct {\n"
    "\t\t\tSecret, Body string\n\t\t\tHeaders map[string]string\n\t\t}\n"
    "\t\tjson.Unmarshal(in.Bytes(), &c)\n"
    "\t\tfmt.Println(Verify(c.Secret, c.Headers, []byte(c.Body)))\n\t}\n}\n",
    "ruby": "require 'json'\nSTDIN.each_line do |line|\n  c = JSON.parse(line)\n"
    "  puts verify(c['secret'], c['headers'], c['body'])\nend\n",
    "php": "while ($line = fgets(STDIN)) {\n    $c = json_decode($line, true);\n"
    "    echo verify($c['secret'], $c['headers'], $c['body']) ? \"true\\n\" : \"false\\n\";\n}\n",
}
RUN = {
    "python": ("py", [sys.executable]),
    "javascript": ("js", ["node"]),
    "go": ("go", ["go", "run"]),
    "ruby": ("rb", ["ruby"]),
    "php": ("php", ["php"]),
}


def cases() -> list[tuple[bool, dict[str, object]]]:
    """Genuine and forged deliveries, as a snippet gets them."""
    secret, other, now = new_secret(), new_secret(), int(time.time())
    body = '{"type":"build.created","data":"ü€😀"}'

    def case(
        good: bool, secrets: list[str], *, at: int = now, signed: str = body, **headers: str
    ) -> tuple[bool, dict[str, object]]:
        sent = {
            "webhook-id": "01a2",
            "webhook-timestamp": str(at),
            "webhook-signature": sign(secrets, "01a2", at, signed.encode()),
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return good, {"secret": secret, "headers": sent, "body": body}

    return [
        case(True, [secret]),
        case(True, [other, secret]),
        case(True, [secret, other]),
        case(False, [other]),
        case(False, [secret], signed=body + " "),
        case(False, [secret], at=now - 4_000),
        case(False, [secret], at=now + 4_000),
        case(False, [secret], webhook_id="01a3"),
        case(False, [secret], webhook_timestamp=str(now + 1)),
        case(False, [secret], webhook_timestamp="soon"),
        case(False, [secret], webhook_timestamp=""),
        case(False, [secret], webhook_signature=""),
        case(False, [secret], webhook_signature="v1,ü v2,abc v1"),
    ]


def snippet(language: str) -> str:
    found = blocks(page("verifying-webhooks"), language)
    [code] = [one for one in found if "erify(" in one and "v1a" not in one][-1:]
    if language == "go":
        imports = '"bufio"\n\t"encoding/json"\n\t"fmt"\n\t"os"\n\t"crypto/hmac"'
        code = code.replace("package webhooks", "package main")
        code = code.replace('"crypto/hmac"', imports, 1)
    return code


@pytest.mark.parametrize("language", HARNESS)
def test_snippet_tells_genuine_from_forged(language: str, tmp_path: Path) -> None:
    end, command = RUN[language]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if language == "go" and not (Path.home() / ".cache" / "go-build").is_dir():
        pytest.skip("a first build of Go's library takes too long here")
    program = tmp_path / f"main.{end}"
    program.write_text(f"{snippet(language)}\n{HARNESS[language]}")
    given = cases()
    ended = subprocess.run(
        [*command, str(program)],
        input="\n".join(json.dumps(case) for _, case in given) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    answers = [line.lower() == "true" for line in ended.stdout.split()]
    assert answers == [good for good, _ in given]


def test_snippet_for_the_public_key_tells_genuine_from_forged() -> None:
    [code] = [one for one in blocks(page("verifying-webhooks"), "python") if "v1a" in one]
    names: dict[str, Any] = {}
    exec(code, names)
    key, other, secret = new_private_key(), new_private_key(), new_secret()
    body, now = '{"data":"ü"}'.encode(), int(time.time())

    def genuine(keys: list[str], at: int = now, signed: bytes = body, **headers: str) -> bool:
        sent = {
            "webhook-id": "01a2",
            "webhook-timestamp": str(at),
            "webhook-signature": sign(keys, "01a2", at, signed),
        }
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        told: bool = names["verify_v1a"](public_key(key), sent, body)
        return told

    assert genuine([secret, key])
    assert genuine([secret, other, secret, key])
    assert not genuine([secret])
    assert not genuine([secret, other])
    assert not genuine([secret, key], signed=body + b" ")
    assert not genuine([secret, key], at=now - 400)
    assert not genuine([secret, key], webhook_id="01a3")
    assert not genuine([secret, key], webhook_timestamp="soon")
    for signatures in ("", "v1a", "v1a,", "v1a,!", "v1a,YQ==", "v1,YQ=="):
        assert not genuine([secret, key], webhook_signature=signatures)


def test_library_of_the_readme_verifies() -> None:
    secret, now = new_secret(), int(time.time())
    body = b'{"type":"build.created","data":{"n":1}}'
    headers = {
        "webhook-id": "01a2",
        "webhook-timestamp": str(now),
        "webhook-signature": sign([secret], "01a2", now, body),
    }
    [code] = blocks((ROOT / "README.md").read_text(), "python")
    names: dict[str, object] = {}
    exec(code.replace("whsec_...", secret), names)
    receive = names["receive"]
    assert callable(receive)
    receive(body, headers)
    with pytest.raises(Exception, match="signature"):
        Webhook(secret).verify(body + b" ", headers)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_quick_start_of_the_readme_works(cli: Cli) -> None:
    """The very commands, line by line, but for the ports."""
    _, _, setup, channels, publish = blocks((ROOT / "README.md").read_text(), "sh")[:5]
    command = cli.folder / "bin" / "tocsin"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tocsin "$@"\n')
    command.chmod(0o755)
    with cli.serving():
        url = (cli.folder / ".tocsin" / "url").read_text().strip()
        script = "\n".join(
            [
                "set -e",
                'export PATH="$PWD/bin:$PATH"',
                setup.replace("http://127.0.0.1:8400", url).replace("--port 9000", "--port 0"),
                "{ ",
                channels.replace("curl ", "curl -sS --fail-with-body "),
                publish.replace("curl ", "curl -sS --fail-with-body "),
                "} || { kill %1; exit 1; }",
                "kill %1; wait",
            ]
        )
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=cli.folder,
            env=cli.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"deliveries":3' in ended.stdout
    assert ended.stdout.count("build.created") >= 4

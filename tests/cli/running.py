"""Real processes of the command line: one that ends, and a server that stays."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tocsin.cli.tree import run

TIMEOUT_SECONDS = 240


class Cli:
    """Runs `tocsin …` in a folder of its own, with none of this machine's settings."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")
        }
        # What an import or a command warns of is a failure here too.
        self._environment |= {"PYTHONWARNINGS": "error", "COLUMNS": "100", **environment}
        self._environment.pop("NO_COLOR", None)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command."""
        return self._environment | dict(extra or {})

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """One command, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "tocsin", *arguments],
            cwd=self.folder,
            env=self.environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )

    def good(self, *arguments: str, **options: Any) -> str:
        """What a command prints that must end with 0."""
        ended = self.run(*arguments, **options)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def json(self, *arguments: str, **options: Any) -> Any:
        """The decoded JSON of a command that must end with 0."""
        return json.loads(self.good(*arguments, "--json", **options))

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """A command that stays; both streams are pipes."""
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "tocsin", *arguments],
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[list[str]]:
        """A server on a free port while it is entered; the lines it said when it was up."""
        process = self.start("serve", "--port", "0", "--allow-networks", "127.0.0.0/8", *arguments)
        assert process.stdout is not None
        try:
            yield lines_until(process, "Ctrl-C")
        finally:
            process.terminate()
            _, log = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, log


class Inside:
    """Runs `tocsin …` in this process, where only its words and exit code matter: much faster."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[object, str, str]:
        """Exit code, output and errors of one command."""
        code: object
        try:
            code = run(arguments)
        except SystemExit as end:
            code = end.code or 0
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def good(self, *arguments: str) -> str:
        """What a command prints that must end with 0."""
        code, out, errors = self.run(*arguments)
        assert code == 0, errors
        return out


def lines_until(process: subprocess.Popen[str], word: str) -> list[str]:
    """What a process prints, up to the line with this word."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if word in line:
            return lines
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    raise AssertionError(f"it ended before it said {word!r}: {lines} {errors}")

"""Real processes of the command line: one that ends, and a server that stays."""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli import fork_server

from tocsin.cli.tree import run

TIMEOUT_SECONDS = 240


class Forks:
    """Runs one command after the other in processes that are forked, which saves them the imports:
    most of the time that a command takes. A context manager."""

    def __enter__(self) -> "Forks":
        self._server = subprocess.Popen(
            [sys.executable, "-P", fork_server.__file__],
            env=os.environ | {"PYTHONWARNINGS": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate(timeout=TIMEOUT_SECONDS)

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: str
    ) -> subprocess.CompletedProcess[str]:
        """One command, however it ends."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            given, out, errors = files = [Path(place) / name for name in ("in", "out", "err")]
            given.write_text(stdin)
            out.touch()
            errors.touch()
            asked = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": dict(environment),
                "files": [str(file) for file in files],
            }
            self._server.stdin.write(json.dumps(asked) + "\n")
            self._server.stdin.flush()
            if not select.select([self._server.stdout], [], [], TIMEOUT_SECONDS)[0]:
                raise subprocess.TimeoutExpired(list(arguments), TIMEOUT_SECONDS)
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(
                list(arguments), code, out.read_text(), errors.read_text()
            )


class Cli:
    """Runs `tocsin …` in a folder of its own, with none of this machine's settings."""

    def __init__(self, folder: Path, forks: Forks, **environment: str) -> None:
        self.folder = folder
        self._forks = forks
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
        return self._forks.run(arguments, self.folder, self.environment(env), stdin)

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

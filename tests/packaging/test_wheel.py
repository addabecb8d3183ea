"""What is built can be installed into an empty place, from locked packages, and runs there."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import tocsin

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 600
PIP = {
    "PIP_ROOT_USER_ACTION": "ignore",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_RETRIES": "10",
    "PIP_DEFAULT_TIMEOUT": "60",
}


class Built(NamedTuple):
    """What `hatchling build` makes."""

    wheel: Path
    sdist: Path


def run(*command: str | Path, cwd: Path) -> str:
    """A command with nothing of this checkout in its way; what it printed."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOCSIN_", "PYTHON", "VIRTUAL_ENV"))
    }
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | PIP,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--directory", folder, cwd=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the locked packages, the wheel, and nothing else."""
    home = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", home, cwd=home)
    pip = home / "bin" / "pip"
    run(pip, "install", "-q", "--require-hashes", "-r", ROOT / "requirements.txt", cwd=home)
    run(pip, "install", "-q", "--no-deps", built.wheel, cwd=home)
    run(pip, "check", cwd=home)
    return home / "bin"


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_all_of_the_package_and_nothing_else(built: Built) -> None:
    source = ROOT / "src"
    there = {
        str(path.relative_to(source))
        for path in (source / "tocsin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_wheel(built.wheel) == there
    assert "tocsin/py.typed" in there
    assert built.wheel.name.split("-")[1] == tocsin.__version__


def test_the_sdist_gives_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    for name in ("README.md", "LICENSE", "requirements.txt", "docs", "tests", "deploy"):
        assert (folder / name).exists(), name
    command = (sys.executable, "-m", "hatchling", "build", "--target", "wheel")
    run(*command, "--directory", tmp_path / "again", cwd=folder)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.name == built.wheel.name
    assert in_wheel(again) == in_wheel(built.wheel)


def test_it_runs_where_it_is_installed(installed: Path, tmp_path: Path) -> None:
    command = installed / "tocsin"
    assert run(command, "--version", cwd=tmp_path).strip() == tocsin.__version__
    run(command, "migrate", "--data-dir", tmp_path / "data", cwd=tmp_path)
    shown = run(command, "demo", "--once", cwd=tmp_path)
    assert "attempt 2" in shown
    assert run(installed / "python", "-m", "tocsin", "--version", cwd=tmp_path).strip()

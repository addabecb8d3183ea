"""The lock files install the same thing everywhere: pinned, hashed, tied to no package index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")

Pins = dict[str, set[str]]


def wanted(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def entries(name: str) -> list[str]:
    """One text per pinned package: its line and the hash lines that continue it."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def pins(name: str) -> Pins:
    """Versions by package; a package may have one version per Python version."""
    found: Pins = {}
    for entry in entries(name):
        requirement = Requirement(entry.partition(" --hash")[0])
        version = str(requirement.specifier).removeprefix("==")
        found.setdefault(canonicalize_name(requirement.name), set()).add(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_lock_names_no_index(name: str) -> None:
    address = re.compile("^--|index-url|find-links|://")
    lines = (ROOT / name).read_text().splitlines()
    assert [line for line in lines if address.search(line)] == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_is_pinned_and_hashed(name: str) -> None:
    pinned = re.compile(r"[a-z0-9._-]+(\[[a-z0-9,._-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}")
    assert [entry[:80] for entry in entries(name) if not pinned.match(entry)] == []


@pytest.mark.parametrize(
    ("source", "lock"),
    [("requirements.in", "requirements.txt"), ("requirements-dev.in", "requirements-dev.txt")],
)
def test_lock_holds_what_is_wanted(source: str, lock: str) -> None:
    locked = pins(lock)
    missing = [
        str(requirement)
        for requirement in wanted(source)
        if not any(
            requirement.specifier.contains(version, prereleases=True)
            for version in locked.get(canonicalize_name(requirement.name), ())
        )
    ]
    assert missing == [], "run `make lock`"


def test_dev_lock_holds_the_runtime_lock() -> None:
    dev = pins("requirements-dev.txt")
    assert {n: v for n, v in pins("requirements.txt").items() if dev.get(n) != v} == {}


def test_pyproject_and_requirements_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [Requirement(text) for text in project["dependencies"]]
    assert sorted(map(str, declared)) == sorted(map(str, wanted("requirements.in")))

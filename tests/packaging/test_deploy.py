"""The files of `deploy` parse, name what exists, and take away what they say they do."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tocsin.config import FILE_SETTINGS, Settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "tocsin.service"
DOCKER = ROOT / "deploy" / "docker"
EXPOSURE_MAX = 20  # of 100, as `systemd-analyze security` counts
SETTINGS = {f"TOCSIN_{name.upper()}" for name in Settings.model_fields}
SETTINGS |= {f"TOCSIN_{name.upper()}_FILE" for name in FILE_SETTINGS} | {"TOCSIN_CONFIG"}


def unit() -> dict[str, list[str]]:
    """Every key of the unit with its values, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def test_the_unit_names_what_there_is() -> None:
    found = unit()
    assert found["ExecStart"] == ["/opt/tocsin/venv/bin/tocsin serve"]
    named = set(re.findall(r"TOCSIN_[A-Z_]+", UNIT.read_text()))
    assert named <= SETTINGS
    assert "TOCSIN_DATA_DIR=/var/lib/tocsin" in found["Environment"][0]
    assert found["StateDirectory"] == ["tocsin"]
    # A stop may take as long as the process itself allows, and a little.
    assert int(found["TimeoutStopSec"][0]) > 90


def test_the_unit_takes_everything_away() -> None:
    found = unit()
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "DynamicUser"):
        assert found[key] == ["yes"], key
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["UMask"] == ["0077"]
    assert found["StateDirectoryMode"] == ["0700"]


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    # The program itself is not installed here.
    copy.write_text(UNIT.read_text().replace("/opt/tocsin/venv/bin/tocsin", "/bin/true"))
    looks: tuple[tuple[str, ...], ...] = (
        ("verify", "--man=no"),
        ("security", "--offline=true", f"--threshold={EXPOSURE_MAX}"),
    )
    for look in looks:
        ended = subprocess.run(
            ["systemd-analyze", *look, str(copy)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Unknown" not in ended.stderr


def instructions() -> list[tuple[str, str]]:
    text = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def test_the_image_is_made_of_what_is_there() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert set(copied) == let_through
    for source in copied:
        assert (ROOT / source).exists(), source


def test_the_image_runs_as_nobody_in_particular() -> None:
    found = instructions()
    stages = [rest for name, rest in found if name == "FROM"]
    assert len(stages) == 2
    last = found[max(n for n, (name, _) in enumerate(found) if name == "FROM") :]
    (user,) = (rest for name, rest in last if name == "USER")
    assert int(user.split(":")[0]) > 0
    names = [name for name, _ in last]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names
    assert ("VOLUME", "/data") in last
    (environment,) = (rest for name, rest in last if name == "ENV")
    assert set(re.findall(r"TOCSIN_[A-Z_]+", environment)) <= SETTINGS


def test_the_compose_file_keeps_the_container_small() -> None:
    loaded: Any = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    server = loaded["services"]["server"]
    context = (DOCKER / server["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / server["build"]["dockerfile"]) == DOCKER / "Dockerfile"
    assert server["read_only"] is True
    assert server["cap_drop"] == ["ALL"]
    assert server["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    volumes = {one.split(":")[0]: one.split(":")[1] for one in server["volumes"]}
    assert volumes == {"data": "/data"}
    assert set(loaded["volumes"]) == set(volumes)
    assert set(server["environment"]) <= SETTINGS
    assert server["stop_grace_period"] == "120s"

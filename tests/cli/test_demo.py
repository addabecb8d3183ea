"""The demo, as a newcomer runs it."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.cli.running import Cli, lines_until


def folders(place: Path) -> list[str]:
    return [path.name for path in place.iterdir()]


def test_once_shows_everything_and_leaves_nothing(cli: Cli) -> None:
    place = cli.folder / "tmp"
    place.mkdir()
    # Settings of a real installation must not get into the demo's service, nor its file.
    (cli.folder / "tocsin.toml").write_text("nonsense = 1\n")
    env = {"TMPDIR": str(place), "TOCSIN_OPERATOR_TOKEN": "short", "TOCSIN_PORT": "1"}
    ended = cli.run("demo", "--once", env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = ended.stdout
    for dialect in ("Applivery", "hookstream", "Tocsin"):
        assert f"✔ {dialect}" in told
    assert told.count("verified by webhook-signature") == 8
    assert told.count("x-hookstream-signature") == 3
    assert told.count("we answer 500") == 1
    assert told.count("attempt 2: the retry") == 1
    assert "7 deliveries arrived and verified" in told
    assert folders(place) == []
    assert sorted(folders(cli.folder)) == ["tmp", "tocsin.toml"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_stays_up_until_ctrl_c(cli: Cli) -> None:
    process = cli.start("demo", env={"TMPDIR": str(cli.folder)})
    lines = lines_until(process, "Ctrl-C")
    example = next(line for line in lines if line.startswith("curl") and line.endswith("43}}'"))
    subprocess.run(["bash", "-c", f"{example} -sS --fail"], check=True, capture_output=True)
    assert lines_until(process, "x-hookstream-signature")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    assert folders(cli.folder) == []

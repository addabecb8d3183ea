"""A backup under load, restored elsewhere: all that was accepted before it began is there."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.load import Load, asks
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server, Tenant
from tests.blackbox.test_start import refusal

COUNT = 2_000
LARGE = {"type": "large.event", "data": "x" * 20_000}
COMMAND_SECONDS_MAX = 120


def tocsin(server: Server, *arguments: str, umask: int = -1) -> subprocess.CompletedProcess[str]:
    """A command beside a server, as whoever runs that server types it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_")}
    return subprocess.run(
        [sys.executable, "-m", "tocsin", *arguments],
        env=environment | {"TOCSIN_DATA_DIR": str(server.data_dir)} | server.settings,
        cwd=server.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        umask=umask,
    )


async def back_up_under_load(tenant: Tenant, target: Path) -> tuple[set[int], Any]:
    """The numbers accepted before the backup began, and what the command said."""
    load = Load(tenant.server)
    publishing = asyncio.create_task(load.run(asks(tenant, COUNT), 8))
    await load.reached(COUNT // 4)
    before = set(load.accepted)
    ended = await asyncio.to_thread(tocsin, tenant.server, "backup", str(target), "--json", umask=0)
    assert ended.returncode == 0, ended.stderr
    await publishing
    assert not load.refused
    return before, json.loads(ended.stdout)


def numbers(tenant: Tenant) -> set[int]:
    return {one["data"]["number"] for one in tenant.all("/events", type="load.event")}


def restored(new_server: NewServer, name: str, backup: Path, *, key: Path | None) -> Server:
    """A data directory as docs/operating.md has it made, not served yet."""
    server = new_server(name)
    server.data_dir.mkdir(mode=0o700)
    shutil.copy(backup, server.data_dir / "tocsin.db")
    if key is not None:
        shutil.copy(key, server.data_dir / "master-key")
    return server


@pytest.mark.long
def test_a_backup_under_load_is_restored_elsewhere(
    new_server: NewServer, receiver: Receiver, tmp_path: Path
) -> None:
    server = new_server("first").start()
    tenant = server.tenant("platform")
    channel = tenant.channel(receiver.url(), event_types=["load.*"])
    for _ in range(10):
        tenant.publish_batch([LARGE] * 40)  # so that the copy takes many steps
    target = tmp_path / "kept" / "tocsin.db"
    target.parent.mkdir()
    before, said = asyncio.run(back_up_under_load(tenant, target))
    assert len(before) >= COUNT // 4
    assert said["backup"] == str(target)
    assert said["bytes"] == target.stat().st_size > 8_000_000
    assert said["keep_too"] == str(server.data_dir / "master-key")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert list((server.data_dir / "backups").iterdir()) == []
    content = target.read_bytes()
    for secret in ("master-key", "operator-token"):
        assert (server.data_dir / secret).read_bytes().strip() not in content
    assert channel["secret"].encode() not in content
    entry = server.call("GET", "/api/v1/audit", token=server.operator_token).json()["data"][0]
    assert (entry["action"], entry["actor"]["kind"]) == ("backup.create", "operator")
    assert server.stop() == 0, server.said()

    key = server.data_dir / "master-key"
    second = restored(new_server, "second", target, key=key).start()
    again = Tenant(second, tenant.organization, tenant.key, {})
    assert numbers(again) >= before
    assert again.get(f"/channels/{channel['id']}/secret")["secret"] == channel["secret"]
    sent = again.publish("load.event", {"number": COUNT})
    again.settled(sent["id"], "delivered", seconds=60)
    assert second.stop() == 0, second.said()

    other = tmp_path / "other-key"
    other.write_text("b" * 43 + "=\n")
    for name, wrong in (("lost", None), ("mixed-up", other)):
        assert "TOCSIN_MASTER_KEY" in refusal(restored(new_server, name, target, key=wrong))

"""What stops a start, and what a start leaves on the disk."""

import stat
import subprocess
from pathlib import Path

from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server

ENDS_SECONDS_MAX = 180.0


def refusal(server: Server) -> str:
    """What a start says that must fail."""
    if server.log.exists():
        server.log.unlink()
    process = server.spawn()
    try:
        code = process.wait(ENDS_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        raise AssertionError("the start was not refused") from None
    finally:
        process.kill()
        process.wait()
    assert code != 0
    said = server.said()
    assert "Traceback" not in said, said
    return said


def test_a_data_directory_has_one_server(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start()
    tenant = server.tenant("first")
    url = server.url
    second = Server(server.data_dir)
    second.log = server.data_dir.parent / "second.log"
    said = refusal(second)
    assert str(server.data_dir) in said.replace("\n", "")
    assert (server.data_dir / "url").read_text().strip() == url
    tenant.channel(receiver.url())
    tenant.publish(data=1)
    receiver.wait(1)


def test_a_short_operator_token_stops_the_start(new_server: NewServer) -> None:
    for token in ("", "x" * 31, f"{'x' * 32},short"):
        said = refusal(new_server(operator_token=token))
        assert "TOCSIN_OPERATOR_TOKEN" in said
        assert "x" * 31 not in said


def test_a_proxy_that_is_none_stops_the_start(new_server: NewServer) -> None:
    said = refusal(new_server(proxy="http://operator:s3cr3t@proxy.example"))
    assert "TOCSIN_PROXY: must be" in said
    assert "s3cr3t" not in said


def test_a_lost_master_key_stops_the_start(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start()
    server.tenant("sealed").channel(receiver.url())
    assert server.stop() == 0
    key = server.data_dir / "master-key"
    kept = key.read_bytes()
    key.unlink()
    assert "TOCSIN_MASTER_KEY" in refusal(server)
    assert not key.exists()
    key.write_bytes(kept)
    server.start()
    assert server.stop() == 0


def test_another_master_key_stops_the_start(new_server: NewServer, receiver: Receiver) -> None:
    server, other = new_server("one").start(), new_server("two").start()
    server.tenant("sealed").channel(receiver.url())
    assert (server.stop(), other.stop()) == (0, 0)
    (server.data_dir / "master-key").write_bytes((other.data_dir / "master-key").read_bytes())
    assert "TOCSIN_MASTER_KEY" in refusal(server)


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder.parent)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


def test_nobody_else_can_read_the_data(new_server: NewServer, receiver: Receiver) -> None:
    server = new_server().start(umask=0)
    tenant = server.tenant("private")
    tenant.channel(receiver.url())
    tenant.publish(data=1)
    receiver.wait(1)
    found = modes(server.data_dir)
    assert any(name.endswith("-wal") for name in found)
    folders = {str(p.relative_to(server.data_dir.parent)) for p in server.data_dir.rglob("*/")}
    folders = {name for name in folders if (server.data_dir.parent / name).is_dir()}
    folders.add(server.data_dir.name)
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (0o700 if name in folders else 0o600)
    }
    assert wrong == {}

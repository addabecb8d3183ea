"""A network of the test's own, in which every address there is answers.

Inside there is nothing but the loopback device, and every address is routed to it as if it were
this machine's: what the service under test reaches for is what the listeners of the test accept.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = f"tocsin-ssrf-{os.getpid()}"
FILES = Path("/etc/netns") / NAME
_CLONE_NEWNET = 0x4000_0000


def lacking() -> str | None:
    """What keeps this machine from having such a network; None where nothing does."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    if shutil.which("ip") is None:
        return "a network namespace needs iproute2"
    made = _ip("netns", "add", f"{NAME}-probe")
    _ip("netns", "delete", f"{NAME}-probe")
    if made.returncode != 0:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    return None


@contextmanager
def entered() -> Iterator[str]:
    """Make the network, and be in it with the calling thread; it is removed whatever happens.

    Sockets of this thread and processes that it starts belong to the network. Names are asked for
    at 127.0.0.1 by processes started with `command`.
    """
    try:
        need("netns", "add", NAME)
        FILES.mkdir(parents=True, exist_ok=True)
        (FILES / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (FILES / "hosts").write_text("127.0.0.1 localhost\n")
        need("-n", NAME, "link", "set", "lo", "up")
        for family, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
            need("-n", NAME, family, "route", "add", "local", everything, "dev", "lo")
        with inside(NAME):
            yield NAME
    finally:
        _ip("netns", "delete", NAME)
        shutil.rmtree(FILES, ignore_errors=True)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in the network of this name with the calling thread."""
    with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{name}") as network:
        _enter(network.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs another one inside, with the resolver settings of the network."""
    return ("ip", "netns", "exec", NAME, *arguments)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def need(*arguments: str) -> None:
    """Run `ip` with these arguments; it must succeed."""
    done = _ip(*arguments)
    assert done.returncode == 0, (arguments, done.stderr)


def _ip(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(("ip", *arguments), capture_output=True, text=True, check=False)

"""Two networks of the test's own, with two links between them, one of which can be cut.

The test and all that it starts are in the first one; what is started with `command` is in the
second, and reaches the database over one link and all else over the other. A link that is cut
says nothing to who is in the second network: packets are gone, as with a switch that has died.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.ssrf.namespace import inside, need

HERE, THERE = f"tocsin-here-{os.getpid()}", f"tocsin-there-{os.getpid()}"
DATABASE_LINK, LINK = "database", "rest"
DATABASE_HERE, DATABASE_THERE = "10.117.1.1", "10.117.1.2"
ADDRESS_HERE, ADDRESS_THERE = "10.117.2.1", "10.117.2.2"
NETWORKS = "10.117.0.0/16"


@contextmanager
def two_networks() -> Iterator[None]:
    """Make both, and be in the first with the calling thread; they are removed whatever happens."""
    try:
        for name in (HERE, THERE):
            need("netns", "add", name)
            need("-n", name, "link", "set", "lo", "up")
        _link(DATABASE_LINK, DATABASE_HERE, DATABASE_THERE)
        _link(LINK, ADDRESS_HERE, ADDRESS_THERE)
        with inside(HERE):
            yield
    finally:
        for name in (HERE, THERE):
            subprocess.run(("ip", "netns", "delete", name), check=False)


def command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs another one in the second network."""
    return ("ip", "netns", "exec", THERE, *arguments)


@contextmanager
def cut(link: str) -> Iterator[None]:
    """Without this link, from entering to leaving."""
    need("-n", HERE, "link", "set", link, "down")
    try:
        yield
    finally:
        need("-n", HERE, "link", "set", link, "up")


def _link(name: str, here: str, there: str) -> None:
    need("-n", HERE, "link", "add", name, "type", "veth", "peer", "name", name, "netns", THERE)
    for network, address in ((HERE, here), (THERE, there)):
        need("-n", network, "address", "add", f"{address}/30", "dev", name)
        need("-n", network, "link", "set", name, "up")

"""How much memory the service takes while much is waiting for targets that do not answer.

Every channel has its share of what waits, and no attempt ends before its timeout: as many as may be
are under way, and as much as may be is held. More is published meanwhile.
"""

import json
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.table import Table
from tests.blackbox.server import Server, Tenant

from bench.history import Used, write_rows
from bench.processes import Child, cost
from bench.runs import BATCH
from bench.service import BODY_BYTES, SinkControl, limits
from tocsin.crypto.sealing import Sealer, parse_master_keys

ORGANIZATION_CHANNELS = 1_000
CONNECTIONS = 4
PUBLISHED_OF_WAITING = 0.05
PUBLISH_SECONDS_MAX = 600.0
STEADY_SECONDS = 30.0
"""Twice the timeout of an attempt: by then every place has been taken and given back."""
CASES = ((100_000, 100, 150.0), (1_000_000, 10_000, 300.0))
"""How many deliveries wait, of how many channels, and the MiB that this may take."""


class Memory(Struct, frozen=True):
    """One case; MiB of RSS as the system counts them, at the end and at the highest."""

    waiting: int
    channels: int
    start_seconds: float
    rss_mib: float
    rss_peak_mib: float
    wanted_mib: float
    database_mib: float

    @property
    def met(self) -> bool:
        return self.rss_peak_mib <= self.wanted_mib


def measure(folder: Path) -> list[Memory]:
    """All cases, one after the other."""
    found = []
    with SinkControl() as sink:
        sink.reset(silent=True)
        for waiting, channels, wanted_mib in CASES:
            print(f"{waiting:,} waiting, {channels:,} channels ...", file=sys.stderr, flush=True)
            found.append(_case(folder, sink, waiting, channels, wanted_mib))
    return found


def _case(
    folder: Path, sink: SinkControl, waiting: int, channels: int, wanted_mib: float
) -> Memory:
    with tempfile.TemporaryDirectory(prefix="memory-", dir=folder) as name, ExitStack() as stack:
        data_dir = Path(name) / "data"
        server = Server(data_dir, limits())
        stack.callback(server.close)
        tenants = _tenants(server.start(), sink, channels)
        server.stop()
        used = _multiplied(data_dir, tenants, channels)
        write_rows(data_dir, used, waiting, waiting=True)
        began = time.monotonic()
        server.start()
        start_seconds = time.monotonic() - began
        per_tenant = channels // len(tenants)
        published = int(waiting * PUBLISHED_OF_WAITING) // len(tenants) // BATCH * BATCH
        for tenant, _ in tenants:
            _publish(server, tenant, per_tenant, published)
        time.sleep(STEADY_SECONDS)
        found = cost(server.pid)
        left = _waiting(data_dir)
        assert left == waiting + published * len(tenants), left
        return Memory(
            waiting=left,
            channels=channels,
            start_seconds=round(start_seconds, 2),
            rss_mib=found.rss_mib,
            rss_peak_mib=found.rss_peak_mib,
            wanted_mib=wanted_mib,
            database_mib=round(sum(f.stat().st_size for f in data_dir.iterdir()) / 2**20, 1),
        )


def _tenants(server: Server, sink: SinkControl, channels: int) -> list[tuple[Tenant, str]]:
    """As many organizations as it takes, each with the id of its first channel."""
    found = []
    for number in range(-(-channels // ORGANIZATION_CHANNELS)):
        tenant = server.tenant(f"bench-{number}")
        found.append((tenant, tenant.channel(sink.url, event_types=[_type(0)])["id"]))
    return found


def _type(number: int) -> str:
    return f"bench.{number:04}"


def _multiplied(data_dir: Path, tenants: list[tuple[Tenant, str]], channels: int) -> list[Used]:
    """Copies of each organization's first channel, each with a lane and its settings sealed."""
    sealer = Sealer(parse_master_keys((data_dir / "master-key").read_text()))
    each = channels // len(tenants)
    used = []
    with closing(sqlite3.connect(data_dir / "tocsin.db")) as connection:
        for tenant, first in tenants:
            organization = tenant.organization
            used.append(Used(organization, first, _type(0)))
            (sealed,) = connection.execute(
                "SELECT sealed FROM channels WHERE id = ?", (first,)
            ).fetchone()
            secret = sealer.unseal(sealed, organization, first)
            for number in range(1, each):
                # Ids that no process could have made at that millisecond.
                copy = f"{first[:12]}ff{len(used):010x}"
                again = {
                    "id": copy,
                    "channel_id": copy,
                    "sealed": sealer.seal(secret, organization, copy),
                    "event_types": json.dumps([_type(number)]),
                }
                _copy(connection, "channels", "id", first, again)
                _copy(connection, "lanes", "channel_id", first, again)
                used.append(Used(organization, copy, _type(number)))
        connection.commit()
    # Neighbours in time belong to different organizations.
    return [used[at + each * turn] for at in range(each) for turn in range(len(tenants))]


def _copy(
    connection: sqlite3.Connection, table: str, key: str, original: str, changed: dict[str, Any]
) -> None:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = ", ".join(f":{name}" if name in changed else name for name in names)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table}"
        f" WHERE {key} = :original",
        changed | {"original": original},
    )


def _publish(server: Server, tenant: Tenant, channels: int, events: int) -> None:
    data = "x" * (BODY_BYTES // 2)
    types = [_type(number) for number in range(channels)]
    bodies = [
        {"events": [{"type": type, "data": data} for type in types[first : first + BATCH]]}
        for first in range(0, channels, BATCH)
    ]
    job = {
        "port": server.port,
        "path": f"{tenant.root}/events/batch",
        "key": tenant.key,
        "bodies": [json.dumps(body) for body in bodies],
        "events_per_body": BATCH,
        "connections": CONNECTIONS,
        "bodies_max": events // BATCH,
        "seconds": PUBLISH_SECONDS_MAX,
    }
    with Child("bench.publisher", job) as child:
        said = child.line()
        assert said["events"] == events, said


def _waiting(data_dir: Path) -> int:
    path = data_dir / "tocsin.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT count(*) FROM deliveries WHERE status = 'waiting'")
        return int(rows.fetchone()[0])


def show(found: list[Memory]) -> None:
    """A table for people."""
    table = Table(title="Memory while much is waiting")
    for column in ("waiting", "channels", "start s", "RSS MiB", "highest", "should be", ""):
        table.add_column(column, justify="right")
    table.add_column("database MiB", justify="right")
    for one in found:
        table.add_row(
            f"{one.waiting:,}",
            f"{one.channels:,}",
            f"{one.start_seconds:.1f}",
            f"{one.rss_mib:.0f}",
            f"{one.rss_peak_mib:.0f}",
            f"<= {one.wanted_mib:g}",
            "[green]met[/]" if one.met else "[red]MISSED[/]",
            f"{one.database_mib:,.0f}",
        )
    Console(width=150).print(table)

"""`tocsin migrate-store`, killed at its work and run again; a server on PostgreSQL then goes on."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.blackbox.conftest import NewServer
from tests.blackbox.receiver import HANG, Answer, Receipt, Receiver, reply
from tests.blackbox.server import Server, Tenant
from tests.blackbox.test_postgres import words
from tests.blackbox.test_start import refusal
from tests.postgres import server

pytestmark = pytest.mark.long

EVENTS = 300
BLOCKED_SECONDS_MAX = 120.0
ENDED_SECONDS_MAX = 300.0
DELIVERED_SECONDS_MAX = 240.0
WAITING = """
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE NOT granted AND datname = current_database()
"""


def command(data_dir: Path, dsn: str) -> list[str]:
    return [sys.executable, "-m", "tocsin", "migrate-store", f"sqlite:///{data_dir}/tocsin.db", dsn]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}


def run(data_dir: Path, dsn: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(data_dir, dsn), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=ENDED_SECONDS_MAX,
    )


async def kill_at_its_work(data_dir: Path, dsn: str) -> None:
    """Start it, and end it as a power cut would, in the middle of a transaction with deliveries."""
    holder = await asyncpg.connect(dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE deliveries IN SHARE ROW EXCLUSIVE MODE")
            process = await asyncio.create_subprocess_exec(
                *command(data_dir, dsn),
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(BLOCKED_SECONDS_MAX):
                    while not await holder.fetchval(WAITING):
                        assert process.returncode is None, "it ended before the lock"
                        await asyncio.sleep(0.02)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
    finally:
        await holder.close()


def seen(tenant: Tenant, channel_id: str) -> dict[str, Any]:
    """What a customer sees that no delivery changes any more."""
    return {
        "events": [
            {name: event[name] for name in ("id", "type", "idempotency_key", "created_at")}
            for event in tenant.all("/events")
        ],
        "deliveries": list(tenant.all("/deliveries", channel=channel_id)),
        "keys": [key["id"] for key in tenant.all("/keys")],
        "audit": list(tenant.all("/audit")),
        "channels": {
            channel["id"]: (channel["name"], channel["type"], channel["settings"])
            for channel in tenant.all("/channels")
        },
    }


def new_node(old: Server, dsn: str, data_dir: Path) -> Server:
    """A server on the new database, with the old one's master key and operator token."""
    made = Server(data_dir, {"requests_per_minute": 0, "stranger_requests_per_minute": 0})
    made.settings |= {
        "TOCSIN_STORE": dsn,
        "TOCSIN_MASTER_KEY": (old.data_dir / "master-key").read_text().strip(),
        "TOCSIN_OPERATOR_TOKEN": old.operator_token,
    }
    return made


def test_everything_goes_on_from_postgres(
    new_server: NewServer, receiver: Receiver, tmp_path: Path
) -> None:
    moved = False

    def hook(number: int, receipt: Receipt) -> Answer:
        return reply() if moved else HANG

    old = new_server().start()
    tenant = old.tenant("moving")
    quick = tenant.channel(receiver.url("/done"), event_types=["done.*"])["id"]
    tenant.channel(receiver.url("/hook", hook), event_types=["load.*"])
    finished = tenant.publish("done.first")
    tenant.settled(finished["id"], "delivered", seconds=60)
    batch = [
        {"type": "load.one", "data": {"number": n}, "idempotency_key": f"key-{n}"}
        for n in range(EVENTS)
    ]
    first = tenant.publish_batch(batch)
    receiver.wait(1, "/hook", seconds=60)
    before = seen(tenant, quick)
    database = server().migrated()
    dsn = server().dsn(database)
    new = new_node(old, dsn, tmp_path / "new")
    try:
        refused = run(old.data_dir, dsn)
        assert refused.returncode == 1
        assert "another process serves from" in words(refused.stderr)
        old.kill()
        asyncio.run(kill_at_its_work(old.data_dir, dsn))
        assert "is not whole" in words(refusal(new))
        done = run(old.data_dir, dsn)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["resumed"], said["tables"]["events"]["rows"]) == (True, EVENTS + 1)
        moved = True
        new.start()
        there = Tenant(new, tenant.organization, tenant.key, tenant.projects)
        assert seen(there, quick) == before
        again = there.publish_batch(batch[:5])
        assert [one["id"] for one in again] == [one["id"] for one in first[:5]]
        assert all(one["duplicate"] for one in again)
        receiver.wait_for(
            lambda found: (
                {receipt.json()["data"]["number"] for receipt in found} == {*range(EVENTS)}
            ),
            "/hook",
            seconds=DELIVERED_SECONDS_MAX,
        )
        for event in (first[0], first[-1]):
            there.settled(event["id"], "delivered", seconds=DELIVERED_SECONDS_MAX)
        assert new.stop() == 0, new.said()
    finally:
        new.close()
        server().drop(database)

"""An organization that was deleted is gone from the file itself, not only from what is shown."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.storage.stores import (
    AnyStore,
    born,
    make_channel,
    make_organization,
    new_event,
    open_store,
    settlement,
)

from tocsin.domain.model import AuditEntry, OrganizationId
from tocsin.service.sight import Sight
from tocsin.storage.control import audit, jobs, organizations, work
from tocsin.storage.tables import channels, metadata
from tocsin.storage.tables import organizations as organizations_table

pytestmark = pytest.mark.anyio

GONE, STAYS = OrganizationId("a" * 24), OrganizationId("b" * 24)
JOB = "c" * 24
EVENTS = 120


async def fill(store: AnyStore, organization: OrganizationId, mark: str) -> None:
    """Payloads, large and small, answers, names, keys of idempotency and the audit, all marked."""
    await make_organization(store, organization)
    channel = await make_channel(store, organization)
    for number in range(EVENTS):
        size = 9_000 if number % 10 == 0 else 50
        event = new_event(
            channel,
            organization_id=organization,
            data=b'"' + mark.encode() * size + b'"',
            idempotency_key=f"{mark}-{number}",
        )
        await store.add([event])
        settled = settlement(born(event))
        settled.attempt.response_body = mark * 40
        await store.settle([settled])

    def name(c: Connection) -> None:
        c.execute(sa.update(channels).where(channels.c.id == channel).values(name=f"{mark}-name"))
        mine = organizations_table.c.id == organization
        c.execute(sa.update(organizations_table).where(mine).values(name=f"{mark}-org"))
        entry = AuditEntry(
            id=f"{organization[:1]}{'d' * 23}",
            organization_id=organization,
            at=1,
            actor_kind="operator",
            actor_id=None,
            actor_name=f"{mark}-actor",
            dialect="native",
            address=None,
            action="channel.update",
            target_kind="channel",
            target_id=channel,
            changes={"name": mark},
        )
        audit.record(c, Sight(organization), entry)

    await store.write(name)


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("tocsin.db*"))


async def test_nothing_of_it_is_left_in_the_files(tmp_path: Path) -> None:
    sight = Sight(GONE)
    async with open_store("sqlite", tmp_path) as store:
        await fill(store, GONE, "canary-of-one")
        await fill(store, STAYS, "canary-of-two")

        def begin(c: Connection) -> jobs.Task:
            organizations.delete(c, sight, now_ms=1)
            return jobs.create(
                c,
                sight,
                id=JOB,
                kind=work.DELETE_ORGANIZATION,
                channel_id=None,
                internal=True,
                arguments={},
                now_ms=1,
            )

        task = await store.write(begin)

        def step(c: Connection) -> bool:
            current = jobs.task(c, task, JOB)
            assert current is not None
            return work.step(c, current, now_ms=work.SETTLING_MS + 2, rows_max=100).finished

        steps = 0
        while not await store.write(step):
            steps += 1
            assert steps < 500
        for table in metadata.sorted_tables:
            if "organization_id" in table.c and table.name != "jobs":
                found = sa.select(table).where(table.c.organization_id == GONE)
                assert await store.read(lambda c, found=found: c.execute(found).all()) == []  # type: ignore[misc]
    content = all_bytes(tmp_path)
    assert content.count(b"canary-of-two") > EVENTS
    assert b"canary-of-one" not in content

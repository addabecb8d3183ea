"""On PostgreSQL every hot statement finds its rows by an index, however many rows there are."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from tests.postgres import server
from tests.storage.stores import (
    ORGANIZATION,
    born,
    claim,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    settlement,
)
from tests.storage.test_postgres import opened

from tocsin.domain.ids import floor
from tocsin.domain.model import ChannelId, OrganizationId, Status
from tocsin.service.sight import Sight
from tocsin.storage.base import Stored
from tocsin.storage.control import deliveries, events
from tocsin.storage.postgres import PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.long]

PARKED = 200_000
ROWS_MAX = 500
"""So many rows may any step of a plan look at, in all of its rounds."""
_READS = re.compile(r"^\s*(INSERT|SELECT|UPDATE|WITH|DELETE)\b", re.IGNORECASE)

FILL = """
    INSERT INTO deliveries (id, event_id, organization_id, channel_id, event_type, origin, status,
        due_ms, node, claim, step, attempt_count, lost, created_at)
    SELECT '{head}' || lpad(to_hex(n), 12, '0'), '{head}' || lpad(to_hex(n), 12, '0'),
        '{organization}', '{channel}', 'a.b', 'event', 'waiting', {due}, 0, 0, 0, 0, 0, 1
    FROM generate_series(1, {count}) AS n;
    INSERT INTO events (id, organization_id, type, occurred_at, created_at, deliveries, data)
    SELECT '{head}' || lpad(to_hex(n), 12, '0'), '{organization}', 'a.b', 1, 1, 1, '1'
    FROM generate_series(1, {count}) AS n;
"""


class Explained(asyncpg.Connection):
    """Explains each statement before it runs it: what it would really do, then undone."""

    plans: list[tuple[str, dict[str, Any]]]
    watching = False

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        if not Explained.watching or not _READS.match(query) or "set_config" in query:
            return
        await super().execute("SAVEPOINT explained")
        rows = await super().fetch(f"EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF) {query}", *args)
        await super().execute("ROLLBACK TO SAVEPOINT explained")
        Explained.plans.append((query, json.loads(rows[0][0])[0]["Plan"]))

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        await self._explain(query, args)
        return await super().execute(query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        await self._explain(query, args)
        return await super().fetch(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        await self._explain(query, args)
        return await super().fetchval(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        await self._explain(query, args)
        return await super().fetchrow(query, *args, **options)


@pytest.fixture(scope="module")
async def crowded() -> AsyncIterator[tuple[PostgresStore, ChannelId]]:
    """A store whose database holds very much that waits in a parked lane, and in an open one."""
    name = server().migrated()
    async with opened(name, connection_class=Explained) as store:
        await make_organization(store)
        parked, busy = [await make_channel(store) for _ in range(2)]
        for channel, due, parts in ((parked, 1, 0), (busy, 2**50, 1)):
            head = floor(now_ms() - 3_600_000 + parts)[:12]
            text = FILL.format(
                head=head, organization=ORGANIZATION, channel=channel, due=due, count=PARKED
            )
            server().command(text, name)
        server().command("VACUUM ANALYZE", name)
        await store.write(
            lambda c: (
                c.execute(
                    sa.text("UPDATE lanes SET parked = 'disabled' WHERE channel_id = :c"),
                    {"c": parked},
                ).rowcount
            )
        )
        yield store, busy
    server().drop(name)


def steps(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(step for part in plan.get("Plans", ()) for step in steps(part))]


def check(plans: list[tuple[str, dict[str, Any]]]) -> None:
    assert plans
    for query, plan in plans:
        for step in steps(plan):
            kind, table = step["Node Type"], step.get("Relation Name", "")
            hot = table.startswith(("deliveries", "events", "attempts", "idempotency"))
            assert not (hot and kind == "Seq Scan"), (query, step)
            seen = (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step[
                "Actual Loops"
            ]
            assert seen <= ROWS_MAX, (query, step)


async def test_hot_statements_touch_few_rows(crowded: tuple[PostgresStore, ChannelId]) -> None:
    store, busy = crowded
    Explained.plans, Explained.watching = [], True
    try:
        fresh = [new_event(busy, idempotency_key=f"k{n}") for n in range(20)]
        answers = await store.add(fresh)
        held = [
            born(event)
            for event, answer in zip(fresh, answers, strict=True)
            if isinstance(answer, Stored) and answer.claimed
        ]
        assert len(held) == 20
        await store.settle([settlement(item, Status.WAITING) for item in held[:5]])
        await store.settle([settlement(item) for item in held[5:]])
        again = await claim(store, now_ms() + 60_000, room=100)
        assert len(again) == 5
        await store.release([(item.id, item.claim, item.channel_id) for item in again])
        await store.check_lanes(now_ms())
        await store.forget_keys(now_ms() + 1, 10)
    finally:
        Explained.watching = False
    check(Explained.plans)


async def test_claims_out_of_a_crowded_lane_touch_few_rows(
    crowded: tuple[PostgresStore, ChannelId],
) -> None:
    store, busy = crowded
    await store.write(
        lambda c: (
            c.execute(
                sa.text("UPDATE lanes SET next_due_ms = 2 WHERE channel_id = :c"), {"c": busy}
            ).rowcount
        )
    )
    Explained.plans, Explained.watching = [], True
    try:
        held = await claim(store, 2**51, room=50)
    finally:
        Explained.watching = False
    assert len(held) == 50
    check(Explained.plans)


async def test_lists_walk_their_index(crowded: tuple[PostgresStore, ChannelId]) -> None:
    """Each list of the log, with each of its filters, by an index and no sort of its table."""
    store, busy = crowded
    sight = Sight(OrganizationId(ORGANIZATION))
    queries: list[str] = []

    def record(connection: sa.Connection) -> None:
        def before(*event: Any) -> None:
            statement, parameters = event[2], event[3]
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN {statement}", parameters)
            queries.append("\n".join(row[0] for row in cursor.fetchall()))
            cursor.close()

        sa.event.listen(connection, "before_cursor_execute", before)
        now = deliveries.Now(storage_ms=now_ms(), wall_ms=now_ms(), nodes=(store.node,))
        walk: dict[str, Any] = {"limit": 50, "below": None}
        deliveries.walk(connection, sight, now, **walk)
        deliveries.walk(connection, sight, now, channel_id=busy, **walk)
        for status in Status:
            deliveries.walk(connection, sight, now, status=status, **walk)
        deliveries.walk(connection, sight, now, event_type="a.b", after=1, before=2**45, **walk)
        events.walk(connection, sight, **walk)
        events.walk(connection, sight, type="a.b", after=1, before=2**45, **walk)
        sa.event.remove(connection, "before_cursor_execute", before)

    await store.read(record)
    assert queries
    for plan in queries:
        # An empty partition costs nothing either way.
        lines = [line for line in plan.splitlines() if "cost=0.00..0.00" not in line]
        assert not [line for line in lines if re.search(r"Seq Scan on \w+_p_", line)], plan
        assert "Sort Key: deliveries" not in plan, plan

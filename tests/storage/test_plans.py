"""On PostgreSQL every hot statement finds its rows by an index, however many rows there are.

`TOCSIN_TEST_ROWS` says how many delivered rows there are beside those that wait; by hand with
5000000 and `-s`, which prints what each statement touched. That takes 10 GB and some minutes.
"""

import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any

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
from tocsin.storage.control.walk import ROWS_SCANNED_MAX
from tocsin.storage.postgres import PostgresStore
from tocsin.storage.postgres.lean import LeanConnection

pytestmark = [pytest.mark.anyio, pytest.mark.long]

DELIVERED = int(os.environ.get("TOCSIN_TEST_ROWS", "50000"))
PARKED = max(50_000, DELIVERED // 20)
STEP = 250_000
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
FILL_DELIVERED = """
    INSERT INTO events (id, organization_id, type, occurred_at, created_at, deliveries, data)
    SELECT '{head}' || lpad(to_hex(n), 12, '0'), '{organization}', 'a.b', 1, 1, 1, '1'
    FROM generate_series({first}, {last}) AS n;
    INSERT INTO deliveries (id, event_id, organization_id, channel_id, event_type, origin, status,
        due_ms, node, claim, step, attempt_count, lost, created_at, finished_at, last_status_code)
    SELECT '{head}' || lpad(to_hex(n), 12, '0'), '{head}' || lpad(to_hex(n), 12, '0'),
        '{organization}', '{channel}', 'a.b', 'event', 'delivered', 1, 0, 1, 0, 1, 0, 1, 2, 204
    FROM generate_series({first}, {last}) AS n;
    INSERT INTO attempts (delivery_id, claim, organization_id, number, started_at, duration_ms,
        outcome, status_code, superseded)
    SELECT '{head}' || lpad(to_hex(n), 12, '0'), 1, '{organization}', 1, 1, 1, 'delivered', 204,
        false
    FROM generate_series({first}, {last}) AS n;
"""


class Explained(LeanConnection):
    """Explains each statement before it runs it: what it would really do, then undone."""

    plans: list[tuple[str, dict[str, Any]]]
    watching = False

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        if not Explained.watching or not _READS.match(query) or "synchronous_commit" in query:
            return
        await super().execute("SAVEPOINT explained")
        rows = await super().fetch(f"EXPLAIN (ANALYZE, FORMAT JSON, COSTS OFF) {query}", *args)
        await super().execute("ROLLBACK TO SAVEPOINT explained")
        Explained.plans.append((query, json.loads(rows[0][0])[0]))

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
async def crowded(patience: None) -> AsyncIterator[tuple[PostgresStore, ChannelId]]:
    """A store whose database holds very much that waits in a parked lane, and in an open one, and
    very much that is delivered."""
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
        for first in range(1, DELIVERED + 1, STEP):
            last = min(first + STEP - 1, DELIVERED)
            text = FILL_DELIVERED.format(
                head=floor(now_ms() - 3_600_000 + first // STEP + 2)[:12],
                organization=ORGANIZATION,
                channel=busy,
                first=first,
                last=last,
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


def touched(plan: dict[str, Any]) -> int:
    """The most rows that a step looked at, in all of its rounds."""
    return int(max(map(seen, steps(plan))))


def seen(step: dict[str, Any]) -> float:
    rows: float = step["Actual Rows"] + step.get("Rows Removed by Filter", 0)
    return rows * float(step["Actual Loops"])


def show(query: str, explained: dict[str, Any]) -> None:
    if "TOCSIN_TEST_ROWS" in os.environ:
        took = explained["Execution Time"] + explained["Planning Time"]
        rows = touched(explained["Plan"])
        print(f"{rows:>8,.0f} rows {took:8.2f} ms  {' '.join(query.split())[:100]}")


def check(plans: list[tuple[str, dict[str, Any]]]) -> None:
    assert plans
    for query, explained in plans:
        plan = explained["Plan"]
        show(query, explained)
        for step in steps(plan):
            kind, table = step["Node Type"], step.get("Relation Name", "")
            hot = table.startswith(("deliveries", "events", "attempts", "idempotency"))
            assert not (hot and kind == "Seq Scan"), (query, step)
            assert seen(step) <= ROWS_MAX, (query, step)


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
    """Each list of the log, with each of its filters, by an index, no sort of its table, and no
    more than so many rows of it."""
    store, busy = crowded
    sight = Sight(OrganizationId(ORGANIZATION))
    queries: list[tuple[str, dict[str, Any]]] = []

    def record(connection: sa.Connection) -> None:
        def before(*event: Any) -> None:
            statement, parameters = event[2], event[3]
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            (explained,) = cursor.fetchall()[0][0]
            queries.append((statement, explained))
            cursor.close()

        sa.event.listen(connection, "before_cursor_execute", before)
        now = deliveries.Now(storage_ms=now_ms(), wall_ms=now_ms(), nodes=(store.node,))
        walk: dict[str, Any] = {"limit": 50, "below": None}
        deliveries.walk(connection, sight, now, **walk)
        deliveries.walk(connection, sight, now, channel_id=busy, **walk)
        for status in Status:
            deliveries.walk(connection, sight, now, status=status, **walk)
            deliveries.walk(connection, sight, now, status=status, channel_id=busy, **walk)
        deliveries.walk(connection, sight, now, event_type="a.b", after=1, before=2**45, **walk)
        deliveries.walk(connection, sight, now, event_type="no.such", **walk)
        events.walk(connection, sight, **walk)
        events.walk(connection, sight, type="a.b", after=1, before=2**45, **walk)
        events.walk(connection, sight, type="no.such", **walk)
        sa.event.remove(connection, "before_cursor_execute", before)

    await store.read(record)
    assert queries
    for query, explained in queries:
        show(query, explained)
        # One row more: where the walk goes on.
        assert touched(explained["Plan"]) <= ROWS_SCANNED_MAX + 1, (query, explained)
        for step in steps(explained["Plan"]):
            # An empty partition costs nothing either way.
            read_whole = step["Node Type"] == "Seq Scan" and step["Actual Rows"]
            assert not (read_whole and "_p_" in step["Relation Name"]), (query, step)
            sorted_by = " ".join(step.get("Sort Key", ()))
            assert not sorted_by.startswith("deliveries"), (query, step)

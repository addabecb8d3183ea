"""Purge on both drivers: bounded steps, only what is final, each row removed and counted once."""

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from tests.postgres import server
from tests.storage.faulty import Plan, store_error
from tests.storage.stores import (
    DRIVERS,
    ORGANIZATION,
    AnyStore,
    born,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    open_store,
    rows,
    settlement,
)
from tests.storage.test_postgres import opened

from tocsin.domain.errors import Unavailable
from tocsin.domain.ids import floor
from tocsin.domain.model import ChannelId
from tocsin.storage.base import ROWS_PER_STEP_MAX, Purged
from tocsin.storage.control import retention
from tocsin.storage.control.retention import Overdue
from tocsin.storage.postgres.partitions import make
from tocsin.storage.tables import attempts, channels, deliveries, events, lanes

pytestmark = pytest.mark.anyio

DAY_MS = 86_400_000
TODAY_MS = now_ms() // DAY_MS * DAY_MS
OLD_MS = TODAY_MS - 10 * DAY_MS
BEFORE_MS = TODAY_MS - 5 * DAY_MS
CHANNEL = ChannelId("c" * 24)
RESOLVE = "UPDATE issues SET status = 'resolved', resolved_at = 7"


def id_of(number: int, ms: int = OLD_MS) -> str:
    return f"{ms:012x}{number:012x}"


async def old(
    store: AnyStore,
    statuses: list[str],
    *,
    ms: int = OLD_MS,
    tries: int = 2,
    data: bytes = b'"x"',
    channel: str = CHANNEL,
    **values: Any,
) -> None:
    """Events of long ago with a delivery in each of these states, and attempts."""
    event = {
        "organization_id": ORGANIZATION,
        "type": "a.b",
        "occurred_at": ms,
        "created_at": ms,
        "deliveries": 1,
        "data": data,
    }
    delivery = {
        "organization_id": ORGANIZATION,
        "channel_id": channel,
        "event_type": "a.b",
        "origin": "event",
        "due_ms": ms,
        "node": 0,
        "claim": tries,
        "step": 0,
        "attempt_count": tries,
        "lost": 0,
        "created_at": ms,
        **values,
    }
    attempt = {
        "organization_id": ORGANIZATION,
        "started_at": ms,
        "duration_ms": 1,
        "outcome": "retry",
        "superseded": False,
    }

    def work(c: sa.Connection) -> None:
        if c.dialect.name == "postgresql":
            make(c, [ms // DAY_MS])
        ids = [(id_of(2 * n, ms), id_of(2 * n + 1, ms)) for n in range(len(statuses))]
        c.execute(sa.insert(events), [event | {"id": one} for one, _ in ids])
        c.execute(
            sa.insert(deliveries),
            [
                delivery | {"id": two, "event_id": one, "status": status}
                for (one, two), status in zip(ids, statuses, strict=True)
            ],
        )
        if tries:
            c.execute(
                sa.insert(attempts),
                [
                    attempt | {"delivery_id": two, "claim": n, "number": n}
                    for _, two in ids
                    for n in range(1, tries + 1)
                ],
            )

    await store.write(work)


async def there(store: AnyStore) -> dict[str, int]:
    found = {}
    for table in retention.COUNTED:
        (row,) = await rows(store, f"SELECT count(*) AS n FROM {table}")
        found[table] = row["n"]
    return found


async def removed(store: AnyStore) -> dict[str, int]:
    return await store.read(retention.purged)


async def purge(store: AnyStore, before_ms: int = BEFORE_MS) -> list[Purged]:
    steps = [await store.purge(before_ms)]
    while steps[-1].more:
        steps.append(await store.purge(before_ms))
    return steps


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_is_final_goes_in_bounded_steps_and_is_counted(
    driver: str, tmp_path: Path
) -> None:
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        await old(store, ["delivered", "exhausted", "rejected", "cancelled", "grouped"] * 300)
        young = new_event(channel)
        await store.add([young])
        await store.settle([settlement(born(young))])
        steps = await purge(store)
        assert all(step.rows <= ROWS_PER_STEP_MAX for step in steps)
        assert len(steps) > 3
        assert await there(store) == {"events": 1, "deliveries": 1, "attempts": 1}
        whole = {"events": 1500, "deliveries": 1500, "attempts": 3000}
        assert await removed(store) == whole
        for table in retention.COUNTED:
            assert sum(getattr(step, table) for step in steps) == whole[table]
        assert [step.rows for step in await purge(store)][-1] == 0
        assert await removed(store) == whole


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("node", [0, 7])
async def test_live_work_stays_with_its_event(driver: str, node: int, tmp_path: Path) -> None:
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        await old(store, ["waiting"], node=node)
        await old(store, ["delivered"] * 5, ms=OLD_MS + DAY_MS)
        await purge(store)
        assert await there(store) == {"events": 1, "deliveries": 1, "attempts": 2}
        await store.write(
            lambda c: c.execute(sa.update(deliveries).values(status="exhausted", node=0)).rowcount
        )
        await purge(store)
        assert await there(store) == dict.fromkeys(retention.COUNTED, 0)
        assert await removed(store) == {"events": 6, "deliveries": 6, "attempts": 12}


async def test_one_delivery_with_thousands_of_attempts_goes_in_steps(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        await old(store, ["exhausted"], tries=7_000)
        await old(store, ["exhausted"] * 2, ms=OLD_MS + 1, tries=3)
        steps = await purge(store)
        assert max(step.rows for step in steps) <= ROWS_PER_STEP_MAX
        assert await there(store) == dict.fromkeys(retention.COUNTED, 0)
        assert await removed(store) == {"events": 3, "deliveries": 3, "attempts": 7_006}


async def test_attempts_that_came_after_their_delivery_was_gone_go_too(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        await old(store, ["delivered", "waiting"])
        await store.write(
            lambda c: (
                c.execute(sa.delete(deliveries).where(deliveries.c.status == "delivered")).rowcount
            )
        )
        await purge(store)
        assert await there(store) == {"events": 1, "deliveries": 1, "attempts": 2}


async def test_a_step_writes_few_bytes_however_large_events_are(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        await old(store, ["delivered"] * 40, data=b'"' + b"x" * 200_000 + b'"', tries=0)
        steps = [step for step in await purge(store) if step.events]
        assert max(step.events for step in steps) <= 3
        assert sum(step.events for step in steps) == 40


async def test_the_file_grows_no_more_once_it_is_as_large_as_its_days(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        sizes = []
        for day in range(8):
            ms = OLD_MS + day * DAY_MS
            await old(store, ["delivered"] * 400, ms=ms, data=b'"' + b"x" * 3_000 + b'"')
            await purge(store, ms - DAY_MS + 1)
            await store.write(lambda c: None)
            (pages,) = await rows(store, "PRAGMA page_count")
            sizes.append(pages["page_count"])
        assert max(sizes[4:]) <= sizes[3] * 1.1


STATEMENTS_MAX = 60


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_fault_at_any_statement_counts_nothing_twice(tmp_path: Path, after: bool) -> None:
    plan = Plan()
    async with open_store("sqlite", tmp_path, connect=plan.connect) as store:
        await old(store, ["delivered"] * 30 + ["waiting"])
        for at in range(1, STATEMENTS_MAX):
            plan.arm(at, store_error(10), after=after)
            whole = True
            try:
                await purge(store)
            except Unavailable:
                whole = False
            plan.disarm()
            if after:
                # What raised is in a circle with the connection that holds its transaction open.
                gc.collect()
            left, gone = await there(store), await removed(store)
            assert left["events"] + gone["events"] == 31
            assert left["deliveries"] + gone["deliveries"] == 31
            assert left["attempts"] + gone["attempts"] == 62
            if whole:
                break
        else:
            raise AssertionError("there is no end of statements")
        assert at > 10
        assert await there(store) == {"events": 1, "deliveries": 1, "attempts": 2}


class Cut(asyncpg.Connection):
    """Ends its session at the `left`-th statement of a purge, before or after it is done."""

    left = 0
    after = False
    fired = False

    async def _cut(self, query: str, work: Any) -> Any:
        mine = any(word in query for word in ("DETACH", "DROP TABLE", "purged_", "count(*)"))
        if query in ("BEGIN", "BEGIN READ ONLY"):
            self.purging = True
        elif query.startswith("BEGIN"):
            self.purging = False
        if not (mine or (query == "COMMIT" and getattr(self, "purging", False))) or not Cut.left:
            return await work()
        Cut.left -= 1
        if Cut.left:
            return await work()
        Cut.fired = True
        if Cut.after:
            await work()
        self.terminate()
        raise asyncpg.ConnectionDoesNotExistError("injected")

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        work = super().execute
        done: str = await self._cut(query, lambda: work(query, *args, **options))
        return done

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        work = super().fetchval
        return await self._cut(query, lambda: work(query, *args, **options))


@pytest.mark.parametrize("after", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_session_that_ends_anywhere_counts_nothing_twice(after: bool) -> None:
    name = server().migrated()
    async with opened(name, connection_class=Cut) as store:
        for day in range(9):
            await old(store, ["delivered"] * 3, ms=OLD_MS - day * DAY_MS)
        Cut.after = after
        for at in range(1, STATEMENTS_MAX):
            Cut.left, Cut.fired = at, False
            with contextlib.suppress(Unavailable):
                await purge(store)
            Cut.left = 0
            left, gone = await there(store), await removed(store)
            assert left["events"] + gone["events"] == 27
            assert left["deliveries"] + gone["deliveries"] == 27
            assert left["attempts"] + gone["attempts"] == 54
            if not Cut.fired:
                break
        else:
            raise AssertionError("there is no end of statements")
        assert at > 6
        assert await there(store) == dict.fromkeys(retention.COUNTED, 0)
    server().drop(name)


async def test_whole_days_are_dropped_and_the_day_of_the_bound_stays(tmp_path: Path) -> None:
    async with open_store("postgres", tmp_path) as store:
        await old(store, ["delivered"], ms=OLD_MS)
        await old(store, ["delivered"], ms=OLD_MS + DAY_MS)
        await purge(store, OLD_MS + DAY_MS + 3_600_000)
        assert await there(store) == {"events": 1, "deliveries": 1, "attempts": 2}
        names = await rows(
            store, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE '%\\_p\\_%'"
        )
        days = {row["relname"][-8:] for row in names}
        assert len(names) == 3 * len(days)


async def test_who_reads_for_long_is_not_cut_off_and_who_publishes_does_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with open_store("postgres", tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        await old(store, ["delivered"] * 3)
        reader = await asyncpg.connect(server().dsn(await _database(store)))
        try:
            await reader.execute("BEGIN")
            # As pg_dump does: its lock lasts as long as it does.
            await reader.fetch("SELECT count(*) FROM deliveries")
            purging = asyncio.ensure_future(store.purge(BEFORE_MS))
            stored = 0
            while not purging.done():
                await store.add([new_event(channel, claim=False)])
                stored += 1
            with pytest.raises(Unavailable):
                await purging
            # It gave up again and again, and let those behind it pass each time.
            assert stored >= 2
            assert await removed(store) == dict.fromkeys(retention.COUNTED, 0)
        finally:
            await reader.close()
        await purge(store)
        assert (await removed(store))["deliveries"] == 3


async def _database(store: AnyStore) -> str:
    return str(await store.read(lambda c: c.scalar(sa.text("SELECT current_database()"))))


# What has waited too long


def overdue(now: int) -> Overdue:
    return Overdue(
        through=floor(now - 14 * DAY_MS), last=floor(now - 29 * DAY_MS), spared_ms=14 * DAY_MS
    )


async def expire(store: AnyStore, now: int, rows_max: int = 100) -> set[str]:
    ended: set[str] = set()
    above = None
    while True:
        late = await store.read(
            lambda c, above=above: retention.late(c, overdue(now), above=above, rows_max=rows_max)  # type: ignore[misc]
        )
        done = await store.write(
            lambda c, found=late.found: retention.expire(  # type: ignore[misc]
                c, found, overdue(now), node=store.node, wall_ms=now, storage_ms=now
            )
        )
        ended |= {delivery_id for _, delivery_id in done}
        if late.further is None:
            return ended
        above = late.further


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_waits_too_long_ends_but_for_what_is_held_or_re_opened(
    driver: str, tmp_path: Path
) -> None:
    now = now_ms()
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        ages: dict[str, tuple[int, dict[str, Any]]] = {
            "young": (13, {}),
            "parked": (15, {}),
            "held": (16, {"node": 9}),
            "re-opened": (17, {"due_ms": now}),
            "failed again": (18, {"due_ms": now, "step": 1}),
            "nearly removed": (29, {"due_ms": now}),
        }
        ids = {}
        for name, (days, values) in ages.items():
            # An hour older, so that it is beyond the bound whenever it is looked at.
            ms = now - days * DAY_MS - 3_600_000
            await old(store, ["waiting"], ms=ms, channel=channel, tries=0, **values)
            ids[id_of(1, ms)] = name
        many = now - 20 * DAY_MS
        await old(store, ["waiting"] * 350, ms=many, channel=channel, tries=0)
        ended = await expire(store, now)
        names = {ids.get(one, "one of many") for one in ended}
        assert names == {"parked", "failed again", "nearly removed", "one of many"}
        assert len(ended) == 353
        query = "SELECT * FROM deliveries WHERE status = 'exhausted'"
        found = await rows(store, query)
        assert {row["id"] for row in found} == ended
        assert {row["last_error"] for row in found} == {retention.EXPIRED}
        assert {row["finished_at"] for row in found} == {now}
        counted = await rows(store, "SELECT sum(exhausted) AS n FROM channel_minutes")
        assert int(counted[0]["n"]) == 353
        (issue,) = await rows(store, "SELECT * FROM issues")
        assert (issue["fingerprint"], issue["status"]) == ("expired", "open")
        assert (issue["occurrence_count"], issue["last_error"]) == (353, retention.EXPIRED)
        assert issue["last_delivery_id"] in ended
        assert issue["last_event_id"] is not None
        assert await expire(store, now) == set()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_issue_that_was_resolved_is_opened_again(driver: str, tmp_path: Path) -> None:
    now = now_ms()
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        kept, gone = await make_channel(store), await make_channel(store)

        async def wait_too_long(channel: ChannelId, days: int) -> None:
            await old(store, ["waiting"], ms=now - days * DAY_MS, channel=channel, tries=0)

        await wait_too_long(kept, 20)
        assert len(await expire(store, now)) == 1
        await store.write(lambda c: c.execute(sa.text(RESOLVE)).rowcount)
        await store.write(
            lambda c: (
                c.execute(
                    sa.update(channels).where(channels.c.id == gone).values(deleted_at=now)
                ).rowcount
            )
        )
        await wait_too_long(kept, 19)
        await wait_too_long(gone, 18)
        assert len(await expire(store, now + 1)) == 2
        # A channel that is gone has none.
        (issue,) = await rows(store, "SELECT * FROM issues")
        assert (issue["status"], issue["resolved_at"]) == ("open", None)
        assert (issue["occurrence_count"], issue["opened_at"]) == (2, now + 1)
        assert (issue["first_seen_at"], issue["last_seen_at"]) == (now, now + 1)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_ordered_lane_goes_on_behind_what_ended(driver: str, tmp_path: Path) -> None:
    now = now_ms()
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        await old(store, ["waiting"], ms=now - 15 * DAY_MS, channel=channel, step=1, seq=1, tries=0)
        values = {"ordered": True, "exclusive": True, "next_due_ms": now + DAY_MS}
        await store.write(
            lambda c: (
                c.execute(
                    sa.update(lanes).where(lanes.c.channel_id == channel).values(values)
                ).rowcount
            )
        )
        assert len(await expire(store, now)) == 1
        (lane,) = await rows(store, "SELECT * FROM lanes")
        assert lane["next_due_ms"] <= now


async def test_sqlite_walks_what_waits_by_its_index(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        plans: list[str] = []

        def work(c: sa.Connection) -> None:
            def before(*event: Any) -> None:
                cursor = c.connection.cursor()
                cursor.execute(f"EXPLAIN QUERY PLAN {event[2]}", event[3])
                plans.append("\n".join(row[3] for row in cursor.fetchall()))

            sa.event.listen(c, "before_cursor_execute", before)
            for above in (None, [CHANNEL, 0, 5, id_of(1)]):
                retention.late(c, overdue(now_ms()), above=above, rows_max=10)
            sa.event.remove(c, "before_cursor_execute", before)

        await store.write(work)
        assert len(plans) == 2
        for plan in plans:
            assert "deliveries_open" in plan
            assert "TEMP B-TREE" not in plan
        assert "channel_id" in plans[1]

"""Rows that go to SQLite as one JSON value are what single parameters would have been."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests.storage.stores import (
    AnyStore,
    claim,
    make_channel,
    make_organization,
    new_event,
    now_ms,
    one,
    open_store,
    rows,
    settlement,
)

from tocsin.domain.model import Status
from tocsin.storage.sqlite.rows import ROWS_PER_STEP
from tocsin.storage.sqlite.taking import LOOK_BYTES, ROWS_PER_LOOK_MAX, Due, rows_to_look

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AnyStore]:
    async with open_store("sqlite", tmp_path) as opened:
        await make_organization(opened)
        yield opened


def text(size: int, inside: str = "x") -> bytes:
    return f'"{inside * (size - 2)}"'.encode()


async def test_a_payload_comes_back_as_the_same_bytes_whatever_it_is(store: AnyStore) -> None:
    channel = await make_channel(store)
    wanted = [
        text(2),
        text(5_000),
        text(200_000, "é"),
        b'{"a" : "\\u0000\\"\\\\/\\ud83d", "b":\t[1.0, 1E2, -0] }\r\n',
        "\u2028\u20ac\U0001f600".encode(),
        b"\0 no JSON at all",
        b"\xff\xfe no text at all",
    ]
    await store.add([new_event(channel, data=data) for data in wanted])
    found = await rows(store, "SELECT data, typeof(data) AS kind FROM events ORDER BY id")
    assert [row["data"] for row in found] == wanted
    assert {row["kind"] for row in found} == {"blob"}


async def test_what_is_for_people_is_kept_too(store: AnyStore) -> None:
    channel = await make_channel(store)
    people = msgspec.json.encode({"title": 'Ä "title"\n', "fields": {"\0": "\U0001f600"}})
    for given in (people, people + b"\0"):
        await store.add([new_event(channel, claim=False, people=given)])
    found = await rows(store, "SELECT people, typeof(people) AS kind FROM events ORDER BY id")
    assert [(row["people"], row["kind"]) for row in found] == [
        (people, "blob"),
        (people + b"\0", "blob"),
    ]


async def test_more_than_one_step_holds(store: AnyStore) -> None:
    channel, ordered = await make_channel(store), await make_channel(store)
    count = ROWS_PER_STEP + 3
    events = [new_event(channel, claim=n % 2 == 0) for n in range(count)]
    numbered = [new_event(ordered) for _ in range(3)]
    for event in numbered:
        event.deliveries[0].ordered = True
    await store.add([*numbered, *events])
    kinds = await rows(
        store,
        "SELECT DISTINCT typeof(id) AS id, typeof(due_ms) AS due, typeof(node) AS node,"
        " typeof(claim) AS claim, typeof(project_id) AS project, typeof(created_at) AS made"
        " FROM deliveries",
    )
    assert kinds == [
        {
            "id": "text",
            "due": "integer",
            "node": "integer",
            "claim": "integer",
            "project": "null",
            "made": "integer",
        }
    ]
    found = await rows(store, f"SELECT seq FROM deliveries WHERE channel_id = '{ordered}'")
    assert sorted(row["seq"] for row in found) == [1, 2, 3]
    query = f"SELECT count(*) AS n FROM deliveries WHERE channel_id = '{channel}' AND seq IS NULL"
    assert (await one(store, query))["n"] == count


async def test_a_success_keeps_its_reply_and_a_mixed_batch_is_recorded_whole(
    store: AnyStore,
) -> None:
    channel = await make_channel(store)
    bodies = [None, "", "ok", 'é "\\ \n\U0001f600', "cut\0off"]
    await store.add([new_event(channel, claim=False) for _ in range(len(bodies) + 3)])
    held = await claim(store)
    done = [settlement(item) for item in held]
    for item, body in zip(done, bodies, strict=False):
        item.attempt.response_body = body
    done[-3].attempt.error = "resent: twice"
    done[-2] = settlement(held[-2], Status.WAITING)
    done[-1] = settlement(held[-1], Status.EXHAUSTED)
    settled = await store.settle(done)
    assert settled.superseded == []
    attempts = await rows(store, "SELECT * FROM attempts ORDER BY delivery_id")
    assert [row["response_body"] for row in attempts[: len(bodies)]] == bodies
    assert [row["error"] for row in attempts[-3:]] == [
        "resent: twice",
        "http_status: 500",
        "http_status: 500",
    ]
    assert {row["superseded"] for row in attempts} == {0}
    states = await rows(store, "SELECT * FROM deliveries ORDER BY id")
    assert [row["status"] for row in states] == [
        *["delivered"] * (len(bodies) + 1),
        "waiting",
        "exhausted",
    ]
    assert {(row["node"], row["attempt_count"]) for row in states} == {(0, 1)}
    plain = states[0]
    assert plain["finished_at"] == done[0].finished_at
    assert (plain["last_status_code"], plain["last_error"]) == (204, None)


async def test_a_backlog_is_looked_at_in_steps_by_its_size(store: AnyStore) -> None:
    channel = await make_channel(store)
    count = ROWS_PER_LOOK_MAX + 100
    added = [new_event(channel, claim=False) for _ in range(count)]
    await store.add(added)
    held = await claim(store, lane_room=count, room=count)
    assert [item.id for item in held] == [event.deliveries[0].id for event in added]


def test_the_next_look_asks_for_what_the_last_one_lets_expect() -> None:
    row = msgspec.convert(
        ["", "", 0, 0, 0, 0, 0, "event", "", "", None, "", 0, "", 0, 0, None], Due
    )
    for size, count in ((0, ROWS_PER_LOOK_MAX), (LOOK_BYTES // 4, 3), (LOOK_BYTES * 2, 1)):
        row.size = size
        assert rows_to_look([row, row]) == count


async def test_what_was_held_is_due_at_the_next_start_whatever_the_clock_says(
    tmp_path: Path,
) -> None:
    """A clock that was put back makes what was due look as if it were not yet."""
    async with open_store("sqlite", tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        event = new_event(channel, due_ms=now_ms() + 60_000)
        await store.add([event])
    async with open_store("sqlite", tmp_path) as store:
        assert [item.id for item in await claim(store)] == [event.deliveries[0].id]

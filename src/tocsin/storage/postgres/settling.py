"""Settle: attempts, the deliveries' next states and the lanes' tracking, in one transaction."""

from collections.abc import Sequence
from typing import Any

from tocsin.domain.breaking import COUNTING
from tocsin.domain.model import ChannelId, Status
from tocsin.storage.base import Settled, Settlement
from tocsin.storage.notes import (
    Note,
    disabled_note,
    issue_rows,
    minute_rows,
    note_rows,
    streak_note,
)
from tocsin.storage.postgres.claiming import cancel_where_dropped
from tocsin.storage.postgres.noting import CHANNEL_MINUTES, watch
from tocsin.storage.postgres.tracking import track
from tocsin.storage.postgres.writer import Transaction
from tocsin.storage.settlements import Tally, attempt_row, move_row, tallied

_MOVE = """
    UPDATE deliveries SET status = v.status, node = 0, due_ms = v.due_ms, step = v.step,
        attempt_count = attempt_count + 1, finished_at = v.finished_at,
        last_status_code = v.status_code, last_error = v.error
    FROM unnest($1::text[], $2::int[], $3::text[], $4::bigint[], $5::int[], $6::bigint[],
        $7::int[], $8::text[])
        AS v (id, claim, status, due_ms, step, finished_at, status_code, error)
    WHERE deliveries.id = v.id AND deliveries.claim = v.claim AND deliveries.status = 'waiting'
        AND deliveries.node = ANY ($9::int[])
        AND deliveries.id = ANY ($1::text[]) AND deliveries.id BETWEEN $10 AND $11
    RETURNING deliveries.id
"""
_ATTEMPTS = """
    INSERT INTO attempts (delivery_id, claim, organization_id, number, started_at, duration_ms,
        outcome, status_code, error, response_body, superseded)
    SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::bigint[], $6::int[],
        $7::text[], $8::int[], $9::text[], $10::text[], $11::bool[])
    ON CONFLICT DO NOTHING
"""
_RECORDED = """
    SELECT a.delivery_id, a.claim FROM unnest($1::text[], $2::int[]) AS v (id, claim)
    JOIN attempts AS a ON a.delivery_id = v.id AND a.claim = v.claim
    WHERE NOT a.superseded AND a.delivery_id = ANY ($1::text[])
        AND a.delivery_id BETWEEN $3 AND $4
"""
_END_DELIVERED = """
    UPDATE deliveries SET status = 'delivered', node = 0, finished_at = v.finished_at,
        last_status_code = v.status_code, last_error = NULL
    FROM unnest($1::text[], $2::bigint[], $3::int[]) AS v (id, finished_at, status_code)
    WHERE deliveries.id = v.id AND deliveries.status = 'waiting'
        AND deliveries.id = ANY ($1::text[]) AND deliveries.id BETWEEN $4 AND $5
"""
_PARK_CHANNEL = """
    UPDATE channels SET enabled = false, disabled_reason = $1, version = version + 1,
        updated_at = $2
    WHERE id = $3 AND version = $4
"""
_BUMP = "UPDATE organizations SET version = version + 1 WHERE id = $1"


async def settle(at: Transaction, items: Sequence[Settlement], now_ms: int) -> Settled:
    """Apply what still matches; what does not is kept as a superseded attempt.

    `now_ms` is storage time.
    """
    ordered = sorted(items, key=lambda item: item.id)
    moved = await at.connection.fetch(
        _MOVE,
        *_columns(move_row(item) for item in ordered),
        list(at.numbers),
        ordered[0].id,
        ordered[-1].id,
    )
    there = {row[0] for row in moved}
    applied = [item for item in items if item.id in there]
    recorded: list[Settlement] = []
    superseded: list[Settlement] = []
    if len(applied) < len(items):
        recorded, superseded = await _split(at, [i for i in ordered if i.id not in there])
    late = {item.id for item in superseded}
    known = {item.id for item in recorded}
    attempts = [
        attempt_row(item, superseded=item.id in late) for item in ordered if item.id not in known
    ]
    if attempts:
        await at.later.put("attempts", _ATTEMPTS, _columns(attempts))
    minutes = minute_rows(applied, at.node)
    if minutes:
        await at.later.put("channel_minutes", CHANNEL_MINUTES, _columns(minutes))
    await _end_delivered(at, superseded)
    tallies = tallied(applied)
    opened, told = _track(at, tallies, now_ms)
    await cancel_where_dropped(
        at, [(item.id, item.channel_id) for item in applied if item.status is Status.WAITING]
    )
    parked = await _park(at, applied)
    told += [disabled_note(item) for item in parked if item.origin in COUNTING]
    issues = issue_rows(applied, (channel_id for channel_id, _ in opened), tallies, at.wall_ms)
    await watch(at.connection, issues, note_rows(told, at.wall_ms))
    # Whether those did is not known any more; to be told of it in vain does no harm.
    parked += [item for item in recorded if item.park]
    return Settled(
        superseded=[item.id for item in items if item.id in late],
        disabled=[(item.organization_id, item.channel_id) for item in parked],
        opened=opened,
        noted=bool(told or recorded),
    )


async def _split(
    at: Transaction, items: list[Settlement]
) -> tuple[list[Settlement], list[Settlement]]:
    """What did not match: recorded before, by a commit of unknown outcome, or superseded."""
    await at.write()
    rows = await at.connection.fetch(
        _RECORDED,
        [item.id for item in items],
        [item.claim for item in items],
        items[0].id,
        items[-1].id,
    )
    there = {(row[0], row[1]) for row in rows}
    recorded = [item for item in items if (item.id, item.claim) in there]
    return recorded, [item for item in items if (item.id, item.claim) not in there]


async def _end_delivered(at: Transaction, superseded: list[Settlement]) -> None:
    """A success that came too late ends a delivery that is not final."""
    late = [item for item in superseded if item.status is Status.DELIVERED]
    if late:
        await at.connection.execute(
            _END_DELIVERED,
            [item.id for item in late],
            [item.finished_at for item in late],
            [item.attempt.status_code for item in late],
            late[0].id,
            late[-1].id,
        )


def _track(
    at: Transaction, tallies: dict[ChannelId, Tally], now_ms: int
) -> tuple[list[tuple[ChannelId, int]], list[Note]]:
    """Note on its lane what became of each; returns whose breaker opened, and until when, and what
    is to be told."""
    opened: list[tuple[ChannelId, int]] = []
    told: list[Note] = []
    for channel_id, tally in tallies.items():
        lane = at.lanes.get(channel_id)
        if lane is None:
            continue
        tracked = track(lane, tally, now_ms)
        at.freed = at.freed or tally.due_ms is not None
        if tracked.opened_until_ms is not None:
            opened.append((channel_id, tracked.opened_until_ms))
        for kind in tracked.told:
            told.append(streak_note(kind, channel_id, tally))
    return opened, told


def _columns(rows: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _park(at: Transaction, items: Sequence[Settlement]) -> list[Settlement]:
    """Disable channels whose target is gone, if the attempt used their current version; returns
    the attempts that did so."""
    parked = []
    for item in items:
        if item.park is None:
            continue
        lane = at.lanes.get(item.channel_id)
        if lane is not None and lane.parked is None and lane.version == item.version:
            lane.parked, lane.next_due_ms, lane.version = "disabled", None, lane.version + 1
            await at.connection.execute(
                _PARK_CHANNEL, item.park, item.finished_at, item.channel_id, item.version
            )
            await at.connection.execute(_BUMP, item.organization_id)
            parked.append(item)
    return parked


def touched(items: Sequence[Settlement]) -> tuple[set[str], set[ChannelId]]:
    """The organizations and lanes that settling these items changes."""
    return (
        {item.organization_id for item in items if item.park is not None},
        {item.channel_id for item in items},
    )

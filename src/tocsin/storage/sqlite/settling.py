"""Settle: attempts, the deliveries' next states and the lanes' tracking, in one transaction."""

import sqlite3
from collections.abc import Sequence

import msgspec

from tocsin.domain.breaking import COUNTING, BreakerState, moved
from tocsin.domain.model import ChannelId, DeliveryId, Status
from tocsin.storage.base import Settled, Settlement
from tocsin.storage.notes import Note, disabled_note, minute_rows
from tocsin.storage.settlements import Tally, attempt_row, move_row, tallied
from tocsin.storage.sqlite.adding import one_value
from tocsin.storage.sqlite.batches import DONE, SettleBatch
from tocsin.storage.sqlite.claiming import cancel_where_dropped
from tocsin.storage.sqlite.known import Known
from tocsin.storage.sqlite.noting import watch
from tocsin.storage.sqlite.rows import Row, Rows, Values
from tocsin.storage.sqlite.streaks import move_streaks, streaks_of

_ATTEMPTS = Values(
    "INSERT INTO attempts (delivery_id, claim, organization_id, number, started_at, duration_ms,"
    " outcome, status_code, error, response_body, superseded) VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "ON CONFLICT DO NOTHING",
)
# What nearly all are: delivered, with nothing to tell of it.
_PLAIN_ATTEMPTS = Rows(
    "INSERT INTO attempts (delivery_id, claim, status_code, organization_id, number, started_at,"
    " duration_ms, outcome, response_body, superseded)"
    f" SELECT {DONE.text(0)}, {DONE.number(1)}, nullif({DONE.number(2)}, 0), {DONE.text(4)},"
    f" {DONE.number(5)}, {DONE.number(6)}, {DONE.number(7)}, 'delivered',"
    f" CASE WHEN {DONE.number(8)} THEN {DONE.rest} END, 0"
    " FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING"
)
_PLAIN_MOVE = Rows(
    "UPDATE deliveries SET status = 'delivered', node = 0, attempt_count = attempt_count + 1,"
    " finished_at = v.finished_at, last_status_code = nullif(v.status_code, 0), last_error = NULL"
    f" FROM (SELECT {DONE.text(0)} AS id, {DONE.number(1)} AS claim,"
    f" {DONE.number(2)} AS status_code, {DONE.number(3)} AS finished_at FROM json_each(?1)) AS v"
    " WHERE deliveries.id = v.id AND deliveries.claim = v.claim"
    " AND deliveries.node = ?2 AND +deliveries.status = 'waiting'"
)
_MOVE = Values(
    "UPDATE deliveries SET status = v.column3, node = 0, due_ms = v.column4, step = v.column5,"
    " attempt_count = attempt_count + 1, finished_at = v.column6, last_status_code = v.column7,"
    " last_error = v.column8 FROM (VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    ") AS v WHERE deliveries.id = v.column1 AND deliveries.claim = v.column2"
    " AND deliveries.node = ? AND +deliveries.status = 'waiting'",
)
_RECORDED = "SELECT 1 FROM attempts WHERE delivery_id = ? AND claim = ? AND superseded = 0"
_END_DELIVERED = """
    UPDATE deliveries SET status = 'delivered', node = 0, finished_at = ?, last_status_code = ?,
        last_error = NULL WHERE id = ? AND status = 'waiting'
"""
# The breaker is open and a reply has come, so it closes.
_CLOSING = "v.column11 AND version = v.column8 AND breaker_state IS NOT NULL"
# What held the lane back for its breaker's sake goes with it; a longer wait asked for stays.
_BLOCKED = (
    "CASE WHEN version <> v.column8 THEN blocked_until_ms"
    f" WHEN {_CLOSING} AND blocked_until_ms <= breaker_until_ms THEN v.column9"
    " ELSE max(blocked_until_ms, v.column9) END"
)
_LANES = Values(
    "UPDATE lanes SET"
    " last_sent_at = coalesce(v.column2, last_sent_at),"
    " error_count = CASE WHEN v.column2 IS NULL THEN error_count ELSE 0 END + v.column3,"
    " last_error = CASE WHEN v.column3 > 0 THEN v.column4"
    "   WHEN v.column2 IS NOT NULL THEN NULL ELSE last_error END,"
    # What failures add to the streak is written by `streaks.py`.
    " failing_streak = CASE WHEN v.column5 AND version = v.column8 THEN 0 ELSE failing_streak END,"
    " failing_deliveries = CASE WHEN v.column5 AND version = v.column8 THEN NULL"
    "   ELSE failing_deliveries END,"
    " failing_since_ms = CASE WHEN version <> v.column8 THEN failing_since_ms"
    "   WHEN v.column6 > 0 AND (v.column5 OR failing_since_ms IS NULL) THEN v.column7"
    "   WHEN v.column5 THEN NULL ELSE failing_since_ms END,"
    f" blocked_until_ms = {_BLOCKED},"
    # A lane whose breaker closes is due at once: the claim makes that exact.
    " next_due_ms = CASE WHEN parked IS NOT NULL THEN NULL"
    "   WHEN coalesce(next_due_ms, v.column10) IS NULL THEN NULL"
    f"  WHEN {_CLOSING} THEN {_BLOCKED}"
    f"  ELSE max({_BLOCKED},"
    "     min(coalesce(next_due_ms, v.column10), coalesce(v.column10, next_due_ms))) END,"
    " breaker_streak = CASE WHEN v.column11 AND version = v.column8 THEN ''"
    "   ELSE breaker_streak END,"
    f" breaker_probe = CASE WHEN {_CLOSING} THEN NULL ELSE breaker_probe END,"
    f" breaker_until_ms = CASE WHEN {_CLOSING} THEN 0 ELSE breaker_until_ms END,"
    f" breaker_state = CASE WHEN {_CLOSING} THEN NULL ELSE breaker_state END"
    " FROM (VALUES",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ") AS v WHERE lanes.channel_id = v.column1",
)
_BREAKERS = """
    SELECT json_group_array(json_array(channel_id, version, breaker_state, breaker_until_ms,
        breaker_probe, breaker_streak, blocked_until_ms, next_due_ms))
    FROM lanes WHERE channel_id IN (SELECT value FROM json_each(?))
"""
_MOVE_BREAKERS = Values(
    "UPDATE lanes SET breaker_state = v.column2, breaker_until_ms = v.column3,"
    " breaker_probe = v.column4, breaker_streak = v.column5, blocked_until_ms = v.column6,"
    " next_due_ms = v.column7 FROM (VALUES",
    "(?, ?, ?, ?, ?, ?, ?)",
    ") AS v WHERE lanes.channel_id = v.column1",
)
_PARK_LANE = """
    UPDATE lanes SET parked = 'disabled', next_due_ms = NULL, version = version + 1
    WHERE channel_id = ? AND version = ? AND parked IS NULL
"""
_PARK_CHANNEL = """
    UPDATE channels SET enabled = 0, disabled_reason = ?, version = version + 1, updated_at = ?
    WHERE id = ? AND version = ?
"""
_BUMP = "UPDATE organizations SET version = version + 1 WHERE id = ?"


class NotAllApplied(Exception):
    """Some claim no longer stands: settle these one by one, in a transaction from its start."""


def settle(
    connection: sqlite3.Connection,
    node: int,
    known: Known,
    items: Sequence[Settlement],
    now_ms: int,
    wall_ms: int,
    batch: SettleBatch | None,
) -> Settled:
    """Apply what still matches; what does not is kept as a superseded attempt.

    `now_ms` is storage time, `wall_ms` wall time. A `batch` is what was made of all items: they are
    applied at once, and NotAllApplied is raised when some claim no longer stands. Without it they
    are applied one by one.
    """
    superseded: list[DeliveryId] = []
    recorded: list[Settlement] = []
    if batch is not None:
        _move_all(connection, node, batch)
        applied, tallies, minutes = batch.others, batch.tallies, batch.minutes
    else:
        applied = []
        for item in items:
            if _move_one(connection, node, item):
                applied.append(item)
            elif connection.execute(_RECORDED, (item.id, item.claim)).fetchone() is not None:
                # An earlier commit whose outcome was unknown did go through, with all it does.
                recorded.append(item)
            else:
                _supersede(connection, item)
                superseded.append(item.id)
        tallies, minutes = tallied(applied), minute_rows(applied, node)
    # From here on `applied` may lack plain successes: nothing else is to be done for these.
    opened: list[tuple[ChannelId, int]] = []
    told: list[Note] = []
    if tallies:
        streaks = streaks_of(connection, known, tallies)
        _LANES.run(connection, _lane_rows(tallies, known))
        if streaks:
            told = move_streaks(connection, known, streaks)
        troubled = {channel_id: tally for channel_id, tally in tallies.items() if tally.told}
        if troubled:
            opened = _move_breakers(connection, troubled, known, now_ms)
    waiting = [item.id for item in applied if item.status is Status.WAITING]
    if waiting:
        cancel_where_dropped(connection, waiting, applied[0].finished_at)
    parked = _park(connection, applied)
    told += [disabled_note(item) for item in parked if item.origin in COUNTING]
    watch(connection, minutes, applied, opened, tallies, told, wall_ms)
    # Whether those did is not known any more; to be told of it in vain does no harm.
    parked += [item for item in recorded if item.park]
    if parked:
        known.forget()
    return Settled(
        superseded=superseded,
        disabled=[(item.organization_id, item.channel_id) for item in parked],
        opened=opened,
        noted=bool(told or recorded),
    )


def _move_all(connection: sqlite3.Connection, node: int, batch: SettleBatch) -> None:
    others = batch.others
    if batch.plain:
        plain = len(batch.items) - len(others)
        if _PLAIN_MOVE.run(connection, batch.plain, (node,)) != plain:
            raise NotAllApplied
        _PLAIN_ATTEMPTS.run(connection, batch.plain)
    if others:
        if _MOVE.run(connection, [move_row(item) for item in others], (node,)) != len(others):
            raise NotAllApplied
        _ATTEMPTS.run(connection, [attempt_row(item, superseded=False) for item in others])


def _move_one(connection: sqlite3.Connection, node: int, item: Settlement) -> bool:
    """Apply one settlement by itself; False when its claim no longer stands."""
    if not _MOVE.run(connection, [move_row(item)], (node,)):
        return False
    _ATTEMPTS.run(connection, [attempt_row(item, superseded=False)])
    return True


def _supersede(connection: sqlite3.Connection, item: Settlement) -> None:
    """Keep an attempt that came too late; a success ends a delivery that is not final."""
    _ATTEMPTS.run(connection, [attempt_row(item, superseded=True)])
    if item.status is Status.DELIVERED:
        connection.execute(_END_DELIVERED, (item.finished_at, item.attempt.status_code, item.id))


def _lane_rows(tallies: dict[ChannelId, Tally], known: Known) -> list[Row]:
    known.open_lanes.difference_update(
        channel_id
        for channel_id, tally in tallies.items()
        if tally.due_ms is not None or tally.hold_until_ms
    )
    return [
        (
            channel_id,
            tally.sent_at,
            tally.errors,
            tally.error,
            tally.streak_ended,
            tally.streak,
            tally.since_ms,
            tally.version,
            tally.hold_until_ms,
            tally.due_ms,
            tally.closes,
        )
        for channel_id, tally in sorted(tallies.items())
    ]


_BreakerRow = tuple[str, int, str | None, int, str | None, str, int, int | None]
_decode_breakers = msgspec.json.Decoder(list[_BreakerRow]).decode


def _move_breakers(
    connection: sqlite3.Connection, tallies: dict[ChannelId, Tally], known: Known, now_ms: int
) -> list[tuple[ChannelId, int]]:
    """Count the failures of lanes that had some; returns whose breaker opened, and until when."""
    ids = msgspec.json.encode(list(tallies)).decode()
    rows: list[Row] = []
    opened: list[tuple[ChannelId, int]] = []
    for row in _decode_breakers(one_value(connection, _BREAKERS, (ids,))):
        channel_id, version, state, until_ms, probe, streak, blocked_ms, next_ms = row
        tally = tallies[ChannelId(channel_id)]
        before = BreakerState(state, until_ms, probe, tuple(streak.split()))
        if tally.told is None or tally.version != version:
            continue
        after = moved(before, tally.told, tally.breaker, now_ms)
        if after == before:
            continue
        if after.state is not None:
            # The probe's deadline was a guess, the cooldown is not: either way it takes its place.
            held_ms = tally.hold_until_ms if before.state is not None else blocked_ms
            blocked_ms = max(after.until_ms, held_ms)
            if next_ms is not None:
                next_ms = blocked_ms if before.state is not None else max(next_ms, blocked_ms)
            if before.state is None:
                opened.append((ChannelId(channel_id), after.until_ms))
            known.open_lanes.discard(ChannelId(channel_id))
        streak = " ".join(after.streak)
        rows.append(
            (channel_id, after.state, after.until_ms, after.probe, streak, blocked_ms, next_ms)
        )
    if rows:
        _MOVE_BREAKERS.run(connection, rows)
    return opened


def _park(connection: sqlite3.Connection, items: Sequence[Settlement]) -> list[Settlement]:
    """Disable channels whose target is gone, if the attempt used their current version; returns
    the attempts that did so."""
    parked = []
    for item in items:
        if item.park is None:
            continue
        if connection.execute(_PARK_LANE, (item.channel_id, item.version)).rowcount:
            connection.execute(
                _PARK_CHANNEL, (item.park, item.finished_at, item.channel_id, item.version)
            )
            connection.execute(_BUMP, (item.organization_id,))
            parked.append(item)
    return parked

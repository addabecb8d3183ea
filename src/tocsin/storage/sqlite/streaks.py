"""The failing streaks of lanes: what a batch makes of them, and what is to be told of that.

Most lanes have delivered and were never told to fail: of these that is known, and nothing read.
"""

import sqlite3

import msgspec

from tocsin.domain.model import ChannelId
from tocsin.domain.streak import Streak, after
from tocsin.storage.notes import Note, streak_note
from tocsin.storage.settlements import Tally
from tocsin.storage.sqlite.adding import one_value
from tocsin.storage.sqlite.known import Known
from tocsin.storage.sqlite.rows import Row, Values

_STREAKS = """
    SELECT json_group_array(json_array(
        channel_id, version, failing_deliveries, failing_streak, failing_told))
    FROM lanes WHERE channel_id IN (SELECT value FROM json_each(?))
"""
_MOVE = Values(
    "UPDATE lanes SET failing_deliveries = v.column2, failing_streak = v.column3,"
    " failing_told = v.column4 FROM (VALUES",
    "(?, ?, ?, ?)",
    ") AS v WHERE lanes.channel_id = v.column1",
)
_StreakRow = tuple[ChannelId, int, str | None, int, int]
_decode = msgspec.json.Decoder(list[_StreakRow]).decode

Moved = tuple[ChannelId, Streak, list[Note]]
"""What becomes of a lane's streak, and what is told of it."""


def streaks_of(
    connection: sqlite3.Connection, known: Known, tallies: dict[ChannelId, Tally]
) -> list[Moved]:
    """The streaks that change, but for those that merely end; before the lanes are changed."""
    doubtful = [
        channel_id
        for channel_id, tally in tallies.items()
        if tally.failed or (tally.streak_ended and channel_id not in known.sound)
    ]
    if not doubtful:
        return []
    ids = msgspec.json.encode(doubtful).decode()
    moved: list[Moved] = []
    for row in _decode(one_value(connection, _STREAKS, (ids,))):
        channel_id, version, deliveries, count, told = row
        if not told:
            known.sound.add(channel_id)
        tally = tallies[channel_id]
        if tally.version != version:
            continue
        before = Streak(tuple((deliveries or "").split()), count, bool(told))
        streak, kinds = after(
            before, ended=tally.streak_ended, failed=tally.failed, counted=tally.streak
        )
        if tally.failed or kinds:
            notes = [streak_note(kind, channel_id, tally) for kind in kinds]
            moved.append((channel_id, streak, notes))
    return moved


def move_streaks(connection: sqlite3.Connection, known: Known, moved: list[Moved]) -> list[Note]:
    """Write them; after the lanes were changed."""
    rows: list[Row] = []
    told: list[Note] = []
    for channel_id, streak, notes in moved:
        if streak.told:
            known.sound.discard(channel_id)
        rows.append((channel_id, " ".join(streak.deliveries) or None, streak.count, streak.told))
        told += notes
    _MOVE.run(connection, rows)
    return told

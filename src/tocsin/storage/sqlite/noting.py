"""What a transaction writes for those who watch: counts, issues, and what is to be told."""

import sqlite3
from collections.abc import Sequence

from tocsin.domain.model import ChannelId
from tocsin.storage.base import Settlement
from tocsin.storage.notes import (
    COUNTS,
    LATENCY,
    MINUTE,
    PROJECT_COUNTS,
    PROJECT_MINUTE,
    GivenUp,
    Note,
    given_up_issues,
    given_up_minutes,
    issue_rows,
    note_rows,
)
from tocsin.storage.settlements import Row, Tally
from tocsin.storage.sqlite.rows import Values


def _adding(table: str, columns: Sequence[str], key: str, counts: Sequence[str]) -> Values:
    return Values(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES",
        f"({', '.join('?' * len(columns))})",
        f"ON CONFLICT ({key}) DO UPDATE SET "
        + ", ".join(f"{name} = {name} + excluded.{name}" for name in counts),
    )


_MINUTE_KEY = "channel_id, minute, node"
_MINUTES = _adding("channel_minutes", MINUTE, _MINUTE_KEY, COUNTS)
# Few attempts take about as long as each other: then one bucket is written, and not 48.
_PLAIN = MINUTE[: -len(LATENCY)]
_IN_BUCKET = tuple(
    _adding("channel_minutes", (*_PLAIN, name), _MINUTE_KEY, (*COUNTS[: -len(LATENCY)], name))
    for name in LATENCY
)
_ATTEMPTS_AT = MINUTE.index("attempts")
_PROJECT_MINUTES = _adding(
    "project_minutes", PROJECT_MINUTE, "organization_id, project_id, minute, node", PROJECT_COUNTS
)
# The event is that of the delivery; a channel that is gone has no issues.
_ISSUE = """
    INSERT INTO issues (id, organization_id, project_id, channel_id, fingerprint, title, status,
        occurrence_count, first_seen_at, last_seen_at, opened_at, last_delivery_id,
        last_attempt_number, last_event_id, last_error, last_status_code, created_at, updated_at)
    SELECT ?1, c.organization_id, c.project_id, c.id, ?3, ?4, 'open', ?5, ?6, ?6, ?6, ?7, ?8,
        (SELECT event_id FROM deliveries WHERE id = ?7), ?9, ?10, ?6, ?6
    FROM channels AS c WHERE c.id = ?2 AND c.deleted_at IS NULL
    ON CONFLICT (channel_id, fingerprint) DO UPDATE SET
        status = CASE status WHEN 'resolved' THEN 'open' ELSE status END,
        opened_at = CASE status WHEN 'resolved' THEN excluded.opened_at ELSE opened_at END,
        resolved_at = NULL,
        occurrence_count = occurrence_count + excluded.occurrence_count,
        last_seen_at = max(last_seen_at, excluded.last_seen_at),
        last_delivery_id = excluded.last_delivery_id,
        last_attempt_number = excluded.last_attempt_number,
        last_event_id = excluded.last_event_id,
        last_error = excluded.last_error,
        last_status_code = excluded.last_status_code,
        updated_at = max(updated_at, excluded.updated_at)
"""
_TELL = Values(
    "INSERT INTO outbox (id, organization_id, kind, channel_id, at, body) VALUES",
    "(?, ?, ?, ?, ?, ?)",
    "ON CONFLICT DO NOTHING",
)


def watch(
    connection: sqlite3.Connection,
    minutes: Sequence[Row],
    applied: Sequence[Settlement],
    opened: Sequence[tuple[ChannelId, int]],
    tallies: dict[ChannelId, Tally],
    told: Sequence[Note],
    wall_ms: int,
) -> None:
    """Add `minutes`, and note what it means that these were applied; plain successes may be left
    out, they mean nothing more."""
    _count(connection, minutes)
    _open(connection, issue_rows(applied, (one for one, _ in opened), tallies, wall_ms))
    if told:
        _TELL.run(connection, note_rows(told, wall_ms))


def give_up(
    connection: sqlite3.Connection, node: int, ended: Sequence[GivenUp], wall_ms: int
) -> None:
    """Count what has ended without a further attempt, and note it."""
    _count(connection, given_up_minutes(ended, node, wall_ms))
    _open(connection, given_up_issues(ended, wall_ms))


def _open(connection: sqlite3.Connection, issues: Sequence[Row]) -> None:
    for row in issues:
        connection.execute(_ISSUE, row)


def _count(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    mixed: list[Row] = []
    alike: dict[int, list[Row]] = {}
    first = len(_PLAIN)
    for row in rows:
        attempts = row[_ATTEMPTS_AT]
        if attempts in row[first:]:
            bucket = row.index(attempts, first) - first
            alike.setdefault(bucket, []).append((*row[:first], attempts))
        else:
            mixed.append(row)
    for bucket, some in alike.items():
        _IN_BUCKET[bucket].run(connection, some)
    _MINUTES.run(connection, mixed)


def count_accepted(connection: sqlite3.Connection, minutes: Sequence[Row]) -> None:
    """Count the events of a publish."""
    _PROJECT_MINUTES.run(connection, minutes)

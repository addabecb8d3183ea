"""What a transaction writes for those who watch: counts, issues, and what is to be told."""

from collections.abc import Sequence
from typing import Any

from tocsin.storage.notes import (
    COUNTS,
    MINUTE,
    PROJECT_COUNTS,
    PROJECT_MINUTE,
    GivenUp,
    given_up_issues,
    given_up_minutes,
)
from tocsin.storage.postgres.session import Connection
from tocsin.storage.settlements import Row

_TYPES = {
    **dict.fromkeys(("channel_id", "organization_id", "project_id"), "text"),
    **dict.fromkeys(("minute", "node"), "int"),
    **dict.fromkeys((*COUNTS, *PROJECT_COUNTS), "bigint"),
}
_ISSUES = """
    INSERT INTO issues AS i (id, organization_id, project_id, channel_id, fingerprint, title,
        status, occurrence_count, first_seen_at, last_seen_at, opened_at, last_delivery_id,
        last_attempt_number, last_event_id, last_error, last_status_code, created_at, updated_at)
    SELECT v.id, c.organization_id, c.project_id, c.id, v.fingerprint, v.title, 'open', v.count,
        v.at, v.at, v.at, v.delivery_id, v.number,
        (SELECT d.event_id FROM deliveries AS d WHERE d.id = v.delivery_id
            AND d.id BETWEEN $11 AND $12),
        v.error, v.status_code, v.at, v.at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
        $7::text[], $8::int[], $9::text[], $10::int[])
        AS v (id, channel_id, fingerprint, title, count, at, delivery_id, number, error,
            status_code)
    JOIN channels AS c ON c.id = v.channel_id
    WHERE c.deleted_at IS NULL
    ORDER BY c.id, v.fingerprint
    ON CONFLICT (channel_id, fingerprint) DO UPDATE SET
        status = CASE i.status WHEN 'resolved' THEN 'open' ELSE i.status END,
        opened_at = CASE i.status WHEN 'resolved' THEN excluded.opened_at ELSE i.opened_at END,
        resolved_at = NULL,
        occurrence_count = i.occurrence_count + excluded.occurrence_count,
        last_seen_at = greatest(i.last_seen_at, excluded.last_seen_at),
        last_delivery_id = excluded.last_delivery_id,
        last_attempt_number = excluded.last_attempt_number,
        last_event_id = excluded.last_event_id,
        last_error = excluded.last_error,
        last_status_code = excluded.last_status_code,
        updated_at = greatest(i.updated_at, excluded.updated_at)
"""
_TELL = """
    INSERT INTO outbox (id, organization_id, kind, channel_id, at, body)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
    ON CONFLICT DO NOTHING
"""


def _adding(table: str, columns: Sequence[str], key: Sequence[str], counts: Sequence[str]) -> str:
    arrays = ", ".join(f"${at}::{_TYPES[name]}[]" for at, name in enumerate(columns, 1))
    return (
        f"INSERT INTO {table} AS t ({', '.join(columns)}) SELECT * FROM unnest({arrays})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET "
        + ", ".join(f"{name} = t.{name} + excluded.{name}" for name in counts)
    )


CHANNEL_MINUTES = _adding("channel_minutes", MINUTE, ("channel_id", "minute", "node"), COUNTS)
"""Adds up `minute_rows`; its arguments are their columns."""
PROJECT_MINUTES = _adding(
    "project_minutes", PROJECT_MINUTE, PROJECT_MINUTE[: -len(PROJECT_COUNTS)], PROJECT_COUNTS
)
"""The same for `project_rows`."""


async def give_up(
    connection: Connection, node: int, ended: Sequence[GivenUp], wall_ms: int
) -> None:
    """Count what has ended without a further attempt, and note it."""
    minutes = given_up_minutes(ended, node, wall_ms)
    if minutes:
        await connection.execute(CHANNEL_MINUTES, *_columns(minutes))
    await watch(connection, given_up_issues(ended, wall_ms), ())


async def watch(connection: Connection, issues: Sequence[Row], told: Sequence[Row]) -> None:
    """Open issues or count what recurs, and put down what is to be told."""
    if issues:
        deliveries = sorted(row[6] for row in issues)
        await connection.execute(_ISSUES, *_columns(issues), deliveries[0], deliveries[-1])
    if told:
        await connection.execute(_TELL, *_columns(told))


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]

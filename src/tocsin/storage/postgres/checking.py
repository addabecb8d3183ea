"""What is done now and then, in steps: lanes put right, idempotency keys forgotten."""

from tocsin.storage.postgres.narrow import HEAD_DUE
from tocsin.storage.postgres.writer import Transaction

LANES_PER_STEP = 500

_NOT_DROPPED = "coalesce(l.cancelled_through, '')"
# Whoever has a lane locked puts it right himself.
_LANES_AND_DUE = f"""
    SELECT l.channel_id, l.next_due_ms, greatest(l.blocked_until_ms, l.backlog_due_ms) AS from_ms,
        CASE WHEN l.unnumbered THEN NULL
        WHEN l.ordered THEN ({HEAD_DUE.format(channel="l.channel_id", above=_NOT_DROPPED)})
        ELSE (
            SELECT d.due_ms FROM deliveries AS d
            WHERE d.status = 'waiting' AND d.channel_id = l.channel_id AND d.node = 0
                AND d.id > coalesce(l.cancelled_through, '')
            ORDER BY d.due_ms LIMIT 1) END AS due_ms
    FROM lanes AS l WHERE l.parked IS NULL AND l.channel_id = ANY ($1::text[])
    ORDER BY l.channel_id
"""
_PAGE = """
    SELECT channel_id FROM lanes WHERE parked IS NULL AND channel_id > $1
    ORDER BY channel_id LIMIT $2
"""
_LOCK = """
    SELECT channel_id FROM lanes WHERE channel_id = ANY ($1::text[])
    ORDER BY channel_id FOR NO KEY UPDATE SKIP LOCKED
"""
_REPAIR = """
    UPDATE lanes SET next_due_ms = greatest(blocked_until_ms, v.due_ms)
    FROM unnest($1::text[], $2::bigint[]) AS v (channel_id, due_ms)
    WHERE lanes.channel_id = v.channel_id
"""
_FORGET_KEYS = """
    DELETE FROM idempotency AS i
    USING (SELECT organization_id, project_id, source, key FROM idempotency
        WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED) AS old
    WHERE i.organization_id = old.organization_id AND i.project_id = old.project_id
        AND i.source = old.source AND i.key = old.key
"""


async def check_lanes(at: Transaction, above: str) -> tuple[str | None, int]:
    """Repair a step of lanes; returns where to go on (None: done) and how many were wrong."""
    page = [row[0] for row in await at.connection.fetch(_PAGE, above, LANES_PER_STEP)]
    further = page[-1] if len(page) == LANES_PER_STEP else None
    wrong = await _wrong(at, page)
    if wrong:
        # Looked at without locks, which may have been in the middle of something: once more.
        locked = await at.connection.fetch(_LOCK, sorted(wrong))
        wrong = await _wrong(at, [row[0] for row in locked])
    if wrong:
        await at.connection.execute(_REPAIR, list(wrong), list(wrong.values()))
        at.freed = True
    return further, len(wrong)


async def _wrong(at: Transaction, channels: list[str]) -> dict[str, int]:
    wrong: dict[str, int] = {}
    rows = await at.connection.fetch(_LANES_AND_DUE, channels) if channels else []
    for channel_id, next_due_ms, from_ms, due_ms in rows:
        right = None if due_ms is None else max(due_ms, from_ms)
        # One that is due too early is put right by the next claim.
        if right is not None and (next_due_ms is None or next_due_ms > right):
            wrong[channel_id] = due_ms
    return wrong


async def forget_keys(at: Transaction, before_ms: int, limit: int) -> int:
    """Delete up to `limit` idempotency keys made before a moment; returns how many."""
    status = await at.connection.execute(_FORGET_KEYS, before_ms, limit)
    return int(status.rpartition(" ")[2])

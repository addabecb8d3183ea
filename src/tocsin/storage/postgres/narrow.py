"""Claims from lanes served one by one: ordered ones, and those whose breaker is not closed.

An ordered lane is claimed from only while nothing of it is held by any node, in the order of its
numbers: so the order of claims is the order of first attempts, whatever ends in between.
"""

from tocsin.domain.breaking import PROBE_CHOICE, PROBE_DEADLINE_MS, PROBING
from tocsin.storage.postgres.lanes import Lane
from tocsin.storage.postgres.taking import FOUND, Taking

# A test goes past the order.
_ANY_HELD = """
    SELECT 1 FROM deliveries
    WHERE status = 'waiting' AND channel_id = $1 AND node > 0 AND origin <> 'test' LIMIT 1
"""
_UNNUMBERED = f"""
    SELECT {FOUND} FROM (
        SELECT * FROM deliveries
        WHERE status = 'waiting' AND channel_id = $1 AND node = 0 AND seq IS NULL AND id > $2
        ORDER BY due_ms, id LIMIT 1 FOR NO KEY UPDATE) AS d
    JOIN events AS e ON e.id = d.event_id
"""
_IN_ORDER = f"""
    SELECT {FOUND} FROM (
        SELECT * FROM deliveries
        WHERE status = 'waiting' AND seq IS NOT NULL AND channel_id = $1 AND node = 0 AND id > $2
        ORDER BY seq LIMIT $3 FOR NO KEY UPDATE) AS d
    JOIN events AS e ON e.id = d.event_id
    ORDER BY d.seq
"""
HEAD_DUE = """
    SELECT due_ms FROM deliveries
    WHERE status = 'waiting' AND seq IS NOT NULL AND channel_id = {channel} AND node = 0
        AND id > {above} ORDER BY seq LIMIT 1
"""
"""The due moment of an ordered lane's first free delivery."""
_HEAD_DUE = HEAD_DUE.format(channel="$1", above="$2")
_DUE_ONES = """
    SELECT id, due_ms, attempt_count, origin FROM deliveries
    WHERE status = 'waiting' AND channel_id = $1 AND node = 0 AND due_ms <= $2 AND id > $3
"""
_PROBE = f"""
    SELECT id FROM (
        (SELECT * FROM ({_DUE_ONES}) AS a ORDER BY due_ms, id LIMIT {PROBE_CHOICE})
        UNION (SELECT * FROM ({_DUE_ONES}) AS b ORDER BY due_ms DESC, id DESC LIMIT {PROBE_CHOICE})
    ) AS due
    ORDER BY origin NOT IN ('event', 'digest'), attempt_count, due_ms, id LIMIT 1
"""
_BY_ID = f"""
    SELECT {FOUND} FROM (SELECT * FROM deliveries WHERE id = $1 FOR NO KEY UPDATE) AS d
    JOIN events AS e ON e.id = d.event_id
"""
_EARLIEST = """
    SELECT due_ms FROM deliveries
    WHERE status = 'waiting' AND channel_id = $1 AND node = 0 AND id > $2 ORDER BY due_ms LIMIT 1
"""
ROWS_PER_LOOK = 64


async def take_in_order(taking: Taking, lane: Lane, now_ms: int, limit: int) -> None:
    """Hold the first of an ordered lane, as far as they are due, and write its next moment."""
    connection, above = taking.at.connection, lane.cancelled_through or ""
    if await connection.fetchrow(_ANY_HELD, lane.channel_id) is not None:
        return
    lane.backlog_before_ms, lane.backlog_through, lane.backlog_due_ms = None, None, 0
    if lane.unnumbered:
        found = await connection.fetch(_UNNUMBERED, lane.channel_id, above)
        if found:
            due_ms = found[0][2]
            if due_ms <= now_ms:
                await taking.hold([(lane.channel_id, found[0])])
            lane.next_due_ms = max(lane.blocked_until_ms, due_ms)
            return
        lane.unnumbered = False
    found = await connection.fetch(_IN_ORDER, lane.channel_id, above, min(limit, ROWS_PER_LOOK))
    due = 0
    while due < len(found) and found[due][2] <= now_ms:
        due += 1
    if found and found[0][3] > 0:
        # It has failed before: what is held behind it would most likely only be given back.
        due = min(due, 1)
    await taking.hold([(lane.channel_id, row) for row in found[:due]])
    head_ms = await connection.fetchval(_HEAD_DUE, lane.channel_id, above)
    lane.next_due_ms = None if head_ms is None else max(lane.blocked_until_ms, head_ms)


async def take_probe(taking: Taking, lane: Lane, now_ms: int) -> None:
    """Hold one delivery to see whether the target is back, and give the next one its moment."""
    connection, above = taking.at.connection, lane.cancelled_through or ""
    chosen = await connection.fetchval(_PROBE, lane.channel_id, now_ms, above)
    if chosen is not None:
        found = await connection.fetch(_BY_ID, chosen)
        await taking.hold([(lane.channel_id, row) for row in found])
        lane.breaker_state, lane.breaker_probe = PROBING, chosen
        lane.breaker_until_ms = now_ms + PROBE_DEADLINE_MS
        lane.blocked_until_ms = max(lane.blocked_until_ms, lane.breaker_until_ms)
    due_ms = await connection.fetchval(_EARLIEST, lane.channel_id, above)
    lane.next_due_ms = None if due_ms is None else max(lane.blocked_until_ms, due_ms)

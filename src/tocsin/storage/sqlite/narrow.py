"""Claims from lanes that are served one by one: ordered ones, and those with an open breaker.

An ordered lane is claimed from only while nothing of it is held, in the order of its numbers. What
is claimed is sent one by one, and given back when one of it fails: so the order of claims is the
order of first attempts, whatever ends in between.
"""

from tocsin.domain.breaking import PROBE_CHOICE, PROBE_DEADLINE_MS, PROBING
from tocsin.storage.sqlite.taking import ROWS_PER_LOOK, Taking, due_rows

# The index by node: what is held has a number above 0. A test goes past the order.
_ANY_HELD = """
    SELECT 1 FROM deliveries INDEXED BY deliveries_open
    WHERE status = 'waiting' AND channel_id = ? AND node > 0 AND origin <> 'test' LIMIT 1
"""
_UNNUMBERED = due_rows(
    "d.status = 'waiting' AND d.channel_id = ? AND d.node = 0 AND d.seq IS NULL AND d.id > ?"
    " ORDER BY d.due_ms, d.id",
    "deliveries_open",
)
_IN_ORDER = due_rows(
    "d.status = 'waiting' AND d.seq IS NOT NULL AND d.channel_id = ? AND d.node = 0 AND d.id > ?"
    " ORDER BY d.seq",
    "deliveries_ordered",
)
HEAD_DUE = """
    SELECT due_ms FROM deliveries INDEXED BY deliveries_ordered
    WHERE status = 'waiting' AND seq IS NOT NULL AND channel_id = {channel} AND node = 0
        AND id > {above} ORDER BY seq LIMIT 1
"""
"""The due moment of an ordered lane's first free delivery."""
_HEAD_DUE = HEAD_DUE.format(channel="?", above="?")
_ORDERED_NEXT = """
    UPDATE lanes SET next_due_ms = max(blocked_until_ms, ?), unnumbered = ?,
        backlog_before_ms = NULL, backlog_through = NULL, backlog_due_ms = 0
    WHERE channel_id = ? AND parked IS NULL
"""
_DUE_ONES = """
    SELECT id, due_ms, attempt_count, origin FROM deliveries INDEXED BY deliveries_open
    WHERE status = 'waiting' AND channel_id = ?1 AND node = 0 AND due_ms <= ?2 AND id > ?3
"""
_PROBE = f"""
    SELECT id FROM (
        SELECT * FROM ({_DUE_ONES} ORDER BY due_ms, id LIMIT {PROBE_CHOICE})
        UNION SELECT * FROM ({_DUE_ONES} ORDER BY due_ms DESC, id DESC LIMIT {PROBE_CHOICE}))
    ORDER BY origin NOT IN ('event', 'digest'), attempt_count, due_ms, id LIMIT 1
"""
_BY_ID = due_rows("d.id = ?")
_PROBED = """
    UPDATE lanes SET breaker_state = ?1, breaker_probe = ?2, breaker_until_ms = ?3,
        blocked_until_ms = max(blocked_until_ms, ?3),
        next_due_ms = CASE WHEN ?4 IS NULL THEN NULL ELSE max(blocked_until_ms, ?3, ?4) END
    WHERE channel_id = ?5
"""
_NEXT = "UPDATE lanes SET next_due_ms = max(blocked_until_ms, ?) WHERE channel_id = ?"
_EARLIEST = """
    SELECT due_ms FROM deliveries INDEXED BY deliveries_open
    WHERE status = 'waiting' AND channel_id = ? AND node = 0 AND id > ? ORDER BY due_ms LIMIT 1
"""


def take_in_order(
    taking: Taking, channel_id: str, now_ms: int, above: str, limit: int, *, unnumbered: bool
) -> None:
    """Hold the first of an ordered lane, as far as they are due, and write its next moment."""
    connection = taking.connection
    if connection.execute(_ANY_HELD, (channel_id,)).fetchone() is not None:
        return
    if unnumbered:
        found = taking.look(_UNNUMBERED, (channel_id, above, 1))
        if found:
            if found[0].due_ms <= now_ms:
                taking.hold(found)
            connection.execute(_ORDERED_NEXT, (found[0].due_ms, True, channel_id))
            return
    found = taking.look(_IN_ORDER, (channel_id, above, min(limit, ROWS_PER_LOOK)))
    due = 0
    while due < len(found) and found[due].due_ms <= now_ms:
        due += 1
    if found and found[0].attempt_count > 0:
        # It has failed before: what is held behind it would most likely only be given back.
        due = min(due, 1)
    taking.hold(found[:due])
    head = connection.execute(_HEAD_DUE, (channel_id, above)).fetchone()
    connection.execute(_ORDERED_NEXT, (head[0] if head else None, False, channel_id))


def take_probe(taking: Taking, channel_id: str, now_ms: int, above: str) -> None:
    """Hold one delivery to see whether the target is back, and give the next one its moment."""
    connection = taking.connection
    chosen = connection.execute(_PROBE, (channel_id, now_ms, above)).fetchone()
    if chosen is not None:
        taking.hold(taking.look(_BY_ID, (chosen[0], 1)))
    row = connection.execute(_EARLIEST, (channel_id, above)).fetchone()
    due_ms = None if row is None else row[0]
    if chosen is None:
        connection.execute(_NEXT, (due_ms, channel_id))
        return
    until_ms = now_ms + PROBE_DEADLINE_MS
    connection.execute(_PROBED, (PROBING, chosen[0], until_ms, due_ms, channel_id))

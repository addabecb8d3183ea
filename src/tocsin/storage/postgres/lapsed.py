"""What nodes held that are gone: freed in steps, a page of lanes at a time."""

from collections.abc import Mapping, Sequence
from typing import Any

from tocsin.domain.model import ChannelId
from tocsin.domain.outcome import Reason
from tocsin.storage.base import ROWS_PER_STEP_MAX
from tocsin.storage.notes import GivenUp
from tocsin.storage.postgres.claiming import cancel_where_dropped, give_back
from tocsin.storage.postgres.noting import give_up
from tocsin.storage.postgres.writer import Transaction

LANES_PER_STEP = 200
LOST_MAX = 5

_LANES = """
    SELECT channel_id FROM lanes WHERE channel_id > $1 ORDER BY channel_id LIMIT $2
"""
# By one of the numbers given, or, where there is none, by a number that no node has any more.
_HELD = """
    SELECT d.id, d.claim, d.channel_id, d.due_ms, d.lost, d.seq IS NULL, d.organization_id,
        d.origin, d.attempt_count
    FROM unnest($1::text[]) AS l (channel_id)
    CROSS JOIN LATERAL (
        SELECT * FROM deliveries AS d
        WHERE status = 'waiting' AND channel_id = l.channel_id AND node > 0
            AND CASE WHEN $2::int[] IS NULL
                THEN NOT EXISTS (SELECT 1 FROM nodes WHERE number = d.node)
                ELSE node = ANY ($2::int[]) END
        LIMIT $3) AS d
    LIMIT $3
"""
_FREE = """
    UPDATE deliveries SET node = 0, lost = v.lost
    FROM unnest($1::text[], $2::int[]) AS v (id, lost)
    WHERE deliveries.id = v.id AND deliveries.id = ANY ($1::text[])
        AND deliveries.id BETWEEN $3 AND $4
"""
_END = """
    UPDATE deliveries SET node = 0, lost = v.lost, status = 'exhausted', finished_at = $3,
        last_error = v.error
    FROM unnest($1::text[], $2::int[], $6::text[]) AS v (id, lost, error)
    WHERE deliveries.id = v.id AND deliveries.id = ANY ($1::text[])
        AND deliveries.id BETWEEN $4 AND $5
"""


async def free_held(
    at: Transaction,
    above: str,
    numbers: Sequence[int] | None,
    began: Mapping[str, int] | None,
) -> tuple[str | None, int]:
    """Free a step of what these numbers hold; with None, what is held by a node that is not there.

    `began` has the claims whose send had begun; None: any may have. Only such a claim counts as
    lost with its node. Returns where to go on (None: done) and how many came free.
    """
    rows = await at.connection.fetch(_LANES, above, LANES_PER_STEP)
    page = [ChannelId(row[0]) for row in rows]
    if not page:
        return None, 0
    wanted = (None if numbers is None else list(numbers), ROWS_PER_STEP_MAX)
    held = await at.connection.fetch(_HELD, page, *wanted)
    if not held:
        return (page[-1] if len(page) == LANES_PER_STEP else None), 0
    # Its rows are looked at again once the lanes are locked: the node may not be so dead.
    lanes = {ChannelId(row["channel_id"]) for row in held}
    await at.lanes.lock((), lanes)
    held = await at.connection.fetch(_HELD, sorted(lanes), *wanted)
    if held:
        await _free(at, held, began)
    if len(held) == ROWS_PER_STEP_MAX:
        return above, len(held)
    return (page[-1] if len(page) == LANES_PER_STEP else None), len(held)


async def _free(at: Transaction, held: Sequence[Any], began: Mapping[str, int] | None) -> None:
    free_rows: list[tuple[str, int]] = []
    end_rows: list[tuple[str, int]] = []
    ended: list[GivenUp] = []
    for row in sorted(map(tuple, held)):
        delivery_id, claim, channel_id, due_ms, lost_before, unnumbered = row[:6]
        lost = lost_before + (began is None or began.get(delivery_id) == claim)
        if lost >= LOST_MAX:
            text = f"{Reason.LOST_WITH_ITS_NODE}: {lost} nodes ended while sending it"
            end_rows.append((delivery_id, lost))
            ended.append(GivenUp(delivery_id, channel_id, row[6], row[7], row[8], text))
            continue
        free_rows.append((delivery_id, lost))
        give_back(at, channel_id, due_ms, unnumbered)
    if free_rows:
        ids, losses = _columns(free_rows)
        await at.connection.execute(_FREE, ids, losses, ids[0], ids[-1])
    if end_rows:
        ids, losses = _columns(end_rows)
        errors = [one.error for one in ended]
        await at.connection.execute(_END, ids, losses, at.wall_ms, ids[0], ids[-1], errors)
        await give_up(at.connection, at.node, ended, at.wall_ms)
    await cancel_where_dropped(at, [(row[0], row[2]) for row in held])


def _columns(rows: list[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [row[0] for row in rows], [row[1] for row in rows]

"""Rows of `lanes` in the hands of a transaction: locked, changed here, written back at its end.

Whoever inserts, frees or settles deliveries of a lane locks its row first, so what is read of it
stays true until the commit, and all that a transaction does to it is one statement.
"""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from tocsin.domain.model import ChannelId
from tocsin.storage.postgres.later import Write
from tocsin.storage.postgres.session import Connection


class Lane(msgspec.Struct):
    """A locked lane, as the transaction under way leaves it; columns in the order of `READ`."""

    channel_id: ChannelId
    parked: str | None
    next_due_ms: int | None
    blocked_until_ms: int
    backlog_before_ms: int | None
    backlog_through: str | None
    backlog_due_ms: int
    breaker_state: str | None
    breaker_until_ms: int
    breaker_probe: str | None
    breaker_streak: str
    unnumbered: bool
    owner: int
    last_seq: int
    version: int
    last_sent_at: int | None
    error_count: int
    last_error: str | None
    failing_streak: int
    failing_deliveries: str | None
    failing_since_ms: int | None
    failing_told: bool
    # What only the control plane changes.
    cancelled_through: str | None
    ordered: bool
    exclusive: bool

    def free(self, due_ms: int) -> None:
        """Something in it has come free and is due at this moment."""
        if self.parked is not None:
            return
        if self.next_due_ms is None:
            self.next_due_ms = max(self.blocked_until_ms, due_ms)
        elif not self.ordered:
            # An ordered lane waits for its head, whatever comes behind that.
            self.next_due_ms = max(self.blocked_until_ms, min(self.next_due_ms, due_ms))

    def give_back(self, due_ms: int, *, unnumbered: bool) -> None:
        """Something of it that was held is free again; of an ordered lane it may be the head.

        A lane that is due too early is put right by the next claim.
        """
        if self.parked is not None:
            return
        due_ms = due_ms if self.next_due_ms is None else min(self.next_due_ms, due_ms)
        self.next_due_ms = max(self.blocked_until_ms, due_ms)
        self.unnumbered = self.unnumbered or (self.ordered and unnumbered)


_FIXED = ("cancelled_through", "ordered", "exclusive")
_CHANGING = tuple(name for name in Lane.__struct_fields__ if name not in _FIXED)
_TYPES = {
    **dict.fromkeys(_CHANGING, "bigint"),
    **dict.fromkeys(("channel_id", "parked", "backlog_through", "breaker_state"), "text"),
    **dict.fromkeys(("breaker_probe", "breaker_streak", "last_error"), "text"),
    "failing_deliveries": "text",
    **dict.fromkeys(("owner", "failing_streak"), "int"),
    **dict.fromkeys(("unnumbered", "failing_told"), "bool"),
}
_ARRAYS = ", ".join(f"${at}::{_TYPES[name]}[]" for at, name in enumerate(_CHANGING, 1))

READ = ", ".join((*_CHANGING, *_FIXED))
KEEP_PLANS = "(SELECT set_config('plan_cache_mode', 'force_generic_plan', true))"
"""Read with a transaction's first rows: from then on every statement has one plan for all values.

What is due lies in whatever partition, and what is written goes into its own: no plan made for the
values at hand would be better, and to make one takes longer than to carry it out.
"""
_LOCK = f"""
    SELECT {READ}, {KEEP_PLANS} FROM lanes WHERE channel_id = ANY ($1::text[])
    ORDER BY channel_id FOR NO KEY UPDATE
"""
_WRITE = f"""
    UPDATE lanes SET {", ".join(f"{name} = v.{name}" for name in _CHANGING[1:])}
    FROM unnest({_ARRAYS}) AS v ({", ".join(_CHANGING)})
    WHERE lanes.channel_id = v.channel_id AND lanes.channel_id = ANY ($1::text[])
"""
_LOCK_ORGANIZATIONS = """
    SELECT id FROM organizations WHERE id = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE
"""

_astuple = msgspec.structs.astuple


class Lanes:
    """The lanes that a transaction has locked, by channel."""

    __slots__ = ("_before", "_connection", "_lanes")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lanes: dict[ChannelId, Lane] = {}
        self._before: dict[ChannelId, tuple[Any, ...]] = {}

    def get(self, channel_id: ChannelId) -> Lane | None:
        """A locked lane; None where there is none (any more)."""
        return self._lanes.get(channel_id)

    async def lock(self, organizations: Collection[str], channels: Collection[ChannelId]) -> None:
        """Lock what will be changed, in the order of all transactions."""
        if organizations:
            await self._connection.fetch(_LOCK_ORGANIZATIONS, sorted(organizations))
        if channels:
            rows = await self._connection.fetch(_LOCK, sorted(channels))
            self.keep(row[:-1] for row in rows)

    def keep(self, rows: Iterable[Any]) -> list[Lane]:
        """Take in rows of `READ` that the caller has locked; those it had are as it left them."""
        kept: list[Lane] = []
        for row in rows:
            lane = self._lanes.get(row[0])
            if lane is None:
                lane = Lane(*row)
                self._lanes[lane.channel_id] = lane
                self._before[lane.channel_id] = _astuple(lane)
            kept.append(lane)
        return kept

    def changes(self) -> list[Write]:
        """What to write so that the rows are as the lanes here; once."""
        changed = []
        for channel_id, lane in sorted(self._lanes.items()):
            after = _astuple(lane)
            if after != self._before[channel_id]:
                self._before[channel_id] = after
                changed.append(after[: len(_CHANGING)])
        return [(_WRITE, [*map(list, zip(*changed, strict=True))])] if changed else []

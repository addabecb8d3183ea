"""How much this node may hold in memory, and of whom.

Room is shared so that some is always left for whoever comes next: an organization may hold as
much as is still free, and a lane as much as is left of that; a little it may always hold, from a
reserve as large as the room. What gets no room waits in the database.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.engine.lane import Lane, Share
from tocsin.storage.base import Held

HELD_MAX = 10_000
HELD_MIN = 500
HELD_PER_PLACE = 10
"""What is claimed and can't be sent soon is kept from other nodes that could."""
HELD_BYTES_MAX = 32 * 1024 * 1024
LANE_OF_HELD = 0.4
SHARE_OF_HELD = 0.01
SHARE_BYTES_MIN = 256 * 1024
CLAIM_OF_HELD = 0.02
CLAIM_BYTES_MIN = 2 * 1024 * 1024
"""A claim may take so much even without room: from nobody who holds more than a little."""


class Holdings:
    """What is held in deliveries and payload bytes, by organization and in all.

    `slots` is how many attempts at once the node makes.
    """

    def __init__(self, slots: int, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._held_max = min(HELD_MAX, max(HELD_MIN, slots * HELD_PER_PLACE))
        self._lane_max = int(self._held_max * LANE_OF_HELD)
        self._share_min = int(self._held_max * SHARE_OF_HELD)
        self._claim_min = int(self._held_max * CLAIM_OF_HELD)
        self._lanes: dict[ChannelId, Lane] = {}
        self._shares: dict[OrganizationId, Share] = {}
        self._special: set[Lane] = set()
        self._behind: set[ChannelId] = set()
        self.held = 0
        self.bytes = 0
        self.accepting = True

    @property
    def room(self) -> int:
        """How many more deliveries this node may claim."""
        if not self.accepting or self._reserve_gone():
            return 0
        return max(self._held_max - self.held, self._claim_min)

    @property
    def bytes_room(self) -> int:
        """How many more payload bytes this node may claim."""
        return max(HELD_BYTES_MAX - self.bytes, CLAIM_BYTES_MIN)

    def _reserve_gone(self) -> bool:
        return self.held >= 2 * self._held_max or self.bytes >= 2 * HELD_BYTES_MAX

    def over(self) -> list[OrganizationId]:
        """Organizations of which nothing should be claimed now: they hold their share."""
        return [
            share.organization_id
            for share in self._shares.values()
            if share.held >= max(self._held_max - self.held, self._share_min)
            or share.bytes >= max(HELD_BYTES_MAX - self.bytes, SHARE_BYTES_MIN)
        ]

    def full(self) -> list[ChannelId]:
        """Channels of which nothing should be claimed now: they hold much, or are on hold."""
        now_ms = self._now_ms()
        return [lane.channel_id for lane in self._lanes.values() if self._full(lane, now_ms)]

    def _full(self, lane: Lane, now_ms: int) -> bool:
        return not self._fits(lane, 2, lane.settling) or lane.blocked_until_ms > now_ms

    def still_full(
        self, channels: Sequence[ChannelId], organizations: Sequence[OrganizationId]
    ) -> bool:
        """Whether a claim would leave out all of these again; False if there are none."""
        if not channels and not organizations:
            return False
        now_ms, lanes = self._now_ms(), self._lanes
        return all(
            (lane := lanes.get(channel_id)) is not None and self._full(lane, now_ms)
            for channel_id in channels
        ) and set(organizations) <= set(self.over())

    def look_behind(self, held: Sequence[Held], lane_room: int, full: Sequence[ChannelId]) -> None:
        """Learn from a claim which lanes have more due than it took.

        What is new of these can't be held at birth: to keep room for it would be in vain.
        """
        taken = Counter(item.channel_id for item in held)
        behind = {channel_id for channel_id, count in taken.items() if count >= lane_room}
        self._behind = behind | self._behind.intersection(full)

    def _fits_new(self, lane: Lane) -> bool:
        """Whether a lane may hold what is published now."""
        return lane.channel_id not in self._behind and self._fits(lane, 1)

    def _fits(self, lane: Lane, times: int, leaving: int = 0) -> bool:
        """Whether a lane that held so many times as much might hold more; of that so many leave
        as soon as they are settled, and count once."""
        share, held = lane.share, lane.held * times - leaving
        if (
            held + share.held < self._held_max - self.held
            and lane.bytes * times + share.bytes < HELD_BYTES_MAX - self.bytes
        ):
            return held < self._lane_max
        little = share.held < self._share_min and share.bytes < SHARE_BYTES_MIN
        return little and not self._reserve_gone()

    def _grow(self, lane: Lane, size: int) -> None:
        lane.held += 1
        lane.bytes += size
        lane.share.held += 1
        lane.share.bytes += size
        self.held += 1
        self.bytes += size

    def _shrink(self, lane: Lane, size: int) -> None:
        lane.held -= 1
        lane.bytes -= size
        lane.share.held -= 1
        lane.share.bytes -= size
        self.held -= 1
        self.bytes -= size

    # Upkeep

    def prune(self) -> None:
        """Forget lanes that hold nothing; called now and then."""
        now_ms = self._now_ms()
        for channel_id in [
            channel_id
            for channel_id, lane in self._lanes.items()
            if not lane.held
            and lane.blocked_until_ms <= now_ms
            and (lane.bucket is None or lane.bucket.full(now_ms))
        ]:
            self._special.discard(self._lanes.pop(channel_id))
        used = {lane.share.organization_id for lane in self._lanes.values()}
        for organization_id in [o for o in self._shares if o not in used]:
            if not self._shares[organization_id].queued:
                del self._shares[organization_id]

"""How much this node may hold in memory, and of whom.

Room is shared so that some is always left for whoever comes next: an organization may hold as
much as is still free, and a lane as much as is left of that; a little it may always hold, from a
reserve as large as the room. What gets no room waits in the database.
"""

from tocsin.domain.model import OrganizationId
from tocsin.engine.lane import Lane, Share

HELD_MAX = 10_000
HELD_BYTES_MAX = 32 * 1024 * 1024
LANE_HELD_MAX = 4_000
SHARE_MIN = 100
SHARE_BYTES_MIN = 256 * 1024
CLAIM_MIN = 200
CLAIM_BYTES_MIN = 2 * 1024 * 1024
"""A claim may take so much even without room: from nobody who holds more than a little."""


class Holdings:
    """What is held in deliveries and payload bytes, by organization and in all."""

    def __init__(self) -> None:
        self._shares: dict[OrganizationId, Share] = {}
        self.held = 0
        self.bytes = 0
        self.accepting = True

    @property
    def room(self) -> int:
        """How many more deliveries this node may claim."""
        if not self.accepting or self._reserve_gone():
            return 0
        return max(HELD_MAX - self.held, CLAIM_MIN)

    @property
    def bytes_room(self) -> int:
        """How many more payload bytes this node may claim."""
        return max(HELD_BYTES_MAX - self.bytes, CLAIM_BYTES_MIN)

    def _reserve_gone(self) -> bool:
        return self.held >= 2 * HELD_MAX or self.bytes >= 2 * HELD_BYTES_MAX

    def over(self) -> list[OrganizationId]:
        """Organizations of which nothing should be claimed now: they hold their share."""
        return [
            share.organization_id
            for share in self._shares.values()
            if share.held >= max(HELD_MAX - self.held, SHARE_MIN)
            or share.bytes >= max(HELD_BYTES_MAX - self.bytes, SHARE_BYTES_MIN)
        ]

    def _fits(self, lane: Lane, times: int) -> bool:
        """Whether a lane that held so many times as much might hold more."""
        share, held = lane.share, lane.held * times
        if (
            held + share.held < HELD_MAX - self.held
            and lane.bytes * times + share.bytes < HELD_BYTES_MAX - self.bytes
        ):
            return held < LANE_HELD_MAX
        little = share.held < SHARE_MIN and share.bytes < SHARE_BYTES_MIN
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

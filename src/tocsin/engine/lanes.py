"""What this node holds in memory: one lane per channel, served in turn.

Organizations come first, then their channels: a flood by one organization, or one slow channel,
takes turns with everybody else and no more. A lane starts with one attempt at a time and doubles
with every success, so that a target nobody has seen answer can't fill the node.

Room is shared so that some is always left for whoever comes next: an organization may hold as
much as is still free, and a lane as much as is left of that; a little it may always hold, from a
reserve as large as the room. What gets no room waits in the database.
"""

from collections import deque
from collections.abc import Callable, Sequence

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.storage.base import Held

HELD_MAX = 10_000
HELD_BYTES_MAX = 32 * 1024 * 1024
LANE_HELD_MAX = 4_000
SHARE_MIN = 100
SHARE_BYTES_MIN = 256 * 1024
CLAIM_MIN = 200
CLAIM_BYTES_MIN = 2 * 1024 * 1024
"""A claim may take so much even without room: from nobody who holds more than a little."""
LOST_ALONE = 2
"""From so many losses with a node on, a delivery is sent with nothing else in flight."""

Wanted = tuple[OrganizationId, ChannelId, int]


class Lane:
    """The deliveries of one channel that this node holds."""

    __slots__ = (
        "blocked_until_ms",
        "bytes",
        "cap",
        "channel_id",
        "held",
        "in_flight",
        "queue",
        "ready",
        "share",
        "streak",
        "window",
    )

    def __init__(self, channel_id: ChannelId, share: "Share", cap: int) -> None:
        self.channel_id = channel_id
        self.share = share
        self.cap = cap
        self.queue: deque[Held] = deque()
        self.held = 0  # queued, reserved, in flight or waiting for their settlement
        self.bytes = 0
        self.in_flight = 0
        self.window = 1
        self.ready = False
        self.blocked_until_ms = 0
        self.streak: set[str] = set()


class Share:
    """One organization's lanes that have something to send, in turn."""

    __slots__ = ("bytes", "held", "organization_id", "queued", "ready")

    def __init__(self, organization_id: OrganizationId) -> None:
        self.organization_id = organization_id
        self.held = 0
        self.bytes = 0
        self.ready: deque[Lane] = deque()
        self.queued = False


class Lanes:
    """All lanes of this node: what is held, and whose turn it is."""

    def __init__(self, *, channel_in_flight_max: int, now_ms: Callable[[], int]) -> None:
        self._cap = channel_in_flight_max
        self._now_ms = now_ms
        self._lanes: dict[ChannelId, Lane] = {}
        self._shares: dict[OrganizationId, Share] = {}
        self._turns: deque[Share] = deque()
        self._alone: deque[Held] = deque()
        self._alone_since_ms = 0  # not 0 while one of these is in flight
        self._alone_from_ms = 0
        self.held = 0
        self.bytes = 0
        self.in_flight = 0
        self.accepting = True

    # Room

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

    def full(self) -> list[ChannelId]:
        """Channels of which nothing should be claimed now: they hold much, or are on hold."""
        now_ms = self._now_ms()
        return [
            lane.channel_id
            for lane in self._lanes.values()
            if not self._fits(lane, 2) or lane.blocked_until_ms > now_ms
        ]

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

    def reserve(self, wanted: Sequence[Wanted]) -> list[bool]:
        """Grant room for each, as far as it goes; see `Dispatch.reserve`."""
        return [self._reserve(*want) for want in wanted]

    def _reserve(self, organization_id: OrganizationId, channel_id: ChannelId, size: int) -> bool:
        if not self.accepting:
            return False
        lane = self._lane(organization_id, channel_id)
        if not self._fits(lane, 1):
            return False
        if lane.blocked_until_ms and lane.blocked_until_ms > self._now_ms():
            return False
        self._grow(lane, size)
        return True

    def unreserve(self, granted: Sequence[Wanted]) -> None:
        """Give room back."""
        for organization_id, channel_id, size in granted:
            self._shrink(self._lane(organization_id, channel_id), size)

    # Work

    def offer(self, held: Sequence[Held], *, reserved: bool) -> list[Held]:
        """Queue claimed deliveries; `reserved` ones have their room already.

        Returns those whose channel is on hold, to be released.
        """
        refused: list[Held] = []
        for item in held:
            lane = self._lane(item.event.organization_id, item.channel_id)
            if not reserved:
                self._grow(lane, len(item.event.data))
            if lane.blocked_until_ms and lane.blocked_until_ms > self._now_ms():
                refused.append(item)
                continue
            if item.lost >= LOST_ALONE:
                self._alone.append(item)
                continue
            lane.queue.append(item)
            if not lane.ready and lane.in_flight < lane.window:
                self._make_ready(lane)
        return refused

    def take(self) -> tuple[Lane, Held] | None:
        """The next delivery to send, now in flight; None when there is none, or it must wait."""
        if self._alone_since_ms:
            return None
        if self._alone and self._now_ms() >= self._alone_from_ms:
            # What was in flight at several deaths is tried with nothing else in flight.
            if self.in_flight:
                return None
            item = self._alone.popleft()
            lane = self._lanes[item.channel_id]
            lane.in_flight += 1
            self.in_flight += 1
            self._alone_since_ms = self._now_ms()
            return lane, item
        while self._turns:
            share = self._turns.popleft()
            lane = share.ready.popleft()
            lane.ready = False
            found = None
            if lane.queue and lane.in_flight < lane.window:
                found = lane.queue.popleft()
                lane.in_flight += 1
                self.in_flight += 1
                if lane.queue and lane.in_flight < lane.window:
                    share.ready.append(lane)
                    lane.ready = True
            if share.ready:
                self._turns.append(share)
            else:
                share.queued = False
            if found is not None:
                return lane, found
        return None

    @property
    def waiting(self) -> bool:
        """Whether some delivery might be taken now."""
        return bool(self._turns) or bool(self._alone and not self.in_flight)

    def sent(self, lane: Lane, *, success: bool) -> None:
        """An attempt is over: its place in flight is free."""
        lane.in_flight -= 1
        self.in_flight -= 1
        if self._alone_since_ms:
            # Everybody else has as much time before the next one.
            now_ms = self._now_ms()
            self._alone_from_ms = 2 * now_ms - self._alone_since_ms
            self._alone_since_ms = 0
        if success and lane.window < lane.cap:
            lane.window = min(lane.cap, lane.window * 2)
        if lane.queue and not lane.ready and lane.in_flight < lane.window:
            self._make_ready(lane)

    def left(self, channel_id: ChannelId, size: int) -> None:
        """A delivery is settled or released: its room is free."""
        lane = self._lanes.get(channel_id)
        if lane is not None:
            self._shrink(lane, size)

    def hold(self, channel_id: ChannelId, until_ms: int) -> list[Held]:
        """Start nothing for a channel until a moment; returns what was queued, to be released."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return []
        lane.blocked_until_ms = max(lane.blocked_until_ms, until_ms)
        return self.drop(channel_id)

    def drop(self, channel_id: ChannelId) -> list[Held]:
        """Take everything that is queued for a channel out, to be released."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return []
        items = list(lane.queue)
        lane.queue.clear()
        lane.window = 1
        if self._alone:
            items += [item for item in self._alone if item.channel_id == channel_id]
            self._alone = deque(item for item in self._alone if item.channel_id != channel_id)
        return items

    def drop_all(self) -> list[Held]:
        """Take everything that is queued out, to be released at a stop."""
        items: list[Held] = []
        for channel_id in list(self._lanes):
            items += self.drop(channel_id)
        return items

    def lane(self, channel_id: ChannelId) -> Lane | None:
        """A channel's lane, if this node holds anything of it."""
        return self._lanes.get(channel_id)

    def prune(self) -> None:
        """Forget lanes that hold nothing; called now and then."""
        now_ms = self._now_ms()
        for channel_id in [
            channel_id
            for channel_id, lane in self._lanes.items()
            if not lane.held and lane.blocked_until_ms <= now_ms
        ]:
            del self._lanes[channel_id]
        used = {lane.share.organization_id for lane in self._lanes.values()}
        for organization_id in [o for o in self._shares if o not in used]:
            if not self._shares[organization_id].queued:
                del self._shares[organization_id]

    def _lane(self, organization_id: OrganizationId, channel_id: ChannelId) -> Lane:
        lane = self._lanes.get(channel_id)
        if lane is None:
            share = self._shares.get(organization_id)
            if share is None:
                share = self._shares[organization_id] = Share(organization_id)
            lane = self._lanes[channel_id] = Lane(channel_id, share, self._cap)
        return lane

    def _make_ready(self, lane: Lane) -> None:
        lane.ready = True
        share = lane.share
        share.ready.append(lane)
        if not share.queued:
            share.queued = True
            self._turns.append(share)

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

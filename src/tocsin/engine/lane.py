"""One channel's lane and one organization's share, as this node holds them in memory."""

from collections import deque

from msgspec import Struct

from tocsin.domain.model import Channel, ChannelId, OrganizationId, RateLimit
from tocsin.engine.buckets import Bucket
from tocsin.engine.pacing import PACED_HELD, Pacing
from tocsin.engine.slowness import Pace
from tocsin.storage.base import Held

SLOW_LANE_MAX = 32
"""So many attempts of a slow lane may be under way."""


LANE_OF_FREE = 4
"""On a node that is half taken a lane may have a fourth of what is free,"""
SHARE_OF_FREE = 7
"""and an organization seven times as much as is free."""


class Policy(Struct, frozen=True):
    """What a channel asks of its lane, at a version; `cap` None is the node's own."""

    version: int = 1
    cap: int | None = None
    ordered: bool = False
    rate: RateLimit | None = None

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing."""
        return self.cap is None and not self.ordered and self.rate is None


PLAIN = Policy()


def policy_of(channel: Channel) -> Policy:
    """The policy of a channel."""
    return Policy(
        version=channel.version,
        cap=channel.max_in_flight,
        ordered=channel.ordered,
        rate=channel.rate_limit,
    )


class Share:
    """One organization's lanes that have something to send, in turn."""

    __slots__ = ("bytes", "held", "in_flight", "organization_id", "queued", "ready")

    def __init__(self, organization_id: OrganizationId) -> None:
        self.organization_id = organization_id
        self.held = 0
        self.bytes = 0
        self.in_flight = 0
        self.ready: deque[Lane] = deque()
        self.queued = False


class Lane:
    """The deliveries of one channel that this node holds.

    `in_flight` is from its turn to its outcome, `settling` from there to the commit of that. A turn
    is given while in_flight < limit, which sums up all the rest: the window of the slow start, the
    cap, slowness, an order to keep, a policy that is not known yet.
    """

    __slots__ = (
        "asleep",
        "barred",
        "blocked_until_ms",
        "bucket",
        "bytes",
        "cap",
        "channel_id",
        "ended",
        "failing",
        "guarded",
        "held",
        "in_flight",
        "left_out",
        "limit",
        "pace",
        "pacing",
        "policy",
        "queue",
        "ready",
        "settling",
        "share",
        "slow",
        "special",
        "streak",
        "tripped",
        "version",
        "window",
    )

    def __init__(self, channel_id: ChannelId, share: Share, cap: int) -> None:
        self.channel_id = channel_id
        self.share = share
        self.cap = cap
        self.queue: deque[Held] = deque()
        self.held = 0  # queued, reserved, in flight or waiting for their settlement
        self.bytes = 0
        self.in_flight = 0
        self.settling = 0
        self.window = 1
        self.limit = 0
        self.ready = False  # it has a turn coming, or waits to be given one
        self.asleep = False  # the latter, until a moment
        self.blocked_until_ms = 0
        self.streak: set[str] = set()
        self.policy: Policy | None = None
        self.version = 0
        self.special = False  # not plain, or failing
        self.failing = False  # its last attempt did
        self.bucket: Bucket | None = None
        self.barred = False  # ordered, and something failed: nothing goes on until it is all back
        self.left_out = False  # a claim left it out; it says when that is over
        self.tripped = False  # blocked by its breaker
        self.pace: Pace | None = None
        self.ended = 0  # since the last tick
        self.pacing: Pacing | None = None  # its last attempt had no reply
        self.slow = False
        self.guarded = False  # a turn needs more than a place: slow, paced, or with a bucket

    def fit(self) -> None:
        """Work the limit out anew."""
        policy = self.policy
        if policy is None or self.barred:
            self.limit = 0
            return
        limit = min(self.window, SLOW_LANE_MAX) if self.slow else self.window
        if self.paced:
            limit = 1
        if self.failing:
            # Each failure may be the one that opens its breaker: that is known with its commit.
            limit -= self.settling
        elif policy.cap is not None or policy.ordered:
            # In flight is until the commit of the outcome.
            limit = min(limit, self.cap - self.settling)
        self.limit = limit
        self.guarded = self.slow or self.paced or self.bucket is not None

    def learn(self, policy: Policy, cap: int, *, since_ms: int, now_ms: int) -> None:
        """Take over what the channel asks for. A channel that was changed starts slowly again: it
        may be another target."""
        if self.version not in (0, policy.version):
            self.window = 1
            self.blocked_until_ms = 0
            self.tripped = False
            self.pacing = None
        self.version = policy.version
        self.policy = policy
        self.special = self.failing or not policy.plain
        self.cap = 1 if policy.ordered else (policy.cap or cap)
        self.window = min(self.window, self.cap)
        if policy.rate is None:
            self.bucket = None
        elif self.bucket is None:
            self.bucket = Bucket(policy.rate, since_ms=since_ms, now_ms=now_ms)
        else:
            self.bucket.change(policy.rate, now_ms)
        self.fit()

    def has_much(self, free: int) -> bool:
        """Whether it should grow no more where only so many places are free, so that some are left
        for all who have none."""
        return (
            self.in_flight > 0 and self.in_flight * LANE_OF_FREE >= free
        ) or self.share.in_flight > SHARE_OF_FREE * free

    def watch(self, seconds: float) -> bool:
        """See how its attempts went in the last `seconds`; returns whether it became slow, or is
        not any more."""
        pace = self.pace
        if pace is None:
            pace = self.pace = Pace()
        slow = pace.tick(self.in_flight, self.ended, seconds)
        self.ended = 0
        if pace.faded:
            self.pace = None
        if slow is self.slow:
            return False
        self.slow = slow
        self.fit()
        return True

    def recover(self) -> None:
        """It fails no more."""
        self.failing = False
        self.special = self.policy is not None and not self.policy.plain

    def unwelcome(self, now_ms: int) -> bool:
        """Whether no more may be queued: it must come in order, or there is enough for a while."""
        soon = self.soon(now_ms)
        return self.barred or (soon is not None and len(self.queue) >= soon)

    @property
    def paced(self) -> bool:
        """Whether it pauses between its attempts."""
        return self.pacing is not None and self.pacing.pause_ms > 0

    def soon(self, now_ms: int) -> int | None:
        """How many it should hold, because it sends no more soon; None: as many as any other."""
        soon = None if self.bucket is None else self.bucket.soon(now_ms)
        if not self.paced:
            return soon
        return PACED_HELD if soon is None else min(soon, PACED_HELD)

    def surplus(self, now_ms: int) -> list[Held]:
        """Take out of the queue what it can't send soon, the newest."""
        soon = self.soon(now_ms)
        if soon is None or len(self.queue) <= soon:
            return []
        items = [self.queue.pop() for _ in range(len(self.queue) - soon)]
        return items[::-1]

    def room(self, now_ms: int) -> int | None:
        """How many more may be claimed from it now; None: as many as from any other."""
        if self.policy is None:
            return None
        if self.policy.ordered:
            return 0 if self.held else None
        soon = self.soon(now_ms)
        return None if soon is None else max(0, soon - self.held)

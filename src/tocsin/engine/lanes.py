"""What this node holds in memory: one lane per channel, served in turn.

Organizations come first, then their channels: a flood by one organization, or one slow channel,
takes turns with everybody else and no more. A lane starts with one attempt at a time and doubles
with every success, so that a target nobody has seen answer can't fill the node.

How much may be held is in `holdings.py`. Places in flight are shared likewise, once half of them
are taken: some are always left for whoever comes next. Slow lanes together take no more than half.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence

from tocsin.domain.model import ChannelId, OrganizationId
from tocsin.engine.holdings import Holdings
from tocsin.engine.lane import PLAIN, Lane, Policy, Share
from tocsin.engine.pacing import Pacing
from tocsin.storage.base import Held

LOST_ALONE = 2
"""From so many losses with a node on, a delivery is sent with nothing else in flight."""
PLACES_MIN = 64
"""With fewer places none is kept for others."""

Wanted = tuple[OrganizationId, ChannelId, int]


class Lanes(Holdings):
    """All lanes of this node: what is held, and whose turn it is.

    `policy_of` gives a channel's policy if it is at hand; if not, `unknown` is called and `learn`
    tells it later: until then nothing of the lane has a turn. `give_back` takes what is to be
    released, `claimable` hears that a lane which a claim left out has room again, `sleeping` that
    `wake` should be called at a moment (storage ms). `slots` is how many attempts at once the node
    makes.
    """

    def __init__(
        self,
        *,
        channel_in_flight_max: int,
        now_ms: Callable[[], int],
        slots: int = 1_000,
        policy_of: Callable[[ChannelId], Policy | None] = lambda channel_id: PLAIN,
        unknown: Callable[[ChannelId], None] = lambda channel_id: None,
        give_back: Callable[[Sequence[Held]], None] = lambda held: None,
        claimable: Callable[[], None] = lambda: None,
        sleeping: Callable[[int], None] = lambda until_ms: None,
    ) -> None:
        super().__init__(slots, now_ms)
        self._cap = channel_in_flight_max
        self._slots = slots
        self._roomy = slots // 2 if slots >= PLACES_MIN else slots
        self._policy_of = policy_of
        self._unknown = unknown
        self._give_back = give_back
        self._claimable = claimable
        self._sleeping = sleeping
        self._since_ms = now_ms()
        self._turns: deque[Share] = deque()
        self._alone: deque[Held] = deque()
        self._alone_since_ms = 0  # not 0 while one of these is in flight
        self._alone_from_ms = 0
        self._crowded: deque[Lane] = deque()  # they get a turn when a place comes free
        self._asleep: list[tuple[int, int, Lane]] = []  # they get one at a moment
        self._naps = itertools.count()
        self._slow_in_flight = 0
        self._ticked_ms = self._since_ms
        self.in_flight = 0

    # Room

    def reserve(self, wanted: Sequence[Wanted]) -> list[bool]:
        """Grant room for each, as far as it goes; see `Dispatch.reserve`."""
        return [self._reserve(*want) for want in wanted]

    def _reserve(self, organization_id: OrganizationId, channel_id: ChannelId, size: int) -> bool:
        if not self.accepting:
            return False
        lane = self._lane(organization_id, channel_id)
        if not self._fits_new(lane) or (lane.special and self._shut(lane)):
            return False
        if lane.blocked_until_ms and lane.blocked_until_ms > self._now_ms():
            return False
        self._grow(lane, size)
        return True

    def unreserve(self, granted: Sequence[Wanted]) -> None:
        """Give room back."""
        for organization_id, channel_id, size in granted:
            self._shrink(self._lane(organization_id, channel_id), size)

    def narrow(self) -> tuple[list[ChannelId], dict[ChannelId, int]]:
        """Lanes of which nothing may be claimed now, but soon, and those that have little room.

        `claimable` is called when one of the former may be claimed from again.
        """
        shut: list[ChannelId] = []
        rooms: dict[ChannelId, int] = {}
        now_ms = self._now_ms()
        for lane in self._special:
            room = lane.room(now_ms)
            if room == 0:
                shut.append(lane.channel_id)
                lane.left_out = True
                if lane.bucket is not None and not lane.held:
                    self._sleep(lane, lane.bucket.next_ms(now_ms))
            elif room is not None:
                rooms[lane.channel_id] = room
        return shut, rooms

    def _shut(self, lane: Lane) -> bool:
        """Whether nothing of a lane may be claimed at birth."""
        return (lane.policy is not None and lane.policy.ordered) or lane.room(self._now_ms()) == 0

    # Work

    def offer(self, held: Sequence[Held], *, reserved: bool) -> list[Held]:
        """Queue claimed deliveries; `reserved` ones have their room already.

        Returns those whose channel is on hold, to be released.
        """
        refused: list[Held] = []
        stopped: set[ChannelId] = set()
        for item in held:
            lane = self._lane(item.event.organization_id, item.channel_id)
            if not reserved:
                self._grow(lane, len(item.event.data))
            if lane.blocked_until_ms and lane.blocked_until_ms > self._now_ms():
                refused.append(item)
                continue
            if item.channel_id in stopped or (lane.special and lane.unwelcome(self._now_ms())):
                refused.append(item)
                continue
            if item.lost >= LOST_ALONE:
                if lane.policy is not None and lane.policy.ordered:
                    # What is sent alone is not in the queue: nothing of its lane goes beside it.
                    stopped.add(item.channel_id)
                    if lane.queue or lane.in_flight or lane.settling:
                        refused.append(item)
                        continue
                self._alone.append(item)
                continue
            lane.queue.append(item)
            if not lane.ready and lane.in_flight < lane.limit:
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
            lane.share.in_flight += 1
            self.in_flight += 1
            self._slow_in_flight += lane.slow
            self._alone_since_ms = self._now_ms()
            return lane, item
        while self._turns:
            share = self._turns.popleft()
            lane = share.ready.popleft()
            lane.ready = False
            found = None
            if (
                lane.queue
                and lane.in_flight < lane.limit
                and ((self.in_flight < self._roomy and not lane.guarded) or self._may(lane))
            ):
                found = lane.queue.popleft()
                lane.in_flight += 1
                share.in_flight += 1
                self.in_flight += 1
                if lane.queue and lane.in_flight < lane.limit:
                    share.ready.append(lane)
                    lane.ready = True
            if share.ready:
                self._turns.append(share)
            else:
                share.queued = False
            if found is not None:
                return lane, found
        return None

    def _may(self, lane: Lane) -> bool:
        """Whether a lane may take a place that there is; if not, it is given a turn later."""
        if self.in_flight >= self._roomy and lane.has_much(self._slots - self.in_flight):
            self._crowd(lane)
            return False
        if lane.slow and self._slow_in_flight >= max(1, self._slots // 2):
            self._crowd(lane)
            return False
        now_ms = self._now_ms()
        if lane.pacing is not None and lane.pacing.until_ms > now_ms:
            self._sleep(lane, lane.pacing.until_ms)
            return False
        if lane.bucket is not None and not lane.bucket.take(now_ms):
            self._sleep(lane, lane.bucket.next_ms(now_ms))
            return False
        self._slow_in_flight += lane.slow
        return True

    def _crowd(self, lane: Lane) -> None:
        lane.ready = True
        self._crowded.append(lane)

    def _sleep(self, lane: Lane, until_ms: int) -> None:
        if lane.ready:
            return
        lane.ready = lane.asleep = True
        heapq.heappush(self._asleep, (until_ms, next(self._naps), lane))
        self._sleeping(self._asleep[0][0])

    def wake(self) -> None:
        """Give a turn to what has slept long enough; `sleeping` is called for the next."""
        now_ms = self._now_ms()
        while self._asleep and self._asleep[0][0] <= now_ms:
            lane = heapq.heappop(self._asleep)[2]
            if lane.asleep:
                self._rouse(lane)
        if self._asleep:
            self._sleeping(self._asleep[0][0])

    def _rouse(self, lane: Lane) -> None:
        """Give a lane a turn that was put off, if it still has use for it."""
        lane.ready = lane.asleep = False
        self._turn(lane)
        if lane.left_out:
            self._let_in(lane)

    def _turn(self, lane: Lane) -> None:
        if lane.queue and not lane.ready and lane.in_flight < lane.limit:
            self._make_ready(lane)

    def _let_in(self, lane: Lane) -> None:
        soon = lane.soon(self._now_ms())
        # Half of what may be held: not a claim for each that leaves.
        if soon is None or lane.held * 2 <= soon:
            lane.left_out = False
            self._claimable()

    @property
    def waiting(self) -> bool:
        """Whether some delivery might be taken now."""
        return bool(self._turns) or bool(self._alone and not self.in_flight)

    def sent(self, lane: Lane, *, success: bool, settling: bool = True) -> None:
        """An attempt has its outcome: its place is free. `settling`: `left` will be called when
        that is committed; if not, nothing was sent and the delivery was released."""
        lane.in_flight -= 1
        lane.share.in_flight -= 1
        self.in_flight -= 1
        lane.ended += 1
        lane.settling += settling
        if self._alone_since_ms:
            # Everybody else has as much time before the next one.
            now_ms = self._now_ms()
            self._alone_from_ms = 2 * now_ms - self._alone_since_ms
            self._alone_since_ms = 0
        if success:
            if lane.window < lane.cap:
                self._widen(lane)
        elif settling:
            lane.failing = lane.special = True
        if lane.special:
            self._sent_special(lane, success, settling)
        if lane.slow:
            self._slow_in_flight -= 1
        if self._crowded:
            self._rouse(self._crowded.popleft())
        if lane.queue and not lane.ready and lane.in_flight < lane.limit:
            self._make_ready(lane)

    def failed(self, lane: Lane, vain_ms: int | None) -> None:
        """An attempt has failed; called before `sent`. `vain_ms` is how long it took if there was
        no reply: a lane that fails at once, again and again, pauses between its attempts."""
        if vain_ms is None:
            self._unpace(lane)
            return
        paced = lane.paced
        if lane.pacing is None:
            lane.pacing = Pacing()
        lane.pacing.failed(vain_ms, self._now_ms())
        if lane.paced and not paced:
            lane.fit()
            self._special.add(lane)
            if lane.policy is not None and not lane.policy.ordered:
                self._give_back(lane.surplus(self._now_ms()))

    def _unpace(self, lane: Lane) -> None:
        if lane.pacing is None:
            return
        lane.pacing = None
        lane.fit()
        if lane.asleep:
            self._rouse(lane)
        elif lane.left_out:
            self._let_in(lane)

    def _widen(self, lane: Lane) -> None:
        lane.window = min(lane.cap, lane.window * 2)
        lane.fit()
        if lane.tripped:
            # A straggler has shown that the target is there: its commit closes the breaker.
            lane.tripped = False
            lane.blocked_until_ms = 0

    def _sent_special(self, lane: Lane, success: bool, settling: bool) -> None:
        if success and lane.failing:
            lane.recover()
            self._unpace(lane)
        if not settling and lane.bucket is not None:
            lane.bucket.put_back()
        if lane.policy is not None and lane.policy.ordered and not success:
            # It may have to go again before the others: they wait until that is clear.
            lane.barred = True
            if not settling:
                self._let_go(lane)
        lane.fit()

    def _let_go(self, lane: Lane) -> None:
        """Give back what is queued in an ordered lane; it comes anew, in order."""
        items = list(lane.queue)
        lane.queue.clear()
        if items:
            self._give_back(items)
        self._emptied(lane)

    def _emptied(self, lane: Lane) -> None:
        if lane.held:
            return
        lane.barred = False
        lane.fit()
        if lane.left_out:
            self._let_in(lane)

    def left(self, channel_id: ChannelId, size: int) -> None:
        """A delivery is settled: its room is free, and so is its place where a cap counts it."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return
        lane.settling -= 1
        self._shrink(lane, size)
        if lane.special:
            lane.fit()
            if lane.barred:
                self._let_go(lane)
            self._left_special(lane)

    def gave_back(self, channel_id: ChannelId, size: int) -> None:
        """A delivery is released: its room is free."""
        lane = self._lanes.get(channel_id)
        if lane is not None:
            self._shrink(lane, size)
            if lane.special:
                self._left_special(lane)

    def _left_special(self, lane: Lane) -> None:
        if lane.policy is not None and lane.policy.ordered:
            self._emptied(lane)
        elif lane.left_out:
            self._let_in(lane)
        self._turn(lane)

    def hold(self, channel_id: ChannelId, until_ms: int) -> list[Held]:
        """Start nothing for a channel until a moment; returns what was queued, to be released."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return []
        lane.blocked_until_ms = max(lane.blocked_until_ms, until_ms)
        return self.drop(channel_id)

    def trip(self, channel_id: ChannelId, until_ms: int) -> list[Held]:
        """The same because its breaker has opened: a success ends it."""
        dropped = self.hold(channel_id, until_ms)
        lane = self._lanes.get(channel_id)
        if lane is not None:
            lane.tripped = True
        return dropped

    def drop(self, channel_id: ChannelId) -> list[Held]:
        """Take everything that is queued for a channel out, to be released."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return []
        items = list(lane.queue)
        lane.queue.clear()
        lane.window = 1
        lane.fit()
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

    def every(self) -> Sequence[Lane]:
        """All lanes, for whoever watches."""
        return tuple(self._lanes.values())

    def lane(self, channel_id: ChannelId) -> Lane | None:
        """A channel's lane, if this node holds anything of it."""
        return self._lanes.get(channel_id)

    # Policies

    def learn(self, channel_id: ChannelId, policy: Policy) -> list[Held]:
        """What a channel asks for; returns what is held in vain, to be released."""
        lane = self._lanes.get(channel_id)
        if lane is None:
            return []
        self._learn(lane, policy)
        return lane.surplus(self._now_ms())

    def forget(self, organization_id: OrganizationId) -> list[ChannelId]:
        """An organization's channels changed: nothing has a turn until they are read again.

        Returns the channels of which something is held.
        """
        wanted: list[ChannelId] = []
        for lane in self._lanes.values():
            if lane.share.organization_id == organization_id:
                lane.policy = None
                lane.fit()
                if lane.held:
                    wanted.append(lane.channel_id)
        return wanted

    def _learn(self, lane: Lane, policy: Policy) -> None:
        lane.learn(policy, self._cap, since_ms=self._since_ms, now_ms=self._now_ms())
        if lane.special:
            self._special.add(lane)
        else:
            self._special.discard(lane)
            lane.barred = False
            lane.fit()
        if lane.asleep or lane.left_out:
            self._rouse(lane)
        self._turn(lane)

    def _ask(self, lane: Lane) -> None:
        """Have a lane's policy known, at once or later."""
        policy = self._policy_of(lane.channel_id)
        if policy is None:
            self._unknown(lane.channel_id)
        else:
            self._learn(lane, policy)

    # Slowness

    def tick(self) -> None:
        """See which lanes are slow; called a few times a second."""
        now_ms = self._now_ms()
        seconds = (now_ms - self._ticked_ms) / 1000
        self._ticked_ms = now_ms
        for lane in self._lanes.values():
            if (lane.pace or lane.in_flight or lane.ended) and lane.watch(seconds):
                self._slow_in_flight += lane.in_flight if lane.slow else -lane.in_flight
                self._turn(lane)
        for _ in range(len(self._crowded)):
            self._rouse(self._crowded.popleft())

    # Inside

    def _lane(self, organization_id: OrganizationId, channel_id: ChannelId) -> Lane:
        lane = self._lanes.get(channel_id)
        if lane is None:
            share = self._shares.get(organization_id)
            if share is None:
                share = self._shares[organization_id] = Share(organization_id)
            lane = self._lanes[channel_id] = Lane(channel_id, share, self._cap)
        if lane.policy is None:
            self._ask(lane)
        return lane

    def _make_ready(self, lane: Lane) -> None:
        lane.ready = True
        share = lane.share
        share.ready.append(lane)
        if not share.queued:
            share.queued = True
            self._turns.append(share)

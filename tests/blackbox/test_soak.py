"""Half load for long: with deaths, a clock that is put back and forth, and targets that flap.

`make test-long` has a minute of it, `make soak` ten, or TOCSIN_SOAK_SECONDS. What was acknowledged
arrives, what comes twice was in flight at a death, order is kept, and the process grows neither in
memory nor in descriptors.
"""

import asyncio
import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Struct
from tests.blackbox import soak
from tests.blackbox.server import Server, Tenant, until
from tests.blackbox.soak import Clock, Ledger, Numbers, Publisher, Sample
from tests.blackbox.stalls import Stalls

pytestmark = [pytest.mark.long, pytest.mark.alone]

SECONDS = float(os.environ.get("TOCSIN_SOAK_SECONDS") or 60)
WHOLE = SECONDS > 120
LIFE_SECONDS = (20.0, 40.0) if WHOLE else (16.0, 22.0)
STEPS_SECONDS = (3_600, -7_200, 3_600)
GAUGE_SECONDS = 3.0
RATE_MAX = 150.0
"""Of steady and flapping events; a machine that is fast would only fill the disk."""
RATE_MIN = 10.0
FLAPPING_SHARE = 0.25
ORDERED_RATE, DEAD_RATE = 8.0, 2.0
CONNECTIONS = 4
DRAINED_SECONDS_MAX = 240.0
RECORDED_SECONDS_MAX = 120.0
# How long before a kill something may have been answered that is not recorded when it comes, and
# how long after it the receiver may still read what lay in a socket; a disk that stands still adds.
LATE_SECONDS = 2.0
IN_FLIGHT_MAX = 1_000
JITTER = 0.2
CLOCKS_SECONDS = 0.25
HELD_UP_SECONDS_MAX = 60.0
WARM_SECONDS = 6.0
RSS_TIMES_MAX, RSS_MORE_MIB = 1.35, 20.0
# Lanes that catch up open as many connections as a channel may, and keep them for half a minute.
DESCRIPTORS_MORE = 64 * 6 + 16
DESCRIPTORS_AT_REST_MAX = 80
REST_SECONDS_MAX = 120.0
DEAD_LOOKED_AT_MAX = 100


class Life:
    """One process, from ready to its end."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = 0.0
        self.samples: list[Sample] = []


class Course(Struct):
    """What happened to the service."""

    server: Server
    clock: Clock
    rate: float = 0.0
    lives: list[Life] = []

    def kills(self) -> list[float]:
        """When it died."""
        return [life.ended for life in self.lives[:-1]]

    def away_seconds(self) -> float:
        """The longest that it took to be ready after a kill."""
        pairs = itertools.pairwise(self.lives)
        return max((after.began - before.ended for before, after in pairs), default=0.0)


class Customers(Struct, frozen=True):
    """Three organizations and who publishes for them."""

    steady: Publisher
    flapping: Publisher
    ordered: Publisher
    dead: Publisher
    tenants: dict[str, Tenant]
    channels: dict[str, str]
    """Path by the id of its channel."""

    @property
    def publishers(self) -> tuple[Publisher, ...]:
        return self.steady, self.flapping, self.ordered, self.dead

    def due(self) -> Iterator[tuple[soak.Key, str]]:
        """Every delivery that an acknowledged event owes, and the event's id."""
        paths = {
            self.steady: soak.STEADY,
            self.flapping: (soak.FLAPPING, soak.SLOW),
            self.ordered: (soak.IN_ORDER,),
            self.dead: (soak.DEAD,),
        }
        for publisher, its in paths.items():
            for number, accepted in publisher.accepted.items():
                for path in its:
                    yield (path, number), accepted.event_id


def customers(server: Server, ledger: Ledger) -> Customers:
    numbers = Numbers()
    channels: dict[str, str] = {}
    steady, flapping, ordered = (server.tenant(name) for name in ("steady", "flapping", "ordered"))

    def channel(tenant: Tenant, path: str, type: str, **fields: object) -> None:
        made = tenant.channel(ledger.url(path), event_types=[type], **fields)
        channels[made["id"]] = path

    for path in soak.STEADY:
        channel(steady, path, "steady.event")
    channel(
        flapping,
        soak.FLAPPING,
        "flapping.event",
        timeout_seconds=soak.HANG_TIMEOUT_SECONDS,
        breaker={"failures": 5, "cooldown_seconds": 2},
        retry={"schedule": ["1s"] * 5 + ["2s"] * 15},
    )
    channel(flapping, soak.SLOW, "flapping.event")
    channel(
        ordered,
        soak.IN_ORDER,
        "ordered.event",
        ordered=True,
        breaker=None,
        timeout_seconds=30,
        retry={"schedule": ["1s"] * 5},
    )
    dead = [f"{seconds}s" for seconds in soak.DEAD_STEPS_SECONDS]
    channel(ordered, soak.DEAD, "dead.event", breaker=None, retry={"schedule": dead})
    return Customers(
        Publisher(steady, "steady.event", numbers, again=False),
        Publisher(flapping, "flapping.event", numbers, again=False),
        Publisher(ordered, "ordered.event", numbers, again=True),
        Publisher(ordered, "dead.event", numbers, again=True),
        {"steady": steady, "flapping": flapping, "ordered": ordered},
        channels,
    )


def arrived(ledger: Ledger, key: soak.Key) -> bool:
    """Whether it has come as often as it should: those of the dead path until they are given up."""
    if key[0] == soak.DEAD:
        return len(ledger.tried.get(key, ())) > len(soak.DEAD_STEPS_SECONDS)
    return key in ledger.succeeded


def drained(ledger: Ledger, people: Customers) -> None:
    """Wait until everything that was acknowledged has arrived."""
    owed = dict(people.due())

    def look() -> bool:
        for key in [key for key in owed if arrived(ledger, key)]:
            del owed[key]
        return not owed

    with suppress(AssertionError):
        until(look, "all has arrived", DRAINED_SECONDS_MAX)
    assert not owed, f"{len(owed)} acknowledged deliveries are lost: {list(owed.items())[:10]}"


async def gauge(course: Course, ledger: Ledger, people: Customers) -> None:
    """Find out what half load is here and now."""
    publisher = people.steady
    began = time.monotonic()
    publishing = asyncio.create_task(publisher.run(0, CONNECTIONS))
    await asyncio.sleep(GAUGE_SECONDS)
    publisher.ending = True
    await publishing
    publisher.ending = False
    await asyncio.to_thread(drained, ledger, people)
    whole = len(publisher.accepted) / (time.monotonic() - began)
    course.rate = min(max(whole / 2, RATE_MIN), RATE_MAX)


async def live(course: Course, people: Customers) -> None:
    """Kill and restart it again and again, and put the clock to another time in each life."""
    server, clock = course.server, course.clock
    steps = itertools.cycle(STEPS_SECONDS)
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        life = course.lives[-1]
        seconds = random.uniform(*LIFE_SECONDS)
        step_at, dies_at = life.began + seconds / 2, life.began + seconds
        while time.monotonic() < min(dies_at, ends):
            await asyncio.sleep(soak.SAMPLE_SECONDS)
            now = time.monotonic()
            found = soak.sample(server.pid, now - life.began)
            assert found is not None, f"it ended by itself:\n{server.said()}"
            life.samples.append(found)
            if now >= step_at:
                clock.step(next(steps))
                step_at = dies_at + SECONDS
        if time.monotonic() >= ends:
            return
        for publisher in people.publishers:
            publisher.up.clear()
        life.ended = server.kill()
        await asyncio.to_thread(server.start)
        course.lives.append(Life(server.ready_at))
        for publisher in people.publishers:
            publisher.up.set()


async def run(course: Course, ledger: Ledger, people: Customers) -> None:
    """The whole of it, until everything is published."""
    await gauge(course, ledger, people)
    rate = course.rate
    async with asyncio.TaskGroup() as group:
        group.create_task(people.steady.run(rate * (1 - FLAPPING_SHARE), CONNECTIONS))
        group.create_task(people.flapping.run(rate * FLAPPING_SHARE, CONNECTIONS))
        group.create_task(people.ordered.run(ORDERED_RATE, 1))
        group.create_task(people.dead.run(DEAD_RATE, 1))
        await live(course, people)
        for publisher in people.publishers:
            publisher.ending = True


def logged(people: Customers) -> dict[tuple[str, str], tuple[str, str]]:
    """The log when nothing is under way any more: status and delivery by event and path."""

    def look() -> bool:
        return not any(
            tenant.get("/deliveries", status=status, limit=1)["data"]
            for tenant in people.tenants.values()
            for status in ("waiting", "sending")
        )

    until(look, "everything is recorded", RECORDED_SECONDS_MAX)
    return {
        (one["event_id"], people.channels[one["channel_id"]]): (one["status"], one["id"])
        for tenant in people.tenants.values()
        for one in tenant.all("/deliveries")
    }


def check_log(people: Customers, found: dict[tuple[str, str], tuple[str, str]]) -> None:
    """What was acknowledged is there, delivered, or given up where nobody ever answers."""
    wrong = []
    for (path, number), event_id in people.due():
        status, _ = found.get((event_id, path), ("missing", ""))
        if status != ("exhausted" if path == soak.DEAD else "delivered"):
            wrong.append((path, number, event_id, status))
    assert not wrong, f"{len(wrong)} are not what they should be: {wrong[:10]}"
    dead = [one for (_, path), (_, one) in found.items() if path == soak.DEAD]
    for delivery_id in dead[:: max(1, len(dead) // DEAD_LOOKED_AT_MAX)]:
        attempts = people.tenants["ordered"].attempts(delivery_id)
        assert [one["outcome"] for one in attempts] == ["retry"] * len(attempts), attempts
        assert len(attempts) == len(soak.DEAD_STEPS_SECONDS) + 1, attempts


def check_twice(course: Course, ledger: Ledger, people: Customers, late_seconds: float) -> int:
    """Whatever was answered 2xx more than once was in flight at a kill; returns how many.

    Or the answer came when the service, on a machine that stands still, had just given it up.
    """
    kills = course.kills()
    at_kill = [0] * len(kills)
    given_up = 0
    for (path, number), successes in ledger.succeeded.items():
        for before, after in itertools.pairwise(successes):
            straddled = [
                place
                for place, kill in enumerate(kills)
                if abs(before.at - kill) < late_seconds and after.at > kill
            ]
            assert before.delivery_id == after.delivery_id, (path, number)
            if straddled:
                at_kill[straddled[-1]] += 1
                continue
            ended = {
                one["number"]: (one["error"] or "").partition(":")[0]
                for one in people.tenants[_whose(path)].attempts(before.delivery_id)
            }
            again = f"{path} {number} came again without a kill: {ended} {before} {after}"
            assert ended.get(before.attempt) == "timeout", again
            given_up += 1
    assert all(count <= IN_FLIGHT_MAX for count in at_kill), at_kill
    # What is recorded as delivered is never sent again, however near to a kill.
    for (path, number), successes in ledger.succeeded.items():
        if len(successes) > 1:
            tenant = people.tenants[_whose(path)]
            recorded = [one["outcome"] for one in tenant.attempts(successes[0].delivery_id)]
            assert recorded.count("delivered") == 1, (path, number, recorded)
    return sum(at_kill) + given_up


def _whose(path: str) -> str:
    if path in soak.STEADY:
        return "steady"
    return "ordered" if path in (soak.IN_ORDER, soak.DEAD) else "flapping"


def check_order(course: Course, ledger: Ledger, people: Customers) -> None:
    """First successes in the order of the 202s, and never two in flight; ids never go back."""
    accepted = people.ordered.accepted
    by_success = sorted(accepted, key=lambda n: ledger.succeeded[soak.IN_ORDER, n][0].at)
    wrong = [pair for pair in zip(accepted, by_success, strict=True) if pair[0] != pair[1]]
    assert not wrong, f"accepted, and what came in its place: {wrong[:10]}"
    came = sorted(ledger.in_order, key=lambda one: one[1])
    for (one, _, answered_at), (other, came_at, _) in itertools.pairwise(came):
        killed = any(answered_at - 1 <= kill <= came_at for kill in course.kills())
        assert came_at >= answered_at or killed, f"{one} and {other} were in flight together"
    for publisher in (people.ordered, people.dead):
        ids = [one.event_id for one in publisher.accepted.values()]
        assert ids == sorted(set(ids)), "the ids of events went back"


def check_retries(course: Course, ledger: Ledger, still_seconds: float) -> None:
    """No step of the clock hurries what waits for its next try, or keeps it."""
    soonest = (1 - JITTER) * min(soak.DEAD_STEPS_SECONDS) - CLOCKS_SECONDS
    held_up = HELD_UP_SECONDS_MAX + course.away_seconds() + still_seconds
    latest = (1 + JITTER) * max(soak.DEAD_STEPS_SECONDS) + held_up
    for (path, number), tries in ledger.tried.items():
        if path != soak.DEAD:
            continue
        for before, after in itertools.pairwise(tries):
            waited = after.at - before.at
            assert waited <= latest, f"{number} was tried again after {waited:.1f} s"
            if not any(before.at <= kill <= after.at for kill in course.kills()):
                assert waited >= soonest, f"{number} was tried again after {waited:.1f} s"


def check_growth(course: Course) -> None:
    """Neither within a process's life nor from one to the next."""
    ends: list[float] = []
    for life in course.lives:
        warm = [one for one in life.samples if one.age_seconds >= WARM_SECONDS]
        if len(warm) < 6:
            continue
        first, last = warm[:3], warm[-3:]
        rss = [statistics.median(one.rss_mib for one in some) for some in (first, last)]
        assert rss[1] <= RSS_TIMES_MAX * rss[0] + RSS_MORE_MIB, [one.rss_mib for one in warm]
        held = [one.descriptors for one in warm]
        most = max(held[: len(held) // 2]) + DESCRIPTORS_MORE
        assert statistics.median(held[-3:]) <= most, held
        ends.append(rss[1])
    assert ends, "no process lived long enough"
    assert ends[-1] <= RSS_TIMES_MAX * ends[0] + RSS_MORE_MIB, ends


def at_rest(course: Course) -> bool:
    """Whether the last process has closed what it needed under load."""
    found = soak.sample(course.server.pid, 0)
    return found is not None and found.descriptors <= DESCRIPTORS_AT_REST_MAX


def check_said(course: Course) -> None:
    """Nothing happened that nobody had thought of."""
    said = course.server.log.read_text(errors="replace")
    assert "Traceback" not in said, said[-5_000:]


def summary(course: Course, ledger: Ledger, people: Customers, twice: int, still: float) -> str:
    """One line of figures."""
    accepted = sum(len(publisher.accepted) for publisher in people.publishers)
    unknown = sum(len(publisher.unknown) for publisher in people.publishers)
    refused = sum((publisher.refused.total() for publisher in people.publishers), 0)
    samples = [life.samples for life in course.lives if life.samples]
    rss = " ".join(f"{some[len(some) // 4].rss_mib:.0f}→{some[-1].rss_mib:.0f}" for some in samples)
    held = " ".join(f"{max(one.descriptors for one in some)}" for some in samples)
    return (
        f"soak: {SECONDS:.0f} s at {course.rate:.0f} events/s, {accepted} accepted, "
        f"{unknown} unknown, {refused} refused, {sum(map(len, ledger.tried.values()))} requests, "
        f"{len(course.kills())} kills, away for {course.away_seconds():.1f} s, {twice} twice, "
        f"clock {course.clock.off_seconds:+d} s, RSS MiB {rss}, descriptors {held}, "
        f"machine still for {still:.1f} s"
    )


def test_half_load_for_long(tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    settings: dict[str, str | int] = {"requests_per_minute": 0, "stranger_requests_per_minute": 0}
    server = Server(tmp_path / "data", settings, command=clock.command)
    try:
        with Ledger() as ledger, Stalls(tmp_path) as stalls:
            soaked(server, clock, ledger, stalls)
    finally:
        server.close()


def soaked(server: Server, clock: Clock, ledger: Ledger, stalls: Stalls) -> None:
    """Run it all, then look at what came of it."""
    server.start()
    course = Course(server, clock, lives=[Life(server.ready_at)])
    people = customers(server, ledger)
    asyncio.run(run(course, ledger, people))
    ledger.heal()
    drained(ledger, people)
    found = logged(people)
    still = 2 * stalls.longest
    check_log(people, found)
    twice = check_twice(course, ledger, people, LATE_SECONDS + still)
    print(summary(course, ledger, people, twice, stalls.longest))
    check_order(course, ledger, people)
    check_retries(course, ledger, still)
    check_growth(course)
    if WHOLE:
        until(lambda: at_rest(course), "connections that nobody needs are closed", REST_SECONDS_MAX)
    assert server.stop() == 0, server.said()
    check_said(course)

"""What the engine tells of itself when its metrics are asked for; see `telemetry.families`."""

import asyncio
from collections.abc import Iterator, Sequence

from tocsin.engine.dispatcher import Dispatcher
from tocsin.engine.janitor import Chore
from tocsin.telemetry import families as of
from tocsin.telemetry.instruments import Sample


def samples(dispatcher: Dispatcher, chores: Sequence[Chore]) -> Iterator[Sample]:
    """Counts and lengths as they are now."""
    lanes, settler, pool = dispatcher.lanes, dispatcher.settler, dispatcher.client.pool
    yield from dispatcher.counts.samples()
    yield from settler.counts.samples()
    every = lanes.every()
    yield Sample(of.LANES, (), len(every))
    yield Sample(of.LANES_SLOW, (), sum(lane.slow for lane in every))
    yield Sample(of.BREAKERS_OPEN, (), sum(lane.tripped for lane in every))
    yield Sample(of.DELIVERIES_HELD, (), lanes.held)
    yield Sample(of.DELIVERIES_HELD_BYTES, (), lanes.bytes)
    yield Sample(of.ATTEMPTS_IN_FLIGHT, (), lanes.in_flight)
    yield Sample(of.SETTLES_WAITING, (), settler.unsettled)
    yield Sample(of.RECORDING, (), settler.ready)
    yield Sample(of.TARGET_CONNECTIONS_OPEN, (), pool.open_count)
    yield Sample(of.TARGET_CONNECTIONS_IDLE, (), pool.idle_count)
    now = asyncio.get_running_loop().time()
    for chore in chores:
        yield Sample(of.CHORE_AGE_SECONDS, (chore.name,), max(0.0, now - chore.succeeded))
        yield Sample(of.CHORE_FAILURES, (chore.name,), chore.failures)

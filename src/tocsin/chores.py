"""What is done again and again beside the work: a line for each, here and nowhere else.

`Chore(name, seconds, work)` is done by every node for itself. `duty(name, seconds, work)` is done
by one node at a time; see `service.duties` for what its work must bear.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from tocsin.clock import Clock
from tocsin.config import Settings
from tocsin.engine.janitor import Chore
from tocsin.engine.watchdog import STANDSTILL_SECONDS, in_rounds
from tocsin.service import evaluating, exhausted, issues, outbox, serving
from tocsin.service.credentials import Credentials
from tocsin.service.duties import Duties
from tocsin.service.failing import Failing
from tocsin.service.guesses import Guesses
from tocsin.service.health import PING_SECONDS, Health
from tocsin.service.hearing import LOOK_SECONDS, Hearing
from tocsin.service.intake import COUNT_SECONDS, Intake
from tocsin.service.jobs import JobRunner
from tocsin.service.people import People
from tocsin.service.retention import Retention
from tocsin.service.routing import Routing
from tocsin.service.statistics import Statistics
from tocsin.storage import Store

JOBS_SECONDS = 1.0
FAILING_SECONDS = 60.0
FLUSH_SECONDS = 10.0
KEYS_SECONDS = 60.0
KEYS_PER_STEP_MAX = 2_000
TIDY_SECONDS = 600.0
ROLL_UP_SECONDS = 600.0
RETENTION_SECONDS = 300.0
TIME_SECONDS = 20.0


class Parts(Protocol):
    """What there is to do them with; `App` has it all."""

    settings: Settings
    clock: Clock
    health: Health
    routing: Routing
    intake: Intake
    runner: JobRunner
    failing: Failing
    credentials: Credentials
    guesses: Guesses
    people: People
    duties: Duties
    outbox: outbox.Outbox
    evaluator: evaluating.Evaluator
    serving: serving.Serving
    exhausted: exhausted.Exhausted
    issues: issues.Issues
    retention: Retention
    statistics: Statistics

    def failed(self, error: BaseException) -> None:
        """A part has died: end the process."""
        ...


def chores(parts: Parts, store: Store) -> tuple[Chore, ...]:
    """All of this node's."""
    return (*_own(parts, store), *_shared(parts, store))


def _own(parts: Parts, store: Store) -> tuple[Chore, ...]:
    """What every node does for itself."""

    async def ping() -> None:
        try:
            await in_rounds(store.ping(), STANDSTILL_SECONDS)
        except TimeoutError:
            parts.failed(RuntimeError("the database has not answered for too long"))
        else:
            parts.health.answered()

    async def count_waiting() -> None:
        await parts.intake.count(store)

    return (
        Chore("asking the database", PING_SECONDS, ping),
        *_hearing(parts, store),
        Chore("noting uses of keys", FLUSH_SECONDS, parts.credentials.flush),
        Chore("counting what waits", COUNT_SECONDS, count_waiting),
        Chore("noting the time", TIME_SECONDS, store.note_time),
        Chore("noting failed sign-ins", FLUSH_SECONDS, parts.guesses.flush),
        *_serving(parts),
    )


def _serving(parts: Parts) -> tuple[Chore, ...]:
    """Where nothing is published there is nothing to note."""
    if not parts.settings.serves:
        return ()
    return (Chore("noting served minutes", serving.LOOK_SECONDS, parts.serving.look),)


def _hearing(parts: Parts, store: Store) -> tuple[Chore, ...]:
    """On one file there is nobody else to hear of."""
    if not parts.settings.postgres:
        return ()
    hearing = Hearing(store, parts.routing.invalidate)
    return (Chore("hearing of other nodes", LOOK_SECONDS, hearing.look),)


def _shared(parts: Parts, store: Store) -> tuple[Chore, ...]:
    """What one node does for all; nothing of it where this one only serves."""
    if not parts.settings.delivers:
        return ()

    def duty(name: str, seconds: float, work: Callable[[], Awaitable[object]]) -> Chore:
        if not parts.settings.postgres:
            return Chore(name, seconds, work)  # one file has one process
        return Chore(name, seconds, lambda: parts.duties.do(name, seconds, work))

    async def forget_keys() -> None:
        before_ms = parts.clock.wall_ms() - parts.settings.idempotency_hours * 3_600_000
        forgotten = KEYS_PER_STEP_MAX
        while forgotten == KEYS_PER_STEP_MAX:
            forgotten = await store.forget_keys(before_ms, KEYS_PER_STEP_MAX)

    async def tidy() -> None:
        await parts.people.tidy(audit_days=parts.settings.audit_days)

    async def evaluate() -> None:
        if await parts.evaluator.run_once():
            parts.outbox.soon()

    async def tell_exhausted() -> None:
        await parts.exhausted.run_once(parts.clock.wall_ms())

    # Whoever has noted something tells it at once; all look, in case that one is gone.
    telling = Chore("telling what was noted", outbox.LOOK_SECONDS, parts.outbox.run_once)
    parts.outbox.soon = telling.again

    return (
        telling,
        duty("running jobs", JOBS_SECONDS, parts.runner.run_once),
        duty("looking for channels that only fail", FAILING_SECONDS, parts.failing.run_once),
        duty("forgetting idempotency keys", KEYS_SECONDS, forget_keys),
        duty("evaluating alert rules", evaluating.LOOK_SECONDS, evaluate),
        duty("telling what was given up", exhausted.LOOK_SECONDS, tell_exhausted),
        duty("resolving quiet issues", issues.QUIET_SECONDS, parts.issues.resolve_quiet),
        duty("removing what people left behind", TIDY_SECONDS, tidy),
        duty("rolling statistics up", ROLL_UP_SECONDS, parts.statistics.roll_up),
        duty("removing what is too old", RETENTION_SECONDS, parts.retention.run_once),
    )

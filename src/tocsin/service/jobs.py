"""Carries out durable jobs, step by step: a duty of one node, and, for its first steps, of the node
that was asked for it.

A step is one transaction that locks the job's row: what several nodes do at once, a paused one
among them, is done once and counted once.
"""

import logging
from collections.abc import Callable

from tocsin.domain.errors import Unavailable
from tocsin.service.changes import Changes
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, jobs, recovery, work
from tocsin.storage.control.jobs import Task
from tocsin.telemetry.families import DELIVERIES_FINISHED
from tocsin.telemetry.instruments import Tally

JOBS_PER_ROUND_MAX = 100
ENDING = (work.CANCEL_DELETED, work.CANCEL_BACKLOG)
"""The rows of their steps are deliveries that they end."""
ROUTED = (work.DELETE_PROJECT, work.DELETE_ORGANIZATION)

_log = logging.getLogger(__name__)


class JobRunner:
    """Runs one step of each running job a round, so that a long one delays no other."""

    def __init__(self, changes: Changes, *, wake: Callable[[int], None]) -> None:
        """`wake` is `Dispatch.wake`."""
        self._changes = changes
        self._wake = wake
        self._store = changes.store
        self.ended = Tally(DELIVERIES_FINISHED)

    async def run_once(self) -> int:
        """One round; returns how many jobs got further: 0 means that nothing can be done now.

        Raises Unavailable when the store is away: at the second job in a row that finds it so, as
        one alone may be too slow for it. A job whose step can't be done ends as failed.
        """
        moved, above = 0, ""
        late: Unavailable | None = None
        while True:
            at = above
            tasks = await self._store.read(
                lambda c, at=at: jobs.running(c, above=at, limit=JOBS_PER_ROUND_MAX)  # type: ignore[misc]
            )
            for task in tasks:
                try:
                    moved += not (await self._step(task)).waits
                    late = None
                except Unavailable as error:
                    if late is not None:
                        raise
                    late = error
            if len(tasks) < JOBS_PER_ROUND_MAX:
                break
            above = tasks[-1].id
        if late is not None:
            raise late
        return moved

    async def run(self, sight: Sight, job_id: str, *, steps_max: int) -> bool:
        """Some steps of one job at once, for a caller who waits; True when it has ended."""
        for _ in range(steps_max):
            task = await self._store.read(lambda c: jobs.task(c, sight, job_id))
            if task is None:
                return True
            step = await self._step(task)
            if step.finished or step.waits:
                return step.finished
        return False

    async def _step(self, task: Task) -> work.Step:
        now_ms, storage_ms = self._changes.clock.wall_ms(), self._changes.clock.storage_ms()

        def step(connection: Connection) -> work.Step:
            # Read again: a person may have cancelled it, or a step's outcome was unknown.
            current = jobs.task(connection, task, task.id, lock=True)
            if current is None:
                there = jobs.task(connection, task, task.id) is not None
                return work.Step(rows=0, finished=not there, waits=there)
            return work.step(connection, current, now_ms=now_ms, storage_ms=storage_ms)

        try:
            done = await self._store.write(step)
        except Unavailable:
            raise
        except Exception:
            _log.exception("job %s (%s) failed", task.id, task.kind)
            await self._store.write(lambda c: jobs.fail(c, task, task.id, now_ms=now_ms))
            return work.Step(rows=0, finished=True)
        if task.kind in ENDING or (task.kind == work.DELETE_PROJECT and task.position):
            self.ended["cancelled",] += done.rows
        if task.kind in ROUTED and not task.position:
            self._changes.forget(Sight(task.organization_id))
        if task.kind == recovery.RECOVER and done.rows:
            self._wake(storage_ms)
        return done

"""The log of events, deliveries and attempts, and the jobs that work on it."""

import builtins

from tocsin.domain.errors import Invalid, NotFound
from tocsin.domain.ids import normalize_id
from tocsin.domain.model import Attempt, Delivery, DeliveryId, Job, ProjectId, Status, StoredEvent
from tocsin.domain.permissions import Caller
from tocsin.service.changes import Changes, Made, Target, listing, permit
from tocsin.service.directory import Directory
from tocsin.service.ports import Dispatch
from tocsin.service.recover import RecoverDraft, recover
from tocsin.service.sight import Listing, Page, Sight
from tocsin.storage.base import DataPlane
from tocsin.storage.control import Connection, deliveries, events, jobs

DELIVERIES_OF_EVENT_MAX = 5_000
ATTEMPTS_SHOWN_MAX = 1_000
ATTEMPTS_PER_PAGE = 2_000


class Log:
    """Reads of what was published and what became of it."""

    def __init__(
        self, *, changes: Changes, directory: Directory, dispatch: Dispatch, plane: DataPlane
    ) -> None:
        self._changes = changes
        self._store = changes.store
        self._directory = directory
        self._dispatch = dispatch
        self._plane = plane

    def _now(self) -> deliveries.Now:
        clock = self._changes.clock
        return deliveries.Now(
            storage_ms=clock.storage_ms(), wall_ms=clock.wall_ms(), nodes=(self._plane.node,)
        )

    async def _project_id(self, sight: Sight, ref: str | None) -> ProjectId | None:
        return None if ref is None else (await self._directory.project_in(sight, ref)).id

    async def events(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        type: str | None = None,
        project: str | None = None,
        after: int | None = None,
        before: int | None = None,
    ) -> Listing[StoredEvent]:
        """The events in sight; `after` ≤ created_at < `before`, in milliseconds."""
        permit(caller, "event.list")
        project_id = await self._project_id(sight, project)
        return listing(
            await self._store.read(
                lambda c: events.walk(
                    c,
                    sight,
                    type=type,
                    project_id=project_id,
                    after=after,
                    before=before,
                    limit=page.limit,
                    below=page.below,
                )
            )
        )

    async def event(
        self, caller: Caller, sight: Sight, event_id: str
    ) -> tuple[StoredEvent, builtins.list[Delivery]]:
        """An event with its deliveries, oldest first."""
        wanted = _id(event_id)
        now = self._now()

        def work(connection: Connection) -> tuple[StoredEvent, builtins.list[Delivery]]:
            found = events.get(connection, sight, wanted)
            permit(caller, "event.get")
            return found, deliveries.of_event(
                connection, sight, now, wanted, limit=DELIVERIES_OF_EVENT_MAX
            )

        return await self._store.read(work)

    async def deliveries(
        self,
        caller: Caller,
        sight: Sight,
        page: Page,
        *,
        channel: str | None = None,
        project: str | None = None,
        status: Status | None = None,
        event_type: str | None = None,
        after: int | None = None,
        before: int | None = None,
    ) -> Listing[Delivery]:
        """The deliveries in sight; `channel` is an id, and an unknown one has none."""
        permit(caller, "delivery.list")
        channel_id = None if channel is None else normalize_id(channel)
        if channel is not None and channel_id is None:
            raise Invalid("channel", "must be an id")
        project_id = await self._project_id(sight, project)
        now = self._now()
        return listing(
            await self._store.read(
                lambda c: deliveries.walk(
                    c,
                    sight,
                    now,
                    channel_id=channel_id,
                    project_id=project_id,
                    status=status,
                    event_type=event_type,
                    after=after,
                    before=before,
                    limit=page.limit,
                    below=page.below,
                )
            )
        )

    async def delivery(
        self, caller: Caller, sight: Sight, delivery_id: str
    ) -> tuple[Delivery, builtins.list[Attempt]]:
        """A delivery with its attempts, oldest first, at most the newest 1,000.

        `response_body` is None where the channel is out of sight.
        """
        wanted = _id(delivery_id)
        now = self._now()

        def work(connection: Connection) -> tuple[Delivery, builtins.list[Attempt]]:
            found = deliveries.get(connection, sight, now, wanted)
            permit(caller, "delivery.get")
            return found, deliveries.attempts_of(connection, sight, found, limit=ATTEMPTS_SHOWN_MAX)

        return await self._store.read(work)

    async def attempts(
        self, caller: Caller, sight: Sight, page: Page
    ) -> Listing[tuple[DeliveryId, Attempt]]:
        """The attempts of deliveries in sight, newest delivery first, oldest attempt first.

        `page` counts deliveries; it ends early after one with which it has 2,000 attempts.
        """
        permit(caller, "delivery.get")
        now = self._now()

        def work(connection: Connection) -> Listing[tuple[DeliveryId, Attempt]]:
            walked = deliveries.walk(connection, sight, now, limit=page.limit, below=page.below)
            found: builtins.list[tuple[DeliveryId, Attempt]] = []
            for one in walked.items:
                tries = deliveries.attempts_of(connection, sight, one, limit=ATTEMPTS_SHOWN_MAX)
                found += [(one.id, attempt) for attempt in tries]
                if len(found) >= ATTEMPTS_PER_PAGE and one is not walked.items[-1]:
                    return Listing(items=found, next=one.id)
            return Listing(items=found, next=walked.next, scanned_to=walked.scanned_to)

        return await self._store.read(work)

    async def retry(self, caller: Caller, sight: Sight, delivery_id: str) -> Delivery:
        """Re-open a finished delivery: due now, its schedule from the first step.

        Raises Conflict where it is not finished, was a test or its channel is deleted, and
        EventPurged.
        """
        wanted = _id(delivery_id)
        now = self._now()
        found = await self._store.read(lambda c: deliveries.get(c, sight, now, wanted))
        permit(caller, "delivery.retry")

        def work(connection: Connection) -> Made[Delivery]:
            reopened = deliveries.reopen(connection, sight, now, wanted)
            return Made(reopened, {"status": {"from": found.status, "to": reopened.status}})

        target = Target("delivery", wanted)
        reopened = await self._changes.make(
            caller, sight, "delivery.retry", target, work, touch=False
        )
        self._dispatch.wake(now.storage_ms)
        return reopened

    async def recover(
        self, caller: Caller, sight: Sight, channel_id: str, draft: RecoverDraft
    ) -> Job:
        """Begin a job that re-opens what failed on its way to a channel; see `recover.py`."""
        return await recover(self._changes, caller, sight, channel_id, draft)

    async def jobs(self, caller: Caller, sight: Sight, page: Page) -> Listing[Job]:
        """The jobs that people started."""
        permit(caller, "job.list")
        return listing(
            await self._store.read(
                lambda c: jobs.walk(c, sight, limit=page.limit, below=page.below)
            )
        )

    async def job(self, caller: Caller, sight: Sight, job_id: str) -> Job:
        """A job and how far it is."""
        wanted = _id(job_id)
        found = await self._store.read(lambda c: jobs.get(c, sight, wanted))
        permit(caller, "job.get")
        return found

    async def cancel_job(self, caller: Caller, sight: Sight, job_id: str) -> Job:
        """Stop a running job where it is; raises Conflict when it has ended."""
        wanted = _id(job_id)
        await self._store.read(lambda c: jobs.get(c, sight, wanted))
        permit(caller, "job.delete")
        now_ms = self._changes.clock.wall_ms()

        def work(connection: Connection) -> Made[Job]:
            return Made(jobs.cancel(connection, sight, wanted, now_ms=now_ms), {})

        target = Target("job", wanted)
        return await self._changes.make(caller, sight, "job.delete", target, work, touch=False)


def _id(text: str) -> str:
    found = normalize_id(text)
    if found is None:
        raise NotFound
    return found

"""The log of events, deliveries and attempts, and the jobs that work on it."""

import builtins

from tocsin.domain.model import Attempt, Delivery, Job, Status, StoredEvent
from tocsin.domain.permissions import Caller
from tocsin.service.sight import Listing, Page, Sight


class Log:
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
        raise NotImplementedError

    async def event(
        self, caller: Caller, sight: Sight, event_id: str
    ) -> tuple[StoredEvent, builtins.list[Delivery]]:
        raise NotImplementedError

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
        raise NotImplementedError

    async def delivery(
        self, caller: Caller, sight: Sight, delivery_id: str
    ) -> tuple[Delivery, builtins.list[Attempt]]:
        raise NotImplementedError

    async def retry(self, caller: Caller, sight: Sight, delivery_id: str) -> Delivery:
        raise NotImplementedError

    async def jobs(self, caller: Caller, sight: Sight, page: Page) -> Listing[Job]:
        raise NotImplementedError

    async def job(self, caller: Caller, sight: Sight, job_id: str) -> Job:
        raise NotImplementedError

    async def cancel_job(self, caller: Caller, sight: Sight, job_id: str) -> Job:
        raise NotImplementedError

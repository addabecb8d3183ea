"""Alert rules on a real store and a clock that is driven: figures are put into its tables."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from tests.storage.stores import AnyStore, make_organization, new_id, rows

from tocsin.clock import Clock
from tocsin.domain.alerts import MINUTE_MS, AlertRule
from tocsin.domain.latency import bucket_of
from tocsin.domain.model import ChannelId, OrganizationId, Project, ProjectId
from tocsin.service.evaluating import GRACE_MS, Evaluator
from tocsin.service.sight import Sight
from tocsin.storage.control import Connection, alert_rules, alerting, projects
from tocsin.storage.tables import channels
from tocsin.storage.watch_tables import channel_minutes, issues, project_minutes

START = 29_000_000
"""The minute in which tests begin."""

_nodes = itertools.count(1)


class DrivenClock(Clock):
    """Stands at a moment until it is put elsewhere."""

    def __init__(self, minute: int) -> None:
        super().__init__()
        self.minute = minute
        self.late_ms = GRACE_MS

    def wall_ms(self) -> int:
        return self.minute * MINUTE_MS + self.late_ms


class Watch:
    """An organization with one project and one channel, and somebody who evaluates its rules."""

    def __init__(self, store: AnyStore) -> None:
        self.store = store
        self.clock = DrivenClock(START)
        self.evaluator = Evaluator(store, self.clock)
        self.sight = Sight(OrganizationId(new_id()))
        self.project_id = ProjectId(new_id())
        self.channel_id = ChannelId("")

    async def set_up(self) -> "Watch":
        await make_organization(self.store, self.sight.organization_id)
        await self.project(self.project_id)
        self.channel_id = await self.channel()
        return self

    async def project(self, id: ProjectId | None = None) -> ProjectId:
        id = id or ProjectId(new_id())
        made = Project(
            id=id,
            organization_id=self.sight.organization_id,
            name="App",
            slug=f"app-{id}",
            created_at=1,
            updated_at=1,
        )
        await self.store.write(lambda c: projects.create(c, self.sight, made))
        return id

    async def channel(self, project_id: ProjectId | None = None) -> ChannelId:
        row = {
            "id": new_id(),
            "organization_id": self.sight.organization_id,
            "project_id": project_id or self.project_id,
            "type": "webhook",
            "name": "a channel",
            "event_types": '["*"]',
            "filter": "[]",
            "schedule": '["5s"]',
            "timeout_ms": 15000,
            "ordered": False,
            "enabled": True,
            "sealed": b"",
            "version": 1,
            "created_at": 1,
            "updated_at": 1,
        }
        await self.store.write(lambda c: c.execute(sa.insert(channels).values(row)).rowcount)
        return ChannelId(str(row["id"]))

    def made(
        self, rule_type: str, config: dict[str, Any] | None = None, **fields: Any
    ) -> AlertRule:
        """A rule that tells the channel, made a while ago."""
        given: dict[str, Any] = {
            "id": new_id(),
            "organization_id": self.sight.organization_id,
            "project_id": self.project_id,
            "name": "rule",
            "description": None,
            "rule_type": rule_type,
            "rule_config": msgspec.json.encode(config or {}).decode(),
            "source_id": None,
            "destination_id": None,
            "channel_ids": (self.channel_id,),
            "cooldown_minutes": 60,
            "enabled": True,
            "version": 1,
            "evaluated_minute": START - 1,
            "created_at": (START - 1) * MINUTE_MS,
            "updated_at": (START - 1) * MINUTE_MS,
        }
        return AlertRule(**(given | fields))

    async def rule(
        self, rule_type: str, config: dict[str, Any] | None = None, **fields: Any
    ) -> AlertRule:
        rule = self.made(rule_type, config, **fields)
        await self.store.write(lambda c: alert_rules.create(c, self.sight, rule))
        return rule

    async def now(self, rule: AlertRule) -> AlertRule:
        """A rule as it stands."""
        return await self.store.read(lambda c: alert_rules.get(c, self.sight, rule.id))

    # What happened

    async def sent(
        self,
        minute: int,
        attempts: int,
        *,
        failed: int = 0,
        exhausted: int = 0,
        delivered: int | None = None,
        ms: int = 100,
        channel_id: ChannelId | None = None,
    ) -> None:
        """So much in a minute, by a node of its own."""
        row: dict[str, Any] = {
            "channel_id": channel_id or self.channel_id,
            "minute": minute,
            "node": next(_nodes),
            "organization_id": self.sight.organization_id,
            "attempts": attempts,
            "failed": failed,
            "delivered": attempts - failed if delivered is None else delivered,
            "exhausted": exhausted,
            f"l{bucket_of(ms)}": attempts,
        }
        await self.store.write(lambda c: c.execute(sa.insert(channel_minutes).values(row)).rowcount)

    async def accepted(
        self, minute: int, events: int, *, project_id: ProjectId | None = None
    ) -> None:
        row = {
            "organization_id": self.sight.organization_id,
            "project_id": project_id or self.project_id,
            "minute": minute,
            "node": next(_nodes),
            "accepted": events,
            "unmatched": 0,
        }
        await self.store.write(lambda c: c.execute(sa.insert(project_minutes).values(row)).rowcount)

    async def served(self, minutes: Sequence[int]) -> None:
        await self.store.write(lambda c: alerting.serve(c, minutes, node=1))

    async def opened(
        self, at_ms: int, *, title: str = "The target does not answer", **fields: Any
    ) -> str:
        """An issue that opened at a moment."""
        row: dict[str, Any] = {
            "id": new_id(),
            "organization_id": self.sight.organization_id,
            "project_id": self.project_id,
            "channel_id": self.channel_id,
            "fingerprint": new_id(),
            "title": title,
            "status": "open",
            "occurrence_count": 1,
            "first_seen_at": at_ms,
            "last_seen_at": at_ms,
            "opened_at": at_ms,
            "created_at": at_ms,
            "updated_at": at_ms,
        }
        row |= fields
        await self.store.write(lambda c: c.execute(sa.insert(issues).values(row)).rowcount)
        return str(row["id"])

    # What is told

    async def at(self, minute: int) -> int:
        """Evaluate at a minute."""
        self.clock.minute = minute
        return await self.evaluator.run_once()

    async def notices(self) -> list[dict[str, Any]]:
        """What is to be published, oldest first."""
        found = await rows(self.store, "SELECT id, kind, body FROM outbox ORDER BY id")
        assert all(row["kind"] == "alert" for row in found)
        return [msgspec.json.decode(row["body"]) for row in found]

    async def told(self) -> list[str]:
        """The types of all notices."""
        return [notice["type"] for notice in await self.notices()]

    async def history(self, rule: AlertRule) -> list[Any]:
        """What its history shows, newest first."""

        def read(connection: Connection) -> list[Any]:
            return list(alert_rules.history(connection, self.sight, rule.id, limit=50))

        return await self.store.read(read)

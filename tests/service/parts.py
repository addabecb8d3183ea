"""The use cases on a real store, wired as the app does, with hands that send nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.storage.stores import now_ms, open_store

from tocsin.channels import channel_types
from tocsin.clock import Clock
from tocsin.crypto.passwords import Passwords
from tocsin.crypto.sealing import Sealer, new_master_key
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import (
    Attempt,
    ChannelId,
    ChannelState,
    OrganizationId,
    Project,
    ProjectId,
    Role,
    Status,
)
from tocsin.domain.permissions import ALL, ROLES, Caller
from tocsin.net.errors import AddressRefused, TargetInvalid
from tocsin.service.changes import Changes
from tocsin.service.channels import ChannelDraft, Channels
from tocsin.service.credentials import Credentials
from tocsin.service.directory import Directory
from tocsin.service.guesses import Guesses
from tocsin.service.issues import Issues
from tocsin.service.jobs import JobRunner
from tocsin.service.keys import Keys
from tocsin.service.links import Links
from tocsin.service.log import Log
from tocsin.service.members import Members
from tocsin.service.people import People
from tocsin.service.routing import Routing
from tocsin.service.sessions import Sessions
from tocsin.service.sight import Sight
from tocsin.service.testing import Tester
from tocsin.service.vault import Vault
from tocsin.storage.base import AttemptRecord, Held, Settlement
from tocsin.storage.sqlite import SqliteStore

OPERATOR = Caller(kind="operator", grants=ALL, name="operator", address="198.51.100.7")
OPERATOR_TOKEN = "o" * 40
URL = "https://example.com/hook"


class MovableClock(Clock):
    """The real clock, and a way to let time pass."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return super().wall_ms() + self.ahead_ms

    def storage_ms(self) -> int:
        return super().storage_ms() + self.ahead_ms

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_ms / 1000


class Hands:
    """A `Dispatch` whose probes end as `outcome` once `open` is set; it notes what it was told."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.outcome = "delivered"
        self.open = asyncio.Event()
        self.open.set()
        self.woken: list[int] = []
        self.probed: list[Held] = []

    def reserve(self, wanted: Sequence[tuple[OrganizationId, ChannelId, int]]) -> list[bool]:
        return [False] * len(wanted)

    def unreserve(self, granted: Sequence[tuple[OrganizationId, ChannelId, int]]) -> None:
        pass

    def offer(self, held: Sequence[Held]) -> None:
        pass

    def wake(self, due_ms: int) -> None:
        self.woken.append(due_ms)

    def forget(self, organization_id: OrganizationId) -> None:
        pass

    async def probe(self, held: Held) -> Attempt:
        self.probed.append(held)
        await self.open.wait()
        record = AttemptRecord(
            number=held.number,
            started_at=now_ms(),
            duration_ms=1,
            outcome=self.outcome,
            status_code=204 if self.outcome == "delivered" else 500,
            error=None if self.outcome == "delivered" else "http_status: 500",
            response_body="answer",
        )
        await self._store.settle(
            [
                Settlement(
                    id=held.id,
                    claim=held.claim,
                    organization_id=held.event.organization_id,
                    channel_id=held.channel_id,
                    origin=held.origin,
                    version=1,
                    status=Status.DELIVERED if self.outcome == "delivered" else Status.EXHAUSTED,
                    finished_at=now_ms(),
                    due_ms=held.due_ms,
                    step=0,
                    attempt=record,
                    counts_in_streak=False,
                )
            ]
        )
        return Attempt(**msgspec.structs.asdict(record))


class Parts:
    """All use cases on one store."""

    def __init__(self, store: SqliteStore, *, channels_max: int = 1000) -> None:
        self.store = store
        self.clock = MovableClock()
        ids = IdMaker(store.node, store.floor_ms)
        self.routing = Routing(store)
        self.hands = Hands(store)
        self.sealer = Sealer((new_master_key(),))
        self.vault = Vault(self.sealer, channel_types())
        self.vetted: list[str] = []
        self.changes = Changes(
            store=store,
            clock=self.clock,
            new_id=lambda: ids.make(self.clock.wall_ms()),
            routing=self.routing,
        )
        self.runner = JobRunner(self.changes, wake=self.hands.wake)
        self.directory = Directory(changes=self.changes, runner=self.runner)
        self.keys = Keys(changes=self.changes, directory=self.directory)
        self.credentials = Credentials(
            store=store, clock=self.clock, operator_tokens=(OPERATOR_TOKEN,)
        )
        self.tester = Tester(changes=self.changes, dispatch=self.hands, plane=store)
        self.channels = Channels(
            changes=self.changes,
            directory=self.directory,
            vault=self.vault,
            vet=self._vet,
            dispatch=self.hands,
            tester=self.tester,
            channels_max=channels_max,
        )
        self.log = Log(
            changes=self.changes, directory=self.directory, dispatch=self.hands, plane=store
        )
        self.issues = Issues(changes=self.changes, directory=self.directory)
        self.routing.on_invalidate += [self.directory.forget, self.credentials.forget]
        self._people()

    def _people(self) -> None:
        passwords = Passwords(time_cost=1, memory_kib=8)
        self.sessions = Sessions(changes=self.changes)
        self.routing.on_invalidate.append(self.sessions.forget)
        guesses = Guesses(changes=self.changes)
        self.links = Links(
            changes=self.changes, sessions=self.sessions, passwords=passwords, guesses=guesses
        )
        self.members = Members(changes=self.changes, links=self.links)
        self.people = People(
            changes=self.changes,
            directory=self.directory,
            sessions=self.sessions,
            links=self.links,
            passwords=passwords,
            guesses=guesses,
        )

    async def _vet(self, url: str, organization_id: OrganizationId) -> None:
        self.vetted.append(url)
        if "refused" in url:
            raise AddressRefused
        if "invalid" in url:
            raise TargetInvalid("the URL's port is not valid")

    async def organization(self, name: str = "Acme") -> Sight:
        """A new organization, and the sight of all of it."""
        made = await self.directory.create_organization(OPERATOR, name=name)
        return Sight(made.id)

    async def project(self, sight: Sight, name: str = "App") -> Project:
        """A new project."""
        return await self.directory.create_project(OPERATOR, sight, name=name)

    async def channel(self, sight: Sight, **members: Any) -> ChannelState:
        """A new webhook."""
        state, _ = await self.channels.create(OPERATOR, sight, draft(**members))
        return state


def draft(**members: Any) -> ChannelDraft:
    """A webhook, unless said otherwise."""
    given: dict[str, Any] = {"name": "hook", "type": "webhook", "settings": {"url": URL}}
    return ChannelDraft(**(given | members))


def caller(sight: Sight, role: Role = Role.ADMIN, *, project_id: ProjectId | None = None) -> Caller:
    """A key's caller, without the key."""
    return Caller(
        kind="key",
        organization_id=sight.organization_id,
        project_id=project_id,
        grants=ROLES[role],
        id="f" * 24,
        name=role.value,
    )


@contextlib.asynccontextmanager
async def open_parts(folder: Path, **options: Any) -> AsyncIterator[Parts]:
    """The use cases on a new database in a folder."""
    async with open_store("sqlite", folder) as store:
        yield Parts(store, **options)

"""A real engine on a real store with a real target, without the HTTP edge."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from tests.storage.stores import ORGANIZATION, lay_sqlite, make_organization, new_id, one, rows

from tocsin.channels import channel_types
from tocsin.clock import Clock
from tocsin.crypto.sealing import Sealer, new_master_key
from tocsin.crypto.signing import new_secret
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import Channel, ChannelId, OrganizationId, Secrets
from tocsin.domain.permissions import ALL, Caller
from tocsin.engine.engine import Engine
from tocsin.engine.journal import SendJournal
from tocsin.engine.targets import Targets
from tocsin.net.client import Client
from tocsin.net.guard import Guard
from tocsin.net.resolver import Resolver
from tocsin.service.publish import Accepted, EventDraft, Publisher
from tocsin.service.routing import Routing
from tocsin.service.sight import Sight
from tocsin.storage.control.sending import channel_for_sending
from tocsin.storage.sqlite import SqliteStore
from tocsin.storage.sqlite.writer import connect as connect_plainly
from tocsin.storage.tables import channels, lanes, organizations

OPERATOR = Caller(
    kind="operator",
    organization_id=None,
    project_id=None,
    grants=ALL,
    id=None,
    name="operator",
    dialect="native",
    address=None,
)


class Receiver:
    """A target on loopback: answers by script and remembers what came."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.script: list[bytes] = []
        self.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.hang = asyncio.Event()
        self.hang.set()
        self._server: asyncio.Server | None = None
        self._came = asyncio.Condition()

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                async with self._came:
                    self.heads.append(head)
                    self.bodies.append(body)
                    self._came.notify_all()
                await self.hang.wait()
                answer = self.script.pop(0) if self.script else self.reply
                if not answer:
                    return  # and close
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def came(self, count: int, seconds: float = 60) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: len(self.bodies) >= count)


class Parts:
    """What a test of the engine works with."""

    def __init__(self, store: SqliteStore, engine: Engine, publisher: Publisher) -> None:
        self.store = store
        self.engine = engine
        self.publisher = publisher
        self.failures: list[BaseException] = []

    async def publish(
        self,
        count: int = 1,
        *,
        type: str = "build.created",
        organization: OrganizationId = ORGANIZATION,
        **fields: Any,
    ) -> list[Accepted]:
        """Publish so many events."""
        drafts = [EventDraft(type=type, data=b'{"n": %d}' % n, **fields) for n in range(count)]
        answers = await self.publisher.accept(OPERATOR, Sight(organization), drafts)
        for answer in answers:
            assert isinstance(answer, Accepted), answer
        return answers  # type: ignore[return-value]

    async def settled(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until so many deliveries are final; returns all of them."""
        await self._counted("deliveries WHERE finished_at IS NOT NULL", count, seconds)
        return await rows(self.store, "SELECT * FROM deliveries ORDER BY id")

    async def attempts(self, count: int, seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until so many attempts are recorded."""
        await self._counted("attempts", count, seconds)
        return await rows(self.store, "SELECT * FROM attempts ORDER BY started_at")

    async def _counted(self, what: str, count: int, seconds: float) -> None:
        """Counts first: whole rows, asked for again and again, would keep the engine waiting."""
        async with asyncio.timeout(seconds):
            while (await one(self.store, f"SELECT count(*) AS n FROM {what}"))["n"] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def idle(self, seconds: float = 60) -> None:
        """Wait until this node holds no delivery."""
        async with asyncio.timeout(seconds):
            while self.engine.lanes.held or self.engine.worker._released:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def lane(self) -> dict[str, Any]:
        """The only channel's lane."""
        return await one(self.store, "SELECT * FROM lanes")

    async def channel(
        self,
        url: str,
        schedule: tuple[str, ...] = ("1s",),
        organization: OrganizationId = ORGANIZATION,
        **fields: Any,
    ) -> ChannelId:
        """A webhook channel."""
        channel_id = ChannelId(new_id())
        secrets = Secrets(settings={"url": url}, secret=new_secret())
        row = {
            "id": channel_id,
            "organization_id": organization,
            "type": "webhook",
            "name": "a channel",
            "event_types": '["*"]',
            "filter": "[]",
            "schedule": msgspec.json.encode(schedule).decode(),
            # Long: no attempt is to run out of time because the machine is slow.
            "timeout_ms": 20_000,
            "ordered": False,
            "enabled": True,
            "sealed": SEALER.seal(msgspec.json.encode(secrets), organization, channel_id),
            "version": 1,
            "created_at": 1,
            "updated_at": 1,
            **fields,
        }
        ordered, narrow = bool(row["ordered"]), ("rate_limit", "max_in_flight")
        lane = {
            "channel_id": channel_id,
            "organization_id": organization,
            "version": 1,
            "ordered": ordered,
            "exclusive": ordered or any(row.get(name) is not None for name in narrow),
        }

        def work(connection: sa.Connection) -> None:
            connection.execute(sa.insert(channels).values(row))
            connection.execute(sa.insert(lanes).values(lane))
            bump = sa.update(organizations).values(version=organizations.c.version + 1)
            connection.execute(bump)

        await self.store.write(work)
        self.publisher._routing.invalidate(organization)
        return channel_id


SEALER = Sealer((new_master_key(),))


@asynccontextmanager
async def running(
    folder: Path,
    *,
    store_type: type[SqliteStore] = SqliteStore,
    connect: Callable[[Path], sqlite3.Connection] = connect_plainly,
    clock: Clock | None = None,
    **options: Any,
) -> AsyncIterator[Parts]:
    """An engine that sends, on the store in a folder; an organization is made in a new one."""
    clock = clock or Clock()
    path = folder / "tocsin.db"
    new = not path.exists()
    lay_sqlite(path)
    with SendJournal(folder / "sending.journal", 2_000) as journal:
        async with store_type(
            path,
            wall_ms=clock.wall_ms,
            storage_ms=clock.storage_ms,
            began=journal.began,
            connect=connect,
        ) as store:
            journal.start()
            if new:
                await make_organization(store)
            async with assembled(store, journal, clock, **options) as parts:
                yield parts


@asynccontextmanager
async def assembled(
    store: SqliteStore, journal: SendJournal, clock: Clock, **options: Any
) -> AsyncIterator[Parts]:
    """The parts above a store."""
    ids = IdMaker(store.node, store.floor_ms)
    failures: list[BaseException] = []

    async def load(channel_id: ChannelId) -> Channel | None:
        return await store.read(lambda c: channel_for_sending(c, channel_id))

    guard = Guard([ip_network("127.0.0.0/8")], https_only=False)
    async with Resolver() as resolver, Client(resolver, guard) as client:
        routing = Routing(store)
        engine = Engine(
            store=store,
            targets=Targets(load=load, type_of=channel_types().get, sealer=SEALER),
            client=client,
            journal=journal,
            clock=clock,
            changed=routing.invalidate,
            failed=failures.append,
            **{"in_flight_max": 1000, "channel_in_flight_max": 64, **options},
        )
        routing.on_invalidate.append(engine.forget)
        publisher = Publisher(
            store=store,
            routing=routing,
            dispatch=engine,
            clock=clock,
            ids=ids,
            idempotency_hours=24,
        )
        parts = Parts(store, engine, publisher)
        parts.failures = failures
        async with engine:
            yield parts
        await publisher.close()
    assert failures == []

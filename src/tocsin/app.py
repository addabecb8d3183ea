"""The one place where parts are built and wired; owns the order of start and stop."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType

from pydantic import SecretStr

from tocsin.channels import channel_types
from tocsin.clock import Clock
from tocsin.config import ConfigError, Settings
from tocsin.crypto.keyring import keep_secret, private_folder, read_secret
from tocsin.crypto.sealing import BadMasterKey, Sealer, new_master_key, parse_master_keys
from tocsin.crypto.tokens import new_operator_token
from tocsin.domain.ids import IdMaker
from tocsin.domain.model import Channel, ChannelId
from tocsin.engine.engine import UNSETTLED_MAX, Engine
from tocsin.engine.journal import SendJournal
from tocsin.engine.targets import Targets
from tocsin.net.client import Client
from tocsin.net.guard import Guard
from tocsin.net.resolver import Resolver
from tocsin.service.publish import Publisher
from tocsin.service.routing import Routing
from tocsin.storage.control import master_keys
from tocsin.storage.control.sending import channel_for_sending
from tocsin.storage.sqlite import SqliteStore

PING_SECONDS = 1.0
STANDSTILL_SECONDS = 30.0
JOBS_SECONDS = 1.0
FLUSH_SECONDS = 10.0
KEYS_SECONDS = 60.0
KEYS_PER_STEP_MAX = 2_000
CLOSE_SECONDS = 30.0

_log = logging.getLogger("tocsin")


class Health:
    """Whether this process can do its work, by the last answer of the database."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered = -1e9
        self.failed = False

    def answered(self) -> None:
        """The database has answered just now."""
        self._answered = self._clock.monotonic()

    def ready(self) -> bool:
        """See `web.services.Health`."""
        return not self.failed and self._clock.monotonic() - self._answered < 4 * PING_SECONDS


class App:
    """The whole service. `async with` starts it, leaving stops it in order.

    Entering raises `ConfigError`, `StoreInUse`, `SchemaMismatch` or OSError, each with a message
    that says what to do. `url` is where it listens.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self.operator_token = ""
        self.made_token = False
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    async def __aenter__(self) -> "App":
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def stop(self) -> None:
        """Let `wait` return."""
        self._stop.set()

    async def wait(self) -> None:
        """Return when the service was told to stop; raise when a part of it has died."""
        await self._stop.wait()
        if self._failure is not None:
            raise self._failure

    def _failed(self, error: BaseException) -> None:
        """A part has ended by itself: the process must, and say so."""
        self.health.failed = True
        if self._failure is None:
            self._failure = error
            _log.critical("a part of the service has failed: %r", error, exc_info=error)
        self._stop.set()

    async def _build(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        self.clock = Clock()
        self.health = Health(self.clock)
        private_folder(settings.data_dir)
        private_folder(settings.sqlite_path.parent)
        journal = stack.enter_context(
            SendJournal(
                settings.sqlite_path.with_name("sending.journal"),
                settings.in_flight_max + UNSETTLED_MAX,
            )
        )
        store = await stack.enter_async_context(
            SqliteStore(
                settings.sqlite_path,
                wall_ms=self.clock.wall_ms,
                storage_ms=self.clock.storage_ms,
                began=journal.began,
                started=self.clock.start_above,
                died=self._failed,
            )
        )
        journal.start()
        sealer = await self._sealer(store)
        self.operator_token, self.made_token = self._operator_token()
        self._wire(stack, store, sealer, journal)
        await self._start(stack, store)

    def _wire(
        self, stack: AsyncExitStack, store: SqliteStore, sealer: Sealer, journal: SendJournal
    ) -> None:
        settings = self.settings
        new_id = _safe_ids(IdMaker(store.node, store.floor_ms), self.clock)
        types = channel_types()
        self.resolver = Resolver()
        self.client = Client(
            self.resolver, Guard(settings.allow_networks, https_only=settings.https_only)
        )
        self.routing = Routing(store)

        async def load(channel_id: ChannelId) -> Channel | None:
            return await store.read(lambda c: channel_for_sending(c, channel_id))

        targets = Targets(load=load, type_of=types.get, sealer=sealer)
        self.engine = Engine(
            store=store,
            targets=targets,
            client=self.client,
            journal=journal,
            clock=self.clock,
            in_flight_max=settings.in_flight_max,
            channel_in_flight_max=settings.channel_in_flight_max,
            changed=self.routing.invalidate,
            failed=self._failed,
        )
        self.publisher = Publisher(
            store=store,
            routing=self.routing,
            dispatch=self.engine,
            clock=self.clock,
            new_id=new_id,
            idempotency_hours=settings.idempotency_hours,
        )

    async def _start(self, stack: AsyncExitStack, store: SqliteStore) -> None:
        raise NotImplementedError

    async def _sealer(self, store: SqliteStore) -> Sealer:
        """The master keys: from the setting, else from a file made at the first start."""
        given = self.settings.master_key
        path = self.settings.data_dir / "master-key"
        sealed_with = await store.read(master_keys.fingerprints)
        text = given.get_secret_value() if given is not None else read_secret(path)
        if text is None and sealed_with:
            raise ConfigError(
                f"TOCSIN_MASTER_KEY: the key is lost. The database holds secrets sealed under "
                f"another key, and neither the setting nor {path} has it: put it back."
            )
        if text is None:
            text, _ = keep_secret(path, new_master_key)
        try:
            sealer = Sealer(parse_master_keys(text))
        except BadMasterKey as error:
            raise ConfigError(f"TOCSIN_MASTER_KEY: {error}") from None
        missing = [one for one in sealed_with if one not in sealer.fingerprints]
        if missing:
            raise ConfigError(
                "TOCSIN_MASTER_KEY: this key does not fit the database, which holds secrets "
                f"sealed under the key with fingerprint {missing[0]}. Give that key, too: "
                "several are separated by commas."
            )
        await store.write(lambda c: master_keys.remember(c, sealer.fingerprints[0]))
        return sealer

    def _operator_token(self) -> tuple[str, bool]:
        given: SecretStr | None = self.settings.operator_token
        if given is not None:
            return given.get_secret_value().split(",")[0].strip(), False
        return keep_secret(self.settings.data_dir / "operator-token", new_operator_token)


def _safe_ids(maker: IdMaker, clock: Clock) -> Callable[[], str]:
    """Ids for all threads: publishing makes them on the loop, control changes in the writer."""
    lock = threading.Lock()

    def new_id() -> str:
        with lock:
            return maker.make(clock.wall_ms())

    return new_id

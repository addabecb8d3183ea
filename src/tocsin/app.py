"""The one place where parts are built and wired; owns the order of start and stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType

import uvloop

from tocsin import __version__
from tocsin.channels import MailTransport, Transports, equipped
from tocsin.chores import chores
from tocsin.clock import Clock
from tocsin.config import (
    ConfigError,
    Settings,
    check_for_nodes,
    mail_settings,
    master_keys,
    operator_tokens,
    proxy_url,
)
from tocsin.crypto.keyring import keep_secret, private_folder, read_secret
from tocsin.crypto.passwords import Passwords
from tocsin.crypto.sealing import BadMasterKey, Sealer, new_master_key, parse_master_keys
from tocsin.crypto.tokens import new_operator_token
from tocsin.domain.errors import Unavailable
from tocsin.domain.ids import SharedIdMaker
from tocsin.domain.model import Channel, ChannelId
from tocsin.engine.engine import UNSETTLED_MAX, Engine
from tocsin.engine.journal import SendJournal
from tocsin.engine.targets import Targets
from tocsin.engine.watchdog import Watchdog
from tocsin.net.client import Client
from tocsin.net.guard import Guard
from tocsin.net.proxy import Proxy, ProxyInvalid, parse_proxy
from tocsin.net.resolver import Resolver
from tocsin.service.alerts import AlertRules
from tocsin.service.backup import Backups
from tocsin.service.changes import Changes
from tocsin.service.channels import Channels
from tocsin.service.credentials import Credentials
from tocsin.service.directory import Directory
from tocsin.service.duties import Duties
from tocsin.service.evaluating import Evaluator
from tocsin.service.exhausted import Exhausted
from tocsin.service.failing import Failing
from tocsin.service.guesses import Guesses
from tocsin.service.health import Health
from tocsin.service.intake import Intake
from tocsin.service.issues import Issues
from tocsin.service.jobs import JobRunner
from tocsin.service.keys import Keys
from tocsin.service.links import Links
from tocsin.service.log import Log
from tocsin.service.master_key import MasterKey
from tocsin.service.members import Members
from tocsin.service.outbox import Outbox
from tocsin.service.people import People
from tocsin.service.publish import Publisher
from tocsin.service.retention import Retention
from tocsin.service.routing import Routing
from tocsin.service.serving import Serving
from tocsin.service.sessions import Sessions
from tocsin.service.slack import SlackSetup
from tocsin.service.statistics import Statistics
from tocsin.service.testing import Tester
from tocsin.service.vault import Vault
from tocsin.service.vetting import Vetting
from tocsin.storage import Signals, Store, copying, open_store
from tocsin.storage.control import master_keys as key_rows
from tocsin.storage.control.sending import channel_for_sending
from tocsin.telemetry.exposition import Metrics
from tocsin.telemetry.traces import NoTraces, Traces
from tocsin.web import metrics
from tocsin.web.asgi import build
from tocsin.web.bare import engine_site, metrics_site
from tocsin.web.server import Application, HttpServer

CLOSE_SECONDS = 30.0
STOP_SECONDS = 90.0

SWITCH_SECONDS = 0.0005
"""How long the writer thread waits for the interpreter beside a busy event loop."""

_log = logging.getLogger("tocsin")


class App:
    """The whole service. `async with` starts it, leaving stops it in order.

    Entering raises `ConfigError`, `StoreInUse`, `StoreRefused`, `SchemaMismatch` or OSError, each
    with a message that says what to do. `url` is where it listens. `first_link` is, while there are
    no users, a one-time link by which the first one signs in.
    """

    def __init__(self, settings: Settings, *, passwords: Passwords | None = None) -> None:
        self.settings = settings
        self.url = ""
        self.operator_token = ""
        self.made_token = False
        self.metrics = Metrics()
        self.first_link: str | None = None
        self.passwords = passwords or Passwords()
        self.intake = Intake(settings.waiting_deliveries_per_organization_max)
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

    def failed(self, error: BaseException) -> None:
        """A part has ended by itself: the process must, and say so."""
        self.health.failed = True
        if self._failure is None:
            self._failure = error
            _log.critical("a part of the service has failed: %r", error, exc_info=error)
        self._stop.set()

    async def _build(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        check_for_nodes(settings)
        self.clock = Clock()
        self.health = Health(self.clock)
        signals = Signals(died=self.failed)
        private_folder(settings.data_dir)
        private_folder(settings.sqlite_path.parent)
        journal = stack.enter_context(
            SendJournal(
                settings.sqlite_path.with_name("sending.journal"),
                settings.in_flight_max + UNSETTLED_MAX,
            )
        )
        store = await stack.enter_async_context(
            open_store(settings, self.clock, signals, began=journal.began)
        )
        journal.start()
        sealer = await self._sealer(store)
        self._wire(store, sealer, journal)
        signals.lost, signals.woken = self.engine.lease_lost, self.engine.woken
        await self._start(stack, store, sealer)

    def _wire(self, store: Store, sealer: Sealer, journal: SendJournal) -> None:
        settings, clock = self.settings, self.clock
        ids = SharedIdMaker(store.node, store.floor_ms)
        guard = Guard(settings.allow_networks, https_only=settings.https_only)
        self.resolver = Resolver()
        types = equipped(Transports(mail=self._mailer()))
        self.client = Client(
            self.resolver, guard, proxy=self._proxy(), idle_max=settings.in_flight_max
        )
        self.routing = Routing(store)
        changes = Changes(
            store=store,
            clock=clock,
            new_id=lambda: ids.make(clock.wall_ms()),
            routing=self.routing,
        )
        self.changes = changes
        self.runner = JobRunner(changes, wake=lambda due_ms: self.engine.wake(due_ms))
        self.failing = Failing(changes, hours=settings.disable_after_hours)
        self.credentials = Credentials(
            store=store, clock=clock, operator_tokens=self._operator_tokens()
        )

        async def load(channel_id: ChannelId) -> Channel | None:
            return await store.read(lambda c: channel_for_sending(c, channel_id))

        self.engine = Engine(
            store=store,
            targets=Targets(load=load, type_of=types.get, sealer=sealer),
            client=self.client,
            journal=journal,
            clock=clock,
            in_flight_max=settings.in_flight_max,
            channel_in_flight_max=settings.channel_in_flight_max,
            changed=self.routing.invalidate,
            failed=self.failed,
            noted=lambda: self.outbox.soon(),
            claims=settings.delivers,
        )
        self.publisher = Publisher(
            store=store,
            routing=self.routing,
            dispatch=self.engine,
            clock=clock,
            ids=ids,
            idempotency_hours=settings.idempotency_hours,
            intake=self.intake,
        )
        self.directory = Directory(changes=changes, runner=self.runner)
        self.keys = Keys(changes=changes, directory=self.directory)
        self.log = Log(changes=changes, directory=self.directory, dispatch=self.engine, plane=store)
        self.tester = Tester(changes=changes, dispatch=self.engine, plane=store)
        self.channels = Channels(
            changes=changes,
            directory=self.directory,
            vault=Vault(sealer, types),
            vet=Vetting(guard, self.resolver),
            dispatch=self.engine,
            tester=self.tester,
            channels_max=settings.channels_per_organization_max,
        )
        self.slack = self._slack_setup()
        self._wire_people(changes)
        self.routing.on_invalidate += [
            self.engine.forget,
            self.credentials.forget,
            self.sessions.forget,
            self.directory.forget,
        ]
        self._wire_watching(changes, store)

    def _slack_setup(self) -> SlackSetup:
        settings = self.settings
        secret = settings.slack_client_secret
        return SlackSetup(
            channels=self.channels,
            sender=self.client,
            client_id=settings.slack_client_id,
            client_secret=secret.get_secret_value() if secret else "",
            api_url=settings.slack_api_url,
            wall_ms=self.clock.wall_ms,
        )

    def _wire_watching(self, changes: Changes, store: Store) -> None:
        """What watches deliveries and tells of them, and all that is done again and again."""
        settings = self.settings
        self.outbox = Outbox(store, self.publisher)
        self.statistics = Statistics(changes=changes, directory=self.directory)
        self.exhausted = Exhausted(store, self.publisher)
        self.issues = Issues(changes=changes, directory=self.directory)
        self.alert_rules = AlertRules(
            changes=changes,
            directory=self.directory,
            rules_max=settings.alert_rules_per_organization_max,
        )
        self.evaluator = Evaluator(store, self.clock)
        self.serving = Serving(
            store,
            self.clock,
            ready=self.health.ready,
            refused=lambda: self.publisher.counts.refused,
        )
        self.duties = Duties(store, self.clock)
        self.retention = Retention(
            store,
            self.clock,
            days=settings.retention_days,
            waiting_hours=settings.delivery_hours_max,
            published=lambda: self.publisher.counts.accepted,
            wake=self.engine.wake,
        )
        self.engine.take_on(chores(self, store))

    def _wire_people(self, changes: Changes) -> None:
        self.sessions = Sessions(changes=changes)
        self.guesses = Guesses(
            changes=changes,
            account_failures_max=self.settings.sign_in_failures_max,
            address_failures_max=self.settings.sign_in_failures_per_address_max,
        )
        self.links = Links(
            changes=changes,
            sessions=self.sessions,
            passwords=self.passwords,
            guesses=self.guesses,
        )
        self.members = Members(changes=changes, links=self.links)
        self.people = People(
            changes=changes,
            directory=self.directory,
            sessions=self.sessions,
            links=self.links,
            passwords=self.passwords,
            guesses=self.guesses,
        )

    async def _start(self, stack: AsyncExitStack, store: Store, sealer: Sealer) -> None:
        settings = self.settings
        if settings.traces:
            traces = self._traces()
            stack.push_async_callback(asyncio.to_thread, traces.close)
        await stack.enter_async_context(self.passwords)
        stack.push_async_callback(self._flush_uses)
        stack.push_async_callback(self.changes.close)
        self.backups = Backups(
            changes=self.changes,
            copy=copying(store),
            database=settings.sqlite_path,
            reserve_mb=settings.disk_reserve_mb,
        )
        stack.push_async_callback(self.backups.close)
        self.master_key = MasterKey(changes=self.changes, sealer=sealer)
        stack.push_async_callback(self.master_key.close)
        await stack.enter_async_context(self.resolver)
        await stack.enter_async_context(self.client)
        stack.push_async_callback(self.duties.give_up)
        await stack.enter_async_context(self.engine)
        stack.push_async_callback(self.publisher.close)
        stack.push_async_callback(self.tester.close)
        await store.ping()
        self.health.answered()
        site: Application = engine_site(self)
        if settings.serves:
            front = build(self, settings, cursor_key=sealer.derive("cursors"))
            self.metrics.sources.append(front.counts.samples)
            site = front
        server = await self._serve(stack, HttpServer(site, settings))
        self.metrics.slow_sources.append(store.samples)
        self.metrics.sources += [
            lambda: metrics.samples(self.health, settings),
            self.publisher.samples,
            self.engine.samples,
            self.runner.ended.samples,
            self.retention.samples,
            self.failing.disabled.samples,
            self.resolver.lookups.samples,
            server.bounds.samples,
        ]
        if settings.metrics_port:
            open_one = metrics_site(self.metrics)
            await self._serve(stack, HttpServer(open_one, settings, port=settings.metrics_port))
        host, port = server.address
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        token = await self.links.first() if settings.serves else None
        if token is not None:
            self.first_link = f"{settings.public_url or self.url}/link/{token}"

    async def _serve(self, stack: AsyncExitStack, server: HttpServer) -> HttpServer:
        await stack.enter_async_context(server)
        watch = asyncio.get_running_loop().create_task(self._watch(server))
        stack.callback(watch.cancel)
        return server

    async def _watch(self, server: HttpServer) -> None:
        try:
            await server.finished()
        except Exception as error:
            self.failed(error)
        else:
            self.failed(RuntimeError("the HTTP server has ended"))

    async def _flush_uses(self) -> None:
        try:
            await self.credentials.flush(at_once=True)
            await self.guesses.flush()
        except Unavailable:
            _log.warning("the last uses of keys and failed sign-ins could not be noted")

    async def _sealer(self, store: Store) -> Sealer:
        """The master keys: from the setting, else from a file made at the first start."""
        path = self.settings.data_dir / "master-key"
        sealed_with = await store.read(key_rows.fingerprints)
        text = master_keys(self.settings) or read_secret(path)
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
        await store.write(lambda c: key_rows.remember(c, sealer.fingerprints[0]))
        return sealer

    def _mailer(self) -> MailTransport | None:
        """The way to the mail server, where there is one; else nothing of mail is loaded."""
        found = mail_settings(self.settings)
        if found is None:
            return None
        from tocsin.net.smtp import Mailer

        server, sender = found
        return Mailer(server, sender, self.resolver, wall_ms=self.clock.wall_ms)

    def _traces(self) -> Traces:
        """Spans of what is published and attempted from now on."""
        try:
            traces = Traces(__version__)
        except NoTraces as error:
            raise ConfigError(
                f"TOCSIN_TRACES: {error}. Install what it needs: pip install 'tocsin[traces]'."
            ) from None
        self.publisher.traces = self.engine.dispatcher.traces = traces
        return traces

    def _proxy(self) -> Proxy | None:
        """The proxy for deliveries, if there is one."""
        url = proxy_url(self.settings)
        try:
            return None if url is None else parse_proxy(url)
        except ProxyInvalid as error:
            raise ConfigError(f"TOCSIN_PROXY: {error}") from None

    def _operator_tokens(self) -> tuple[str, ...]:
        """The operator tokens: from the setting, else from a file made at the first start."""
        given = operator_tokens(self.settings)
        if not given:
            path = self.settings.data_dir / "operator-token"
            token, self.made_token = keep_secret(path, new_operator_token)
            given = (token,)
        self.operator_token = given[0]
        return given


def serve(settings: Settings, announce: Callable[[App], None]) -> int:
    """Run the service until SIGTERM or SIGINT; returns the exit code.

    0 after an orderly stop, 1 when a part has died. What keeps the service from starting is
    raised, as `App` says.
    """
    gc.set_threshold(50_000, 20, 50)  # events make few cycles
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, announce))


async def _serve(settings: Settings, announce: Callable[[App], None]) -> int:
    app = App(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, app.stop)
    with Watchdog(loop):
        async with app:
            gc.freeze()  # what is there from the start on stays out of every collection
            announce(app)
            try:
                await app.wait()
            except Exception:
                # Closing may hang on what has died; the process ends all the same.
                _end_anyway(CLOSE_SECONDS)
                return 1
            _end_anyway(STOP_SECONDS)
    return 0


def _end_anyway(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()

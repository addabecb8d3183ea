"""The play itself: what happens when, and whether everything arrived."""

import asyncio
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from tocsin.cli.demo.child import Service
from tocsin.cli.demo.show import Show
from tocsin.cli.demo.world import Made, World, make_world
from tocsin.cli.receiver import Answers, Arrival, Receiver, Secrets

ARRIVE_SECONDS = 60.0
SETTLE_SECONDS = 30.0
POLL_SECONDS = 0.05
FAILS_FIRST = "/native"
STOPPED_EARLY = 130

EVENTS = (
    ("build.created", {"number": 42, "branch": "main"}, ("/applivery", "/hookstream", "/native")),
    ("build.processed", {"number": 42, "megabytes": 61}, ("/applivery", "/hookstream", "/native")),
    ("feedback.created", {"text": "Love the new icon!"}, ("/hookstream",)),
)
"""Type, data, and the paths of the channels that should hear it."""


def play(*, once: bool) -> int:
    """Run the demo; 0 when every delivery arrived and verified."""
    with tempfile.TemporaryDirectory(prefix="tocsin-demo-") as folder:
        return asyncio.run(Play(Path(folder), once=once).run())


class Play:
    """One performance."""

    def __init__(self, folder: Path, *, once: bool) -> None:
        self._folder = folder
        self._once = once
        self._show = Show()
        self._stop = asyncio.Event()
        self._news = asyncio.Event()
        self._secrets: dict[str, Secrets] = {}
        self._answers: dict[str, Answers] = {}
        self._types: dict[str, str] = {}
        self._arrivals: list[Arrival] = []
        self._quiet = True
        self._held: list[Arrival] = []
        self._code = STOPPED_EARLY

    async def run(self) -> int:
        """Everything from start to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._show.title()
        receiver = Receiver(self._arrived, self._secrets_of, self._answers_of)
        service = Service(self._folder)
        async with receiver:
            self._show.step(1, "Start the service", "as `tocsin serve` does, on a free port")
            began = time.monotonic()
            async with service:
                self._show.fact("service", f"{service.url}  ({_since(began)})")
                self._show.fact("receiver", f"{receiver.url}  (stands for your customers' servers)")
                acts = asyncio.create_task(self._acts(service, receiver))
                return await self._until_stopped(acts, service)

    async def _until_stopped(self, acts: "asyncio.Task[None]", service: Service) -> int:
        """The exit code; the acts' end comes early by a signal, or by the service's own death."""
        stopped = asyncio.create_task(self._stop.wait())
        died = asyncio.create_task(service.ended())
        try:
            await asyncio.wait({acts, stopped, died}, return_when=asyncio.FIRST_COMPLETED)
            if died.done():
                died.result()
            if acts.done():
                acts.result()
            return self._code
        finally:
            for task in (acts, stopped, died):
                task.cancel()
            await asyncio.gather(acts, stopped, died, return_exceptions=True)

    async def _acts(self, service: Service, receiver: Receiver) -> None:
        world = await self._make(service, receiver)
        wanted = await self._publish(world)
        arrived = await self._watch(wanted)
        delivered = arrived and await self._all_delivered(world, len(wanted))
        good = self._judge(wanted, arrived=arrived, delivered=delivered)
        self._code = 0 if good else 1
        if not self._once:
            self._show.try_it(world, receiver.url)
            await self._stop.wait()

    async def _make(self, service: Service, receiver: Receiver) -> World:
        self._show.step(
            2,
            "Make an organization, a project, a key, and a channel by each API",
            "three dialects, one engine: use the client you already have",
        )
        world = await asyncio.to_thread(
            make_world, service.url, service.token, receiver.url, self._show.channel
        )
        for made in world.channels:
            self._know(made)
        self._answers[FAILS_FIRST] = Answers(fail_first=1)
        return world

    def _know(self, made: Made) -> None:
        self._secrets[made.path] = made.secrets

    async def _publish(self, world: World) -> set[tuple[str, str]]:
        """Publish; the (path, event id) of every delivery to be seen."""
        self._show.step(3, "Publish events", "202 means stored: from here on nothing gets lost")
        wanted = set()
        for type, data, paths in EVENTS:
            accepted = await asyncio.to_thread(world.publish, type, data)
            self._types[accepted["id"]] = type
            self._show.published(type, accepted["deliveries"])
            wanted |= {(path, accepted["id"]) for path in paths}
        return wanted

    async def _watch(self, wanted: set[tuple[str, str]]) -> bool:
        """Show what arrives until everything wanted did, verified; false when time is up."""
        self._show.step(
            4,
            "Watch them arrive",
            f"each signature is checked; {FAILS_FIRST} answers 500 once, to force a retry",
        )
        self._quiet = False
        for arrival in self._held:
            self._tell(arrival)
        with suppress(TimeoutError):
            async with asyncio.timeout(ARRIVE_SECONDS):
                while not wanted <= self._verified():
                    self._news.clear()
                    await self._news.wait()
        return wanted <= self._verified()

    async def _all_delivered(self, world: World, count: int) -> bool:
        """Whether the service's own log comes to say the same."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while True:
                    log = await asyncio.to_thread(world.deliveries)
                    if [one["status"] for one in log] == ["delivered"] * count:
                        return True
                    await asyncio.sleep(POLL_SECONDS)
        return False

    def _judge(self, wanted: set[tuple[str, str]], *, arrived: bool, delivered: bool) -> bool:
        retried = sum(arrival.status >= 300 for arrival in self._arrivals)
        wrong = sum(arrival.verified is not True for arrival in self._arrivals)
        good = arrived and delivered and retried == 1 and not wrong
        if good:
            text = f"{len(wanted)} deliveries arrived and verified, one of them on its retry"
        elif wrong:
            text = f"{wrong} arrived with a signature that does not verify"
        elif not arrived:
            text = f"not everything arrived within {ARRIVE_SECONDS:.0f} s"
        elif not delivered:
            text = "everything arrived, but the service's log does not say so"
        else:
            text = "everything arrived, but not with exactly one retry"
        self._show.verdict(good=good, text=text)
        for path, id in sorted(wanted - self._verified()):
            self._show.missing(path, self._types[id])
        return good

    def _verified(self) -> set[tuple[str, str]]:
        return {
            (arrival.path, arrival.headers.get("webhook-id", ""))
            for arrival in self._arrivals
            if arrival.verified and arrival.status < 300
        }

    def _secrets_of(self, path: str) -> Secrets:
        return self._secrets.get(path, Secrets())

    def _answers_of(self, path: str) -> Answers:
        return self._answers.setdefault(path, Answers())

    def _arrived(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        if self._quiet:
            # Deliveries are faster than the publisher's next line; they are shown in their step.
            self._held.append(arrival)
        else:
            self._tell(arrival)
        self._news.set()

    def _tell(self, arrival: Arrival) -> None:
        id = arrival.headers.get("webhook-id", "")
        self._show.arrival(arrival, self._types.get(id) or _type_in(arrival.body))


def _type_in(body: bytes) -> str:
    """What a body of any dialect calls its event."""
    try:
        members = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        return "–"
    for name in ("type", "action", "event"):
        if isinstance(word := members.get(name), str):
            return word
    return "–"


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"

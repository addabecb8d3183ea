"""Nodes on one PostgreSQL, publishers that don't give up, and what must hold after faults."""

import asyncio
import http.client
import itertools
import json
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import standardwebhooks
from msgspec import Struct
from tests.blackbox.load import Wire, event, request
from tests.blackbox.receiver import Receipt, Receiver, always, reply
from tests.blackbox.server import SERVE, Server, Tenant, node_settings, until
from tests.postgres import PostgresServer

CHAOS_SECONDS = float(os.environ.get("TOCSIN_CHAOS_SECONDS") or 0)
"""How long the nodes are killed; unless it is set everything takes its short form."""

NODES = 3
CONNECTIONS = 12
PAUSE_SECONDS = 0.03
ANSWER_SECONDS_MAX = 5.0
AVOIDED_SECONDS = 2.0
FAST, SLOW = "/fast", "/slow"
SLOW_REPLY_SECONDS = 0.2
HEALED_SECONDS_MAX = 240.0
DONE_SECONDS_MAX = 240.0
# How long before a fault something may have been sent that was not recorded when it came (disks
# stand still for seconds), and how long after it the receiver may read what lay in a socket.
DOUBT_SECONDS = 8.0
# A timestamp has whole seconds; what it lets through is written in the same turn of the loop.
SIGNED_SECONDS = 2.0
# What receivers allow by Standard Webhooks.
SIGNED_AGO_SECONDS_MAX = 300.0
# A node's milliseconds, the receiver's clock and its turns.
CLOCKS_SECONDS = 0.25


class Fault(Struct, frozen=True):
    """What was done to one node or all, and when (monotonic). `killed`: its memory is gone."""

    began: float
    ended: float
    killed: bool = False


class Accepted(Struct, frozen=True):
    """An event that had its 202: from when it was asked for, when that came, and which node's."""

    event_id: str
    asked_at: float
    at: float
    node: int


class Cluster:
    """Nodes on one database. A context manager: all of them are up inside, and none after."""

    def __init__(
        self,
        folder: Path,
        dsn: str,
        *,
        commands: Sequence[Sequence[str]] = (SERVE,) * NODES,
        settings: Sequence[Mapping[str, str]] = ({},) * NODES,
    ) -> None:
        self.nodes: list[Server] = []
        folder.mkdir(exist_ok=True)
        for number, (command, own) in enumerate(zip(commands, settings, strict=True)):
            limits = {"requests_per_minute": 0, "stranger_requests_per_minute": 0}
            made = Server(folder / f"node-{number}", limits, command=command)
            made.settings |= {**node_settings(dsn), **own}
            self.nodes.append(made)

    def __enter__(self) -> "Cluster":
        try:
            # The first one says who made the tables: the others find them.
            self.nodes[0].start()
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda node: node.start(), self.nodes[1:]))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave no process behind."""
        for node in self.nodes:
            node.close()

    def stop(self) -> None:
        """Ask all of them to end in good order."""
        for node in self.nodes:
            assert node.stop() == 0, node.said()

    def ready(self) -> list[bool]:
        """Which nodes say that they are ready."""
        return [ready(node) for node in self.nodes]

    def healed(self, tenant: Tenant, receiver: Receiver) -> None:
        """All are ready, and what each of them accepts arrives."""
        until(lambda: all(self.ready()), "all nodes are ready", HEALED_SECONDS_MAX)
        for node in self.nodes:
            wanted = tenant.at(node).publish("load.event", {"number": -1})["id"]
            receiver.wait_for(
                lambda found, wanted=wanted: any(one.event_id == wanted for one in found),  # type: ignore[misc]
                FAST,
                seconds=HEALED_SECONDS_MAX,
            )


def ready(node: Server) -> bool:
    """Whether this node says that it is."""
    with suppress(OSError):
        return node.call("GET", "/readyz", token=None).status == 200
    return False


def channels(tenant: Tenant, receiver: Receiver, **fields: Any) -> dict[str, str]:
    """A fast and a slow channel for everything that is published; their secrets by path."""
    slow = always(reply(after_seconds=SLOW_REPLY_SECONDS))
    urls = {FAST: receiver.url(FAST), SLOW: receiver.url(SLOW, slow)}
    return {path: tenant.channel(url, **fields)["secret"] for path, url in urls.items()}


class Publishers:
    """Publish to all nodes in turn until told to end, each event until it has its 202.

    A publish without an answer is done again at the next node, under the same idempotency key. A
    node that does not answer is left alone for a moment, as a balancer would. A context manager;
    what goes wrong is raised by `end`, which leaving calls.
    """

    def __init__(
        self,
        cluster: Cluster,
        tenant: Tenant,
        *,
        connections: int = CONNECTIONS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._nodes = cluster.nodes
        self._tenant = tenant
        self._connections = connections
        self._pause_seconds = pause_seconds
        self._numbers = itertools.count()
        self._avoided = [0.0] * len(self._nodes)
        self._ending = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publishers")
        self._error: BaseException | None = None
        self.accepted: dict[int, Accepted] = {}
        self.again: Counter[str] = Counter()

    def __enter__(self) -> "Publishers":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._given_up.set()
        self.end()

    def end(self) -> None:
        """Let every publish under way come to its end; no more follow."""
        self._ending.set()
        self._thread.join(DONE_SECONDS_MAX + ANSWER_SECONDS_MAX)
        assert not self._thread.is_alive(), "publishers do not end"
        if self._error is not None:
            raise self._error

    def reached(self, accepted: int, seconds: float = DONE_SECONDS_MAX) -> None:
        """Wait until so many events are accepted."""
        until(lambda: self._failed() or len(self.accepted) >= accepted, "202s", seconds)

    def burst(self, node: int, count: int) -> set[str]:
        """Publish a batch to a node, now; the ids of its events."""
        numbers = [next(self._numbers) for _ in range(count)]
        there = self._tenant.at(self._nodes[node])
        asked_at = time.monotonic()
        results = there.publish_batch([event(number) for number in numbers])
        at = time.monotonic()
        for number, result in zip(numbers, results, strict=True):
            self.accepted[number] = Accepted(result["id"], asked_at, at, node)
        return {result["id"] for result in results}

    def _failed(self) -> bool:
        if self._error is not None:
            raise self._error
        return False

    def _run(self) -> None:
        try:
            asyncio.run(self._publish())
        except BaseException as error:
            self._error = error

    async def _publish(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._publisher())

    async def _publisher(self) -> None:
        wires: dict[int, Wire] = {}
        while not self._ending.is_set():
            number = next(self._numbers)
            body = json.dumps(event(number) | {"idempotency_key": str(number)}).encode()
            asked_at = time.monotonic()
            for node in itertools.cycle(self._in_turn(number)):
                if time.monotonic() < self._avoided[node]:
                    await asyncio.sleep(0.001)
                    continue
                found = await self._asked(wires, node, request(self._tenant, body))
                if found is not None:
                    at = time.monotonic()
                    self.accepted[number] = Accepted(found["id"], asked_at, at, node)
                    break
                if self._given_up.is_set():
                    break
                if time.monotonic() > asked_at + DONE_SECONDS_MAX:
                    raise AssertionError(f"no node accepts event {number}: {self.again}")
            await asyncio.sleep(self._pause_seconds)
        for wire in wires.values():
            wire.close()

    def _in_turn(self, number: int) -> list[int]:
        count = len(self._nodes)
        return [(number + at) % count for at in range(count)]

    async def _asked(self, wires: dict[int, Wire], node: int, asked: bytes) -> Any:
        """The 202's body, or None where another try is needed."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                wire = wires.get(node)
                if wire is None:
                    server = self._nodes[node]
                    wire = wires[node] = await Wire.open(server.port, server.host)
                status, body = await wire.ask(asked)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.again[type(error).__name__] += 1
            lost = wires.pop(node, None)
            if lost is not None:
                lost.close()
            if not isinstance(error, asyncio.IncompleteReadError | ConnectionResetError):
                self._avoided[node] = time.monotonic() + AVOIDED_SECONDS
            return None
        if status == 202:
            return json.loads(body)
        assert status == 503, (status, body)
        self.again["503"] += 1
        self._avoided[node] = time.monotonic() + AVOIDED_SECONDS / 10
        return None


class InOrder(threading.Thread):
    """Publishes one event after the other, each when the one before has its 202, to all nodes in
    turn; up to `count` of them, or until told to end."""

    TYPE = "in.order"

    def __init__(self, cluster: Cluster, tenant: Tenant, count: int | None = None) -> None:
        super().__init__(name="in order")
        self._tenants = [tenant.at(node) for node in cluster.nodes]
        self._numbers = itertools.count() if count is None else range(count)
        self._ends = threading.Event()
        self.accepted: list[Accepted] = []

    def run(self) -> None:
        for number in self._numbers:
            at, asked_at = number % len(self._tenants), time.monotonic()
            while (event_id := self._published(number, self._tenants[at])) is None:
                at = (at + 1) % len(self._tenants)
                if self._ends.wait(0.02):
                    return
            self.accepted.append(Accepted(event_id, asked_at, time.monotonic(), at))
            if self._ends.is_set():
                return

    def end(self) -> None:
        """Give up what is not published yet."""
        self._ends.set()
        self.join(DONE_SECONDS_MAX)
        assert not self.is_alive(), "it does not end"

    def _published(self, number: int, tenant: Tenant) -> str | None:
        body = {
            "type": self.TYPE,
            "data": {"number": number},
            "idempotency_key": f"in order {number}",
        }
        # Before it was killed it may have accepted the event: the key tells, at the other, too.
        with suppress(OSError, http.client.HTTPException):
            reply = tenant.call("POST", "/events", body)
            assert reply.status in (202, 503), reply
            return str(reply.json()["id"]) if reply.status == 202 else None
        return None


class Sent(Struct):
    """What is known of one delivery: what came of it, and the attempts in the log."""

    receipts: list[Receipt]
    attempts: list[Any]


class Verdict(Struct, frozen=True):
    """For people: how much there was to see."""

    accepted: int
    receipts: int
    twice: int
    superseded: int

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted, {self.receipts} receipts, {self.twice} more than once, "
            f"{self.superseded} attempts superseded"
        )


def check(
    database: PostgresServer,
    name: str,
    publishers: Publishers,
    tenant: Tenant,
    receiver: Receiver,
    secrets: Mapping[str, str],
    faults: Sequence[Fault],
) -> Verdict:
    """Nothing acknowledged is lost, and nothing came twice but for the faults."""
    organization = tenant.organization

    def done() -> bool:
        rows = database.command(
            "SELECT status, count(*) AS n FROM deliveries"
            f" WHERE organization_id = '{organization}' GROUP BY status",
            name,
        )
        found = {row["status"]: row["n"] for row in rows}
        assert found.keys() <= {"waiting", "delivered"}, found
        return "waiting" not in found

    until(done, "everything is delivered and recorded", DONE_SECONDS_MAX)
    seen = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert database.command(seen, name)[0]["deadlocks"] == 0
    receipts = {path: receiver.at(path) for path in secrets}
    _check_nothing_lost(publishers.accepted, receipts, secrets)
    attempts = database.command(
        "SELECT delivery_id, started_at, duration_ms, outcome, superseded FROM attempts"
        f" WHERE organization_id = '{organization}' ORDER BY delivery_id, started_at",
        name,
    )
    deliveries: dict[str, Sent] = defaultdict(lambda: Sent([], []))
    for one in itertools.chain.from_iterable(receipts.values()):
        deliveries[one.delivery_id].receipts.append(one)
    for row in attempts:
        deliveries[row["delivery_id"]].attempts.append(row)
    to_monotonic = time.monotonic() - time.time()
    for delivery_id, sent in deliveries.items():
        try:
            _check_sent(sent, faults, to_monotonic)
        except AssertionError as error:
            raise AssertionError(f"{delivery_id}: {error}\n{_story(sent, to_monotonic)}") from None
    return Verdict(
        accepted=len(publishers.accepted),
        receipts=sum(map(len, receipts.values())),
        twice=sum(len(sent.receipts) > 1 for sent in deliveries.values()),
        superseded=sum(row["superseded"] for row in attempts),
    )


def _check_nothing_lost(
    accepted: Mapping[int, Accepted],
    receipts: Mapping[str, Iterable[Receipt]],
    secrets: Mapping[str, str],
) -> None:
    due = {one.event_id for one in accepted.values()}
    assert len(due) == len(accepted), "two keys, one event"
    events: dict[int, set[str]] = defaultdict(set)
    for path, found in receipts.items():
        verifier = standardwebhooks.Webhook(secrets[path])
        came = set()
        for one in found:
            _check_signature(verifier, one)
            number = one.json()["data"]["number"]
            if number >= 0:
                events[number].add(one.event_id)
            came.add(one.event_id)
        assert due <= came, f"{len(due - came)} acknowledged events never came to {path}"
    assert all(len(ids) == 1 for ids in events.values()), "one key, two events"


def _check_signature(verifier: standardwebhooks.Webhook, receipt: Receipt) -> None:
    """As of when it came: `verify` would call what is five minutes old by now too old."""
    named = [receipt.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")]
    event_id, timestamp, signatures = named
    came = receipt.at + time.time() - time.monotonic()
    assert abs(came - int(timestamp)) < SIGNED_AGO_SECONDS_MAX, "signed long ago"
    signed_at = datetime.fromtimestamp(int(timestamp), UTC)
    assert verifier.sign(event_id, signed_at, receipt.body.decode()) in signatures.split()


def _check_sent(sent: Sent, faults: Sequence[Fault], to_monotonic: float) -> None:
    """One delivery: what the log knows of, and what a fault has to explain."""
    finished = [
        row["started_at"] / 1000 + row["duration_ms"] / 1000 + to_monotonic
        for row in sent.attempts
        if row["outcome"] == "delivered" and not row["superseded"]
    ]
    assert len(finished) <= 1, "delivered twice, by the log"
    for at in finished:
        late = [
            one
            for one in sent.receipts
            if one.at > at + CLOCKS_SECONDS and not _signed_before(one, faults, to_monotonic)
        ]
        assert not late, "sent again after its success was recorded"
    # A process that died takes along what it had sent and not recorded.
    lost = len(sent.receipts) - len(sent.attempts)
    if lost > 0:
        kills = [fault for fault in faults if fault.killed]
        excused = sum(any(_just_before(one.at, kill) for kill in kills) for one in sent.receipts)
        assert excused >= lost, "sent, and missing in the log without a kill"
    for row in sent.attempts:
        if row["superseded"]:
            at = row["started_at"] / 1000 + to_monotonic
            assert any(_just_before(at, fault) for fault in faults), "superseded without a fault"


def _signed_before(receipt: Receipt, faults: Sequence[Fault], to_monotonic: float) -> bool:
    """Whether it had passed the send gate when its process was stopped, and only its bytes had not.

    The gate stamps what it lets through. Nothing can bind it to the system call that follows.
    """
    signed_at = int(receipt.headers["webhook-timestamp"]) + to_monotonic
    return any(abs(signed_at - fault.began) < SIGNED_SECONDS for fault in faults)


def _just_before(at: float, fault: Fault) -> bool:
    return abs(at - fault.began) < DOUBT_SECONDS


def _story(sent: Sent, to_monotonic: float) -> str:
    lines = [(one.at, f"received as attempt {one.attempt}") for one in sent.receipts]
    for row in sent.attempts:
        late = ", superseded" if row["superseded"] else ""
        started = row["started_at"] / 1000 + to_monotonic
        lines.append((started, f"attempt of {row['duration_ms']} ms: {row['outcome']}{late}"))
    return "\n".join(f"  {at:.3f} {text}" for at, text in sorted(lines))

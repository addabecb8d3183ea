"""A stranger's flood ends in refusals, costs little memory, and harms nobody else.

One real service; a tenant publishes steadily while somebody without a credential does their worst.
"""

import asyncio
import gzip
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.blackbox.receiver import Receiver
from tests.blackbox.server import Server, Tenant
from tests.blackbox.stalls import Stalls

pytestmark = [pytest.mark.long, pytest.mark.alone]

# The service ends them after 10; the slow ones would go on for 60.
ENDS_SECONDS_MAX = 30.0
RSS_MIB_MAX = 30.0
# Beyond twice as long as the machine has stood still by itself.
P99_SECONDS_MAX = 1.0
PUBLISHES_PER_SECOND = 50
WARM_SECONDS = 3.0
MIB = 1_048_576

Flood = Callable[[Server, Tenant], Coroutine[Any, Any, list[int | None]]]
"""Returns how each connection ended: with a status, or None where it was closed without one."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # The limit of requests per stranger is on, as it is by default.
    server = Server(tmp_path_factory.mktemp("flood") / "data", {"requests_per_minute": 0})
    try:
        yield server.start()
        assert server.stop() == 0, server.said()
    finally:
        server.close()


@pytest.fixture(scope="module")
def tenant(service: Server) -> Tenant:
    return service.tenant("unharmed")


@pytest.fixture
def receiver(tenant: Tenant) -> Iterator[Receiver]:
    with Receiver() as found:
        channel = tenant.channel(found.url())["id"]
        yield found
        tenant.call("DELETE", f"/channels/{channel}")


class Neighbour:
    """Another organization's publishes, at a steady rate from one connection that stays open."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="neighbour")
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    def __enter__(self) -> "Neighbour":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._tenant.server.port, timeout=30)
        headers = {"authorization": f"Bearer {self._tenant.key}"}
        due = time.monotonic()
        while not self._ends.wait(max(0.0, due - time.monotonic())):
            due += 1 / PUBLISHES_PER_SECOND
            body = json.dumps({"type": "steady.event", "data": {"number": len(self.seconds)}})
            began = time.monotonic()
            connection.request("POST", f"{self._tenant.root}/events", body, headers)
            reply = connection.getresponse()
            reply.read()
            self.seconds.append(time.monotonic() - began)
            self.statuses[reply.status] += 1
        connection.close()


def memory(pid: int, field: str) -> float:
    """A figure of a process in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    """From now on VmHWM is the peak since now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextmanager
def unharmed(tenant: Tenant, receiver: Receiver) -> Iterator[None]:
    """Around a flood: what it must not do to the process and to another organization."""
    pid = tenant.server.pid
    with Stalls(tenant.server.data_dir.parent) as stalls, Neighbour(tenant) as neighbour:
        time.sleep(WARM_SECONDS)
        before = memory(pid, "VmRSS")
        forget_peak(pid)
        yield
        grown = memory(pid, "VmHWM") - before
    assert set(neighbour.statuses) == {202}
    receiver.wait(neighbour.statuses[202])
    still = stalls.longest
    print(f"p99 {neighbour.p99:.3f} s beside {still:.3f} s, {grown:+.1f} MiB", end=" ")
    assert neighbour.p99 <= P99_SECONDS_MAX + 2 * still
    assert grown <= RSS_MIB_MAX


async def sent(
    server: Server, parts: AsyncIterator[bytes], *, until: float = ENDS_SECONDS_MAX + 5
) -> int | None:
    """Send on one connection until it is closed from the other side; the status it ended with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    sending = asyncio.ensure_future(_send(writer, parts))
    try:
        async with asyncio.timeout(until):
            head = b""
            with suppress(ConnectionError):
                head = await reader.read(65_536)
                while await reader.read(65_536):
                    pass
    finally:
        sending.cancel()
        writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
    return int(head[9:12]) if head else None


async def _send(writer: asyncio.StreamWriter, parts: AsyncIterator[bytes]) -> None:
    with suppress(ConnectionError):
        async for part in parts:
            writer.write(part)
            await writer.drain()


async def slowly(first: bytes, rest: bytes, seconds: float = 1.0) -> AsyncIterator[bytes]:
    """A beginning, then one byte after the other."""
    yield first
    for number in range(len(rest)):
        await asyncio.sleep(seconds)
        yield rest[number : number + 1]


async def at_once(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def head(tenant: Tenant, *fields: str, path: str = "/events", key: str = "") -> bytes:
    """The head of a publish, without a credential unless one is given."""
    lines = [f"POST {tenant.root}{path} HTTP/1.1", "host: tocsin", *fields]
    if key:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def half_heads(server: Server, tenant: Tenant) -> list[int | None]:
    """500 heads that never end: silent, or with one more byte a second."""
    begun = b"POST /v1/notification-channels HTTP/1.1\r\nhost: tocsin\r\nx-slow: "
    silent = [sent(server, at_once(begun)) for _ in range(250)]
    dripping = [sent(server, slowly(begun, b"x" * 60)) for _ in range(250)]
    return await asyncio.gather(*silent, *dripping)


async def endless_head(server: Server, tenant: Tenant) -> list[int | None]:
    """60 MB of header fields, of one header field, and of a request target."""

    async def endless(first: bytes, part: bytes) -> AsyncIterator[bytes]:
        yield first
        for _ in range(60_000_000 // len(part)):
            yield part

    field = b"x-a: " + b"a" * 1000 + b"\r\n"
    begun = b"GET / HTTP/1.1\r\nhost: tocsin\r\n"
    floods = [(begun, field * 60), (begun + b"x: ", b"a" * 60_000), (b"GET /", b"a" * 60_000)]
    return await asyncio.gather(*(sent(server, endless(*flood)) for flood in floods))


async def slow_bodies(server: Server, tenant: Tenant) -> list[int | None]:
    """200 bodies at one byte a second, to every kind of call."""
    length = "content-length: 1000"
    heads = [
        head(tenant, length),
        head(tenant, "transfer-encoding: chunked"),
        head(tenant, length, path="/channels"),
        head(tenant, length).replace(tenant.root.encode(), b"/v1/nothing"),
        head(tenant, length, key="toc_wrong"),
    ]
    return await asyncio.gather(
        *(sent(server, slowly(heads[n % len(heads)], b"1" * 60)) for n in range(200))
    )


async def gzip_bombs(server: Server, tenant: Tenant) -> list[int | None]:
    """Small bodies that would unpack to 200 MiB; whoever may publish is refused them too."""
    bomb = gzip.compress(b'{"type":"a","data":"' + b"0" * (200 * MIB) + b'"}', 6)
    fields = ("content-encoding: gzip", f"content-length: {len(bomb)}")
    answers: list[int | None] = []
    for key in ("", tenant.key):
        for path in ("/events", "/events/batch", "/channels"):
            found = await asyncio.gather(
                *(
                    sent(
                        server,
                        at_once(
                            head(tenant, *fields, "connection: close", path=path, key=key), bomb
                        ),
                    )
                    for _ in range(5)
                )
            )
            assert set(found) == {415 if key else 401}
            answers += found
    return answers


async def huge_batch(server: Server, tenant: Tenant) -> list[int | None]:
    """300 MiB: by length and in chunks; whoever may publish gets 413."""

    async def large(first: bytes, *, chunked: bool) -> AsyncIterator[bytes]:
        yield first
        part = b"[" + b"0," * (MIB // 2)
        for _ in range(300):
            yield b"%x\r\n%b\r\n" % (len(part), part) if chunked else part

    answers: list[int | None] = []
    for key in ("", tenant.key):
        by_length = head(tenant, f"content-length: {300 * MIB}", path="/events/batch", key=key)
        chunks = head(tenant, "transfer-encoding: chunked", path="/events/batch", key=key)
        found = await asyncio.gather(
            sent(server, large(by_length, chunked=False)), sent(server, large(chunks, chunked=True))
        )
        assert set(found) <= {413 if key else 401, None}, found
        assert found[0] is not None
        answers += found
    return answers


@pytest.mark.parametrize("flood", [half_heads, endless_head, slow_bodies, gzip_bombs, huge_batch])
def test_flood(flood: Flood, service: Server, tenant: Tenant, receiver: Receiver) -> None:
    with unharmed(tenant, receiver):
        began = time.monotonic()
        ends = asyncio.run(flood(service, tenant))
        took = time.monotonic() - began
    print(f"{flood.__name__}: {Counter(ends)} in {took:.1f} s")
    assert took <= ENDS_SECONDS_MAX * (2 if flood in (gzip_bombs, huge_batch) else 1)
    assert all(end is None or 400 <= end < 500 for end in ends), Counter(ends)


def test_all_at_once(service: Server, tenant: Tenant, receiver: Receiver) -> None:
    floods: list[Flood] = [half_heads, endless_head, slow_bodies]

    async def all_of_them() -> list[int | None]:
        found = await asyncio.gather(*(flood(service, tenant) for flood in floods))
        return [end for ends in found for end in ends]

    with unharmed(tenant, receiver):
        began = time.monotonic()
        ends = asyncio.run(all_of_them())
        assert time.monotonic() - began <= ENDS_SECONDS_MAX
    assert all(end is None or 400 <= end < 500 for end in ends), Counter(ends)

"""Sending: the pool, the gate, the one resend, deadlines and refusals."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_network

import pytest
from tests.net.conftest import LOOPBACK
from tests.net.hostile import OK, Peer, always, once, target, until

from tocsin.domain.exchange import Reply, Request
from tocsin.domain.outcome import Reason
from tocsin.net import (
    AddressRefused,
    Client,
    Guard,
    NotSent,
    ReadLimits,
    Resolver,
    SendFailed,
    TargetInvalid,
)

pytestmark = pytest.mark.anyio


def post(url: str, body: bytes = b"{}") -> Request:
    return Request(url=url, headers=(("content-type", "application/json"),), body=body)


async def send(client: Client, url: str, organization: str = "acme", seconds: float = 20) -> Reply:
    return await client.send(post(url), organization=organization, timeout_seconds=seconds)


async def failure(client: Client, url: str, seconds: float = 20) -> SendFailed:
    with pytest.raises(SendFailed) as failed:
        await send(client, url, seconds=seconds)
    for secret in ("127.0.0.1", "/hook", "token"):
        assert secret not in str(failed.value)
    return failed.value


async def test_a_request_on_the_wire(client: Client) -> None:
    async with target(
        always(b"HTTP/1.1 201 Made\r\nX-A:  b \r\nContent-Length: 3\r\n\r\nyes")
    ) as t:
        reply = await send(client, t.url("localhost", "/hook?a=b"))
        assert reply == Reply(
            status=201, headers=(("x-a", "b"), ("content-length", "3")), body=b"yes"
        )
        assert t.requests == [
            b"POST /hook?a=b HTTP/1.1\r\nhost: localhost:%d\r\n"
            b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}" % t.port
        ]


async def test_a_large_body_arrives_whole(client: Client) -> None:
    body = bytes(range(256)) * 4096
    async with target(always()) as t:
        for _ in range(2):
            await client.send(post(t.url(), body), organization="acme", timeout_seconds=30)
        assert [request.endswith(body) for request in t.requests] == [True, True]
        assert t.connections == 1


async def test_connections_are_kept_and_not_shared(client: Client) -> None:
    async with target(always()) as t:
        for _ in range(3):
            await send(client, t.url())
        assert t.connections == 1
        await send(client, t.url(), organization="other")
        assert t.connections == 2
        await send(client, t.url("localhost"))
        assert t.connections == 3
        await asyncio.gather(*[send(client, t.url()) for _ in range(5)])
        assert t.connections == 7
        assert client.pool.idle_count == 7


async def test_a_request_sets_no_timer(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look at all connections, now and then, sees to every deadline."""
    timers: list[object] = []
    loop = asyncio.get_running_loop()
    async with target(always()) as t, Client(resolver, LOOPBACK, tick_seconds=3600) as client:
        await send(client, t.url())
        for name in ("call_later", "call_at"):
            monkeypatch.setattr(loop, name, lambda *arguments, **_: timers.append(arguments))
        replies = [await send(client, t.url()) for _ in range(50)]
        monkeypatch.undo()
        assert {reply.status for reply in replies} == {200}
    assert timers == []


async def test_an_unused_connection_is_closed(resolver: Resolver) -> None:
    async with (
        target(always()) as t,
        Client(resolver, LOOPBACK, idle_seconds=1.0, tick_seconds=0.01) as client,
    ):
        await send(client, t.url())
        assert client.pool.idle_count == 1
        await until(lambda: client.pool.open_count == 0)


@pytest.mark.parametrize("limits", [(2, 64), (64, 2)])
async def test_idle_connections_are_limited(resolver: Resolver, limits: tuple[int, int]) -> None:
    total, per_key = limits
    async with (
        target(always()) as t,
        Client(
            resolver, LOOPBACK, idle_max=total, idle_per_key_max=per_key, tick_seconds=0.01
        ) as client,
    ):
        await asyncio.gather(*[send(client, t.url()) for _ in range(6)])
        await until(lambda: client.pool.open_count == 2)
        await send(client, t.url())
        assert t.connections == 6
        assert client.pool.open_count == 2


async def test_what_arrives_on_an_idle_connection_closes_it(client: Client) -> None:
    speak = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        if peer.number == 1:
            await speak.wait()
            await peer.say(b"HTTP/1.1 500 Poison\r\ncontent-length: 0\r\n\r\n")
        await peer.closed()

    async with target(script) as t:
        await send(client, t.url())
        speak.set()
        await until(lambda: client.pool.open_count == 0)
        assert (await send(client, t.url())).status == 200


async def test_the_gate_is_asked_last(client: Client) -> None:
    asked: list[int] = []
    async with target(always()) as t:
        request = post(t.url())

        def gate() -> Request:
            asked.append(client.pool.open_count)
            assert t.requests == []
            return Request(url=request.url, headers=(("signed", "yes"),), body=b"final")

        await client.send(request, organization="acme", timeout_seconds=30, gate=gate)
        assert asked == [1]
        assert t.requests[0].endswith(b"signed: yes\r\ncontent-length: 5\r\n\r\nfinal")


async def test_the_gate_may_choose_the_path(client: Client) -> None:
    async with target(always()) as t:
        final = post(t.url(path="/other"))
        await client.send(
            post(t.url()), organization="acme", timeout_seconds=30, gate=lambda: final
        )
        assert t.requests[0].startswith(b"POST /other HTTP/1.1\r\n")


async def test_limits_of_one_send(client: Client) -> None:
    limits = ReadLimits(body_bytes_max=10, body_kept_bytes_max=1)
    async with target(always()) as t:
        reply = await client.send(
            post(t.url()), organization="acme", timeout_seconds=30, limits=limits
        )
        assert reply.body == b"o"


async def test_a_closed_gate_sends_nothing_and_keeps_the_connection(client: Client) -> None:
    async with target(always()) as t:

        def broken() -> Request:
            raise LookupError

        for _ in range(2):
            with pytest.raises(NotSent):
                await client.send(
                    post(t.url()), organization="acme", timeout_seconds=30, gate=lambda: None
                )
            with pytest.raises(LookupError):
                await client.send(
                    post(t.url()), organization="acme", timeout_seconds=30, gate=broken
                )
        assert client.pool.idle_count == 1
        await send(client, t.url())
        assert (len(t.requests), t.connections) == (1, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "http://other.example/"},
        {"url": "nothing"},
        {"headers": (("host", "other.example"),)},
        {"headers": (("x", "a\r\nb: c"),)},
        {"method": "HEAD"},
    ],
)
async def test_the_gate_can_not_change_where_or_how(
    client: Client, changed: dict[str, object]
) -> None:
    async with target(always()) as t:
        fields: dict[str, object] = {"url": t.url(), "headers": (), "body": b""} | changed
        final = Request(**fields)  # type: ignore[arg-type]
        with pytest.raises(SendFailed) as failed:
            await client.send(
                post(t.url()), organization="acme", timeout_seconds=30, gate=lambda: final
            )
        assert failed.value.reason is Reason.INTERNAL_ERROR
        assert t.requests == []
        assert client.pool.idle_count == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_reused_connection_that_is_closed_is_replaced_once(
    client: Client, how: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        if peer.number == 1:
            await peer.request()
            peer.reset() if how == "reset" else peer.close()
        await peer.closed()

    asked = 0
    async with target(script) as t:
        assert not (await send(client, t.url())).resent

        def gate() -> Request:
            nonlocal asked
            asked += 1
            return post(t.url(), b"%d" % asked)

        reply = await client.send(post(t.url()), organization="acme", timeout_seconds=30, gate=gate)
        assert reply.resent
        assert asked == 2
        assert t.requests[-1].endswith(b"2")
        assert not (await send(client, t.url(), organization="other")).resent


async def test_a_resend_is_not_resent(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.say(OK)
            await peer.request()

    async with target(script) as t:
        await send(client, t.url())
        assert (await failure(client, t.url())).reason is Reason.CONNECTION_RESET
        assert (t.connections, len(t.requests)) == (2, 3)


async def test_a_byte_of_a_reply_forbids_the_resend(client: Client) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(OK)
        await peer.request()
        await peer.say(b"H")

    async with target(script) as t:
        await send(client, t.url())
        assert (await failure(client, t.url())).reason is Reason.CONNECTION_RESET
        assert t.connections == 1


async def test_silence_is_a_timeout(client: Client) -> None:
    async with target(once(b"")) as t:
        assert (await failure(client, t.url(), seconds=0.05)).reason is Reason.TIMEOUT
        await until(lambda: client.pool.open_count == 0)


async def test_cancelling_closes_the_connection(client: Client) -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        arrived.set()
        await peer.closed()
        closed.set()

    async with target(script) as t, asyncio.timeout(30):
        task = asyncio.create_task(send(client, t.url()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed.wait()
        assert client.pool.idle_count == 0


async def test_a_late_cancel_leaves_the_next_user_alone(client: Client) -> None:
    """The reply is there, its waiter is cancelled, another has the connection already."""
    async with target(always()) as t:
        await send(client, t.url())
        first = asyncio.create_task(send(client, t.url()))
        await asyncio.sleep(0)  # it has written
        while client.pool.idle_count == 0 and not first.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        second = asyncio.create_task(send(client, t.url()))
        first.cancel()
        assert (await second).status == 200
        await asyncio.gather(first, return_exceptions=True)
        assert t.connections == 1


async def test_refused_and_unresolved(client: Client) -> None:
    async with target(always()) as t:
        url = t.url()
    refused = await failure(client, url)
    assert refused.reason is Reason.CONNECTION_REFUSED
    unknown = await failure(client, "http://nowhere.invalid/hook?token=1")
    assert unknown.reason is Reason.NAME_NOT_RESOLVED


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/hook", "http://169.254.169.254/", "http://0x7f.1/", "ftp://a.example/"]
)
async def test_the_guard_refuses_before_any_socket(client: Client, url: str) -> None:
    assert (await failure(client, url)).reason is Reason.ADDRESS_REFUSED
    assert client.pool.open_count == 0


def names(**known: Sequence[str]) -> Resolver:
    async def lookup(host: str) -> Sequence[str]:
        return known[host.partition(".")[0]]

    return Resolver(lookup)


async def test_every_answer_must_pass_and_any_may_work() -> None:
    guard = Guard([ip_network("127.0.0.0/8")])
    answers = names(
        mixed=["127.0.0.1", "10.0.0.1"],
        mapped=["::ffff:10.0.0.1"],
        second=["127.0.0.9", "127.0.0.1"],
    )
    async with answers as resolver, Client(resolver, guard) as client, target(always()) as t:
        for host in ("mixed.example", "mapped.example"):
            assert (await failure(client, t.url(host))).reason is Reason.ADDRESS_REFUSED
        for _ in range(2):
            assert (await send(client, t.url("second.example"))).status == 200
        assert t.connections == 1


async def test_vet(client: Client) -> None:
    await client.vet("http://127.0.0.1:1/", organization="acme")
    await client.vet("http://localhost:1/", organization="acme")
    await client.vet("http://nowhere.invalid/", organization="acme")
    for url in ("http://10.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/"):
        with pytest.raises(AddressRefused):
            await client.vet(url, organization="acme")
    with pytest.raises(TargetInvalid):
        await client.vet("http://2130706433/", organization="acme")


async def test_vet_judges_every_answer_and_waits_not_for_ever() -> None:
    async def lookup(host: str) -> Sequence[str]:
        if host == "slow.example":
            await asyncio.get_running_loop().create_future()
        return ["93.184.216.34", "192.168.0.1"]

    async with Resolver(lookup) as resolver, Client(resolver, Guard()) as client:
        with pytest.raises(AddressRefused):
            await client.vet("https://mixed.example/", organization="acme")
        await client.vet("https://slow.example/", organization="acme", timeout_seconds=0.01)


async def test_closing_ends_what_is_on_its_way(resolver: Resolver) -> None:
    async with target(once(b"")) as t:
        async with Client(resolver, LOOPBACK) as client:
            task = asyncio.create_task(send(client, t.url()))
            await until(lambda: len(t.requests) == 1)
        with pytest.raises(SendFailed):
            await task
        assert client.pool.open_count == 0

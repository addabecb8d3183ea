"""CPU per POST of the client against a sink in another process: `python tests/net/bench_client.py`.

Not collected by pytest. Prints the sender's CPU microseconds per POST (time.process_time) for one
request at a time and for many in flight.
"""

import asyncio
import multiprocessing
import sys
import time
from functools import partial
from ipaddress import ip_network
from multiprocessing.connection import Connection as Pipe
from typing import cast

import uvloop

from tocsin.domain.exchange import Request
from tocsin.net import Client, Guard, Resolver

REPLY = (
    b"HTTP/1.1 200 OK\r\nserver: sink\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
)
BODY = b'{"type":"invoice.paid","data":{"number":42,"customer":"ACME"}}' * 4
HEADERS = (
    ("content-type", "application/json"),
    ("user-agent", "Tocsin/1"),
    ("webhook-id", "msg_0123456789abcdef01234567"),
    ("webhook-timestamp", "1700000000"),
    ("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ("tocsin-delivery", "0123456789abcdef01234567"),
)


class Sink(asyncio.Protocol):
    """Answers every piece of data that arrives; requests are small enough to come whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(REPLY)


def sink(pipe: Pipe) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


def _same(request: Request) -> Request:
    """The cheapest gate."""
    return request


async def measure(port: int, concurrency: int, seconds: float) -> None:
    guard = Guard([ip_network("127.0.0.0/8")])
    url = f"http://localhost:{port}/hooks/tocsin"
    done = 0

    async with Resolver() as resolver, Client(resolver, guard) as client:

        async def worker(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                request = Request(url=url, headers=HEADERS, body=BODY)
                reply = await client.send(
                    request, organization="acme", timeout_seconds=10.0, gate=partial(_same, request)
                )
                assert reply.status == 200
                done += 1

        async def run(until: float) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(worker(until))

        await run(time.perf_counter() + 0.5)
        done = 0
        cpu, wall = time.process_time(), time.perf_counter()
        await run(wall + seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"{concurrency:>4} in flight: {cpu / done * 1e6:6.2f} us CPU per POST, {done / wall:,.0f}/s"
    )


def main() -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=sink, args=(there,), daemon=True)
    process.start()
    port = here.recv()
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    for concurrency in (1, 16, 128):
        uvloop.run(measure(port, concurrency, seconds))
    process.kill()


if __name__ == "__main__":
    main()

"""A client that may call this machine."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from tests.net.authority import Authority

from tocsin.net import Client, Guard, Resolver

LOOPBACK = Guard([ip_network("127.0.0.0/8")])


@pytest.fixture
async def resolver(anyio_backend: object) -> AsyncIterator[Resolver]:
    async with Resolver() as resolver:
        yield resolver


@pytest.fixture
async def client(resolver: Resolver) -> AsyncIterator[Client]:
    async with Client(resolver, LOOPBACK, tick_seconds=0.02) as client:
        yield client
    assert client.pool.open_count == 0


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))

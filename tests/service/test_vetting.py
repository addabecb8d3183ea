"""Which targets may be saved; nothing about addresses leaks to who asks."""

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest

from tocsin.domain.errors import Invalid
from tocsin.domain.model import OrganizationId
from tocsin.net.guard import Guard
from tocsin.net.resolver import Resolver
from tocsin.service.vetting import Vetting, vetted

pytestmark = pytest.mark.anyio

WHO = OrganizationId("a" * 24)


async def lookup(host: str) -> list[str]:
    if host == "gone.example":
        raise OSError
    return {"inside.example": ["93.184.216.34", "10.0.0.1"]}.get(host, ["93.184.216.34"])


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    async with Resolver(lookup) as opened:
        yield opened


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "http://gone.example/", "http://93.184.216.34/"]
)
async def test_accepted(resolver: Resolver, url: str) -> None:
    await vetted(Vetting(Guard(), resolver), url, WHO)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://inside.example/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://0x7f000001/",
        "http://user@example.com/",
    ],
)
async def test_refused_without_an_address(resolver: Resolver, url: str) -> None:
    with pytest.raises(Invalid) as caught:
        await vetted(Vetting(Guard(), resolver), url, WHO)
    (problem,) = caught.value.problems
    assert problem.field == "settings.url"
    for address in ("127.0", "10.0", "::1", "169.254", "93.184"):
        assert address not in problem.message


async def test_settings_of_the_guard_count(resolver: Resolver) -> None:
    allowed = Guard((ip_network("127.0.0.0/8"),), https_only=True)
    await vetted(Vetting(allowed, resolver), "https://127.0.0.1/", WHO)
    with pytest.raises(Invalid, match="https"):
        await vetted(Vetting(allowed, resolver), "http://127.0.0.1/", WHO)

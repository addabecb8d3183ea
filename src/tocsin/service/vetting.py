"""Whether a target may be saved at all: its form, and the addresses it has now."""

from collections.abc import Awaitable, Callable

from tocsin.domain.errors import Invalid
from tocsin.domain.model import OrganizationId
from tocsin.net.errors import NameNotResolved, NetError
from tocsin.net.guard import Guard
from tocsin.net.resolver import Resolver

RESOLVE_SECONDS = 2.0

Vet = Callable[[str, OrganizationId], Awaitable[None]]
"""Raises a `NetError` for a URL that must not be called; returns nothing."""


class Vetting:
    """Vets by the same guard that every connection asks again. A name that does not resolve in
    time is let through: it may come to exist."""

    def __init__(self, guard: Guard, resolver: Resolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def __call__(self, url: str, organization_id: OrganizationId) -> None:
        """Raise `TargetInvalid` or `AddressRefused`."""
        target = self._guard.target(url)
        addresses = target.addresses
        if not addresses:
            try:
                addresses = await self._resolver.resolve(
                    target.host, organization=organization_id, timeout_seconds=RESOLVE_SECONDS
                )
            except NameNotResolved:
                return
        self._guard.check_all(addresses)


async def vetted(vet: Vet, url: str, organization_id: OrganizationId) -> None:
    """Vet a channel's URL; raises Invalid naming the field, never an address."""
    try:
        await vet(url, organization_id)
    except NameNotResolved:
        return
    except NetError as error:
        message = error.message[:1].lower() + error.message[1:].rstrip(".")
        raise Invalid("settings.url", message) from None

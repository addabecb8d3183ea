"""What a use case needs from above, implemented by the engine and injected by `app`."""

from collections.abc import Sequence
from typing import Protocol

from tocsin.domain.model import Attempt, ChannelId, OrganizationId
from tocsin.storage.base import Held

Wanted = tuple[OrganizationId, ChannelId, int]
"""Room for one delivery: whose it is, to which channel it goes, and its payload's bytes."""


class Dispatch(Protocol):
    """This node's hands: it takes claimed deliveries and sends them."""

    def reserve(self, wanted: Sequence[Wanted]) -> list[bool]:
        """Say for each whether it may be claimed at birth.

        What is granted is held until `offer` or `unreserve`.
        """
        ...

    def unreserve(self, granted: Sequence[Wanted]) -> None:
        """Give back what was granted and not claimed after all."""
        ...

    def offer(self, held: Sequence[Held]) -> None:
        """Hand over deliveries that were reserved and are now claimed."""
        ...

    def wake(self, due_ms: int) -> None:
        """Free deliveries fall due at this moment (storage ms)."""
        ...

    async def probe(self, held: Held) -> Attempt:
        """Make one attempt now, past disabled, breaker, rate and order, and record it."""
        ...

    def forget(self, organization_id: OrganizationId) -> None:
        """Channels of this organization changed: no send starts with their old state."""
        ...

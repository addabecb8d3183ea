"""What an organization may have waiting before its publishes are refused.

To count is dear where much waits, so it is done only where it might tell: an organization is known
to have at most what was counted last and what it has published since.
"""

from collections import Counter

from tocsin.domain.errors import RateLimited
from tocsin.domain.model import OrganizationId
from tocsin.storage.base import ControlPlane
from tocsin.storage.control.waiting import organizations_with_channels, waiting_of

COUNT_SECONDS = 4.0
"""So that with the time it takes no count that refuses is older than 5 s."""
RETRY_AFTER_SECONDS = 5


class Intake:
    """Refuses publishes of organizations with too many waiting deliveries."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._at_most: Counter[OrganizationId] = Counter()
        self._full: set[OrganizationId] = set()
        self._counted = False

    def admit(self, organization_id: OrganizationId) -> None:
        """Raise RateLimited for an organization that has its fill."""
        if self._full and organization_id in self._full:
            raise RateLimited(
                f"{self._waiting_max} deliveries of this organization are waiting.",
                RETRY_AFTER_SECONDS,
            )

    def stored(self, organization_id: OrganizationId, deliveries: int) -> None:
        """So many more may be waiting."""
        self._at_most[organization_id] += deliveries

    async def count(self, store: ControlPlane) -> None:
        """Count where there may be too many; called every `COUNT_SECONDS`."""
        if self._counted:
            wanted = [one for one, n in self._at_most.items() if n >= self._waiting_max]
        else:
            wanted = await store.read(organizations_with_channels)
        for organization_id in wanted:
            await self._count(store, organization_id)
        self._counted = True

    async def _count(self, store: ControlPlane, organization_id: OrganizationId) -> None:
        before = self._at_most[organization_id]
        counted = await store.read(lambda c: waiting_of(c, organization_id, self._waiting_max))
        # What came in meanwhile may be counted or not.
        self._at_most[organization_id] += counted - before
        if counted >= self._waiting_max:
            self._full.add(organization_id)
        else:
            self._full.discard(organization_id)


UNBOUNDED = Intake(2**62)
"""It admits everybody, for it is never asked to count."""

"""What an organization may have waiting before its publishes are refused.

The count is looked at, not kept: it is a few seconds old, so that publishing costs nothing for it.
"""

from tocsin.domain.errors import RateLimited
from tocsin.domain.model import OrganizationId
from tocsin.storage.base import ControlPlane
from tocsin.storage.control.waiting import waiting_of_organizations

COUNT_SECONDS = 4.0
"""So that with the time it takes no count is older than 5 s."""
RETRY_AFTER_SECONDS = 5


class Intake:
    """Refuses publishes of organizations with too many waiting deliveries."""

    def __init__(self, waiting_max: int) -> None:
        self._waiting_max = waiting_max
        self._full: frozenset[OrganizationId] = frozenset()

    def admit(self, organization_id: OrganizationId) -> None:
        """Raise RateLimited for an organization that has its fill."""
        if self._full and organization_id in self._full:
            raise RateLimited(
                f"{self._waiting_max} deliveries of this organization are waiting.",
                RETRY_AFTER_SECONDS,
            )

    async def count(self, store: ControlPlane) -> None:
        """Look how much waits; called every `COUNT_SECONDS`."""
        waiting = await store.read(waiting_of_organizations)
        self._full = frozenset(
            organization_id
            for organization_id, count in waiting.items()
            if count >= self._waiting_max
        )


UNBOUNDED = Intake(2**62)
"""It admits everybody, for it is never asked to count."""

"""What other nodes have changed: their changes raise versions in the database, and this looks.

On one node a change is told to every cache before it is answered. What another node changed is
found here within two looks; publishing does not wait for that, it compares the version in its
own transaction.
"""

from collections.abc import Callable

from tocsin.domain.model import OrganizationId
from tocsin.storage.base import ControlPlane
from tocsin.storage.control import organizations

LOOK_SECONDS = 0.4


class Hearing:
    """Compares the versions of all organizations with those of the look before."""

    def __init__(self, store: ControlPlane, invalidate: Callable[[OrganizationId], None]) -> None:
        self._store = store
        self._invalidate = invalidate
        self._sum = -1
        self._versions: dict[OrganizationId, int] = {}

    async def look(self) -> None:
        """Forget what is known of every organization that has moved on; raises Unavailable."""
        known = self._sum
        found = await self._store.read(lambda c: organizations.versions(c, unless=known))
        if found is None:
            return
        before, self._versions = self._versions, found.by_id
        self._sum = found.sum
        if known < 0:
            return  # nothing can be older than the first look
        for organization_id, version in found.by_id.items():
            if before.get(organization_id) != version:
                self._invalidate(organization_id)

"""Which channels want an event: an organization's routes, cached by its version."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tocsin.domain.errors import NotFound
from tocsin.domain.ids import is_id
from tocsin.domain.matching import compile_filter, compile_patterns
from tocsin.domain.model import ChannelId, KeyId, OrganizationId, ProjectId, Unmatched
from tocsin.storage.base import ControlPlane
from tocsin.storage.control.routes import RouteRow, routing_rows

ORGANIZATIONS_CACHED_MAX = 1_000
TYPES_CACHED_MAX = 2_000


class Route(Struct, frozen=True):
    """A channel's compiled patterns and filter; `passes` is None without a filter."""

    channel_id: ChannelId
    project_id: ProjectId | None
    wants: Callable[[str], bool]
    passes: Callable[[Any], bool] | None
    ordered: bool = False


class Wanting(Struct, frozen=True):
    """The channels whose level and patterns take a type; `filters` says whether any has one."""

    routes: tuple[Route, ...]
    filters: bool


class Routes:
    """The routes of one organization at one version."""

    def __init__(
        self,
        organization_id: OrganizationId,
        version: int,
        rows: tuple[RouteRow, ...],
        projects: tuple[tuple[ProjectId, str], ...],
        keys: frozenset[KeyId],
    ) -> None:
        self.organization_id = organization_id
        self.version = version
        self.keys = keys
        self.by_id = {row.channel_id: _route(row) for row in rows}
        self._projects = frozenset(project_id for project_id, _ in projects)
        self._slugs = {slug: project_id for project_id, slug in projects}
        self._wanting: dict[tuple[ProjectId | None, str], Wanting] = {}

    def project(self, reference: str) -> ProjectId | None:
        """A project by id or slug, in any case; None when there is none."""
        if is_id(reference):
            project_id = ProjectId(reference.lower())
            return project_id if project_id in self._projects else None
        return self._slugs.get(reference.lower())

    def has_project(self, project_id: ProjectId) -> bool:
        """Whether the project (still) exists."""
        return project_id in self._projects

    def known(self, project_id: ProjectId | None, event_type: str) -> Wanting | None:
        """What `wanting` has answered before; None for a type that was not asked for yet."""
        return self._wanting.get((project_id, event_type))

    def wanting(self, project_id: ProjectId | None, event_type: str) -> Wanting:
        """The channels whose level and patterns take the (valid) type, before their filters."""
        found = tuple(route for route in self._in_scope(project_id) if route.wants(event_type))
        answer = Wanting(found, any(route.passes is not None for route in found))
        if len(self._wanting) >= TYPES_CACHED_MAX:
            self._wanting.clear()
        self._wanting[project_id, event_type] = answer
        return answer

    def why_unmatched(self, project_id: ProjectId | None, wanted: Wanting) -> Unmatched:
        """Why an event reached nobody: no channel at its level, none for its type, or filters."""
        if wanted.routes:
            return Unmatched.FILTERED
        return Unmatched.NO_TYPE if self._in_scope(project_id) else Unmatched.NO_CHANNEL

    def _in_scope(self, project_id: ProjectId | None) -> list[Route]:
        return [
            route
            for route in self.by_id.values()
            if route.project_id is None or route.project_id == project_id
        ]


def _route(row: RouteRow) -> Route:
    return Route(
        row.channel_id,
        row.project_id,
        compile_patterns(row.event_types),
        compile_filter(row.filter) if row.filter else None,
        row.ordered,
    )


class Routing:
    """Routes by organization. Whoever changes channels or key rights calls `invalidate`.

    Other nodes notice by the version, which the publish transaction reads first.
    """

    def __init__(self, store: ControlPlane) -> None:
        self._store = store
        self._cache: OrderedDict[OrganizationId, Routes] = OrderedDict()
        self._loading: dict[OrganizationId, asyncio.Task[Routes]] = {}
        self.on_invalidate: list[Callable[[OrganizationId], None]] = []

    def cached(self, organization_id: OrganizationId) -> Routes | None:
        """The routes if they are at hand; no waiting."""
        return self._cache.get(organization_id)

    async def load(self, organization_id: OrganizationId) -> Routes:
        """The routes, read if need be; raises NotFound when the organization is gone."""
        found = self._cache.get(organization_id)
        if found is not None:
            return found
        task = self._loading.get(organization_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(organization_id))
            self._loading[organization_id] = task
            task.add_done_callback(lambda done: self._loaded(organization_id, done))
        return await asyncio.shield(task)

    def _loaded(self, organization_id: OrganizationId, task: "asyncio.Task[Routes]") -> None:
        if self._loading.get(organization_id) is task:
            del self._loading[organization_id]
        if not task.cancelled() and task.exception() is not None:
            pass  # every waiter has it; retrieving it keeps the loop from reporting it

    async def _read(self, organization_id: OrganizationId) -> Routes:
        rows = await self._store.read(lambda c: routing_rows(c, organization_id))
        if rows is None:
            raise NotFound("There is no such organization.")
        routes = Routes(organization_id, rows.version, rows.routes, rows.projects, rows.keys)
        if self._loading.get(organization_id) is asyncio.current_task():
            self._cache[organization_id] = routes
            if len(self._cache) > ORGANIZATIONS_CACHED_MAX:
                self._cache.popitem(last=False)
        return routes

    def invalidate(self, organization_id: OrganizationId) -> None:
        """Forget the organization's routes; a read under way is not kept either."""
        self._cache.pop(organization_id, None)
        self._loading.pop(organization_id, None)
        for listener in self.on_invalidate:
            listener(organization_id)

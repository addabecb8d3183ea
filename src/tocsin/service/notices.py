"""Notices: the events that Tocsin itself makes, alerts and operational ones.

Each has an id that whoever decided on it has fixed: it is the event's id and its idempotency key,
so that any number of nodes, at any number of tries, store one event.
"""

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import Struct

from tocsin.clock import Clock
from tocsin.domain.ids import id_time_ms
from tocsin.domain.model import (
    ChannelId,
    DeliveryId,
    Event,
    EventId,
    OrganizationId,
    Origin,
    ProjectId,
)
from tocsin.service.routing import Route, Routes
from tocsin.storage.base import NewDelivery, NewEvent

SOURCE = "tocsin"
"""Whose keys these are; those of publishers have other sources."""


class Notice(Struct, frozen=True, kw_only=True):
    """What is to be told. `channel_ids` get it, those that are there, past patterns and filters;
    None is whoever in sight of the project subscribes to the type."""

    id: EventId
    organization_id: OrganizationId
    project_id: ProjectId | None
    type: str
    data: bytes
    occurred_at: int
    origin: Origin
    channel_ids: tuple[ChannelId, ...] | None = None


def event_of(
    notice: Notice, routes: Routes, *, clock: Clock, new_id: Callable[[int], str], key_ms: int
) -> NewEvent | None:
    """The event to store; None where nobody is to get it, or its project is gone."""
    project_id = notice.project_id
    if project_id is not None and not routes.has_project(project_id):
        return None
    targets = _targets(notice, routes)
    if not targets:
        return None
    wall_ms = clock.wall_ms()
    return NewEvent(
        event=Event(
            id=notice.id,
            organization_id=notice.organization_id,
            project_id=project_id,
            type=notice.type,
            data=notice.data,
            occurred_at=notice.occurred_at,
            created_at=min(wall_ms, id_time_ms(notice.id)),
        ),
        deliveries=[
            NewDelivery(DeliveryId(new_id(wall_ms)), route.channel_id, False, route.ordered)
            for route in targets
        ],
        version=routes.version,
        due_ms=clock.storage_ms(),
        origin=notice.origin,
        idempotency_key=notice.id,
        source=SOURCE,
        digest=hashlib.sha256(notice.type.encode() + b"\0" + notice.data).digest(),
        key_expired_before=wall_ms - key_ms,
    )


def _targets(notice: Notice, routes: Routes) -> list[Route]:
    project_id = notice.project_id
    if notice.channel_ids is not None:
        found = (routes.by_id.get(channel_id) for channel_id in dict.fromkeys(notice.channel_ids))
        return [
            route for route in found if route is not None and route.project_id in (None, project_id)
        ]
    wanted = routes.known(project_id, notice.type) or routes.wanting(project_id, notice.type)
    if not wanted.filters:
        return list(wanted.routes)
    data = msgspec.json.decode(notice.data)
    return [route for route in wanted.routes if route.passes is None or route.passes(data)]

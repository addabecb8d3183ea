"""The log: events, and their deliveries with attempts."""

from typing import Any

from litestar import get, post
from litestar.params import FromPath, JSONBody

from tocsin.domain.errors import RouteNotFound
from tocsin.domain.model import Status
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.native.errors import READS, WRITES, problems
from tocsin.web.native.listing import PAGING, PERIOD, answer, page_of
from tocsin.web.native.views import DeliveryOut, EventOut, ListOut
from tocsin.web.publish import AcceptedOut, BatchIn, BatchOut, EventIn

_STATUSES = tuple(status.value for status in Status)
_PUBLISH_HEADERS = (spec.text("Idempotency-Key", "as `idempotency_key`", place="header"),)


@post(
    "/organizations/{org:str}/events",
    opt={"operation": "event.publish", "in_front": True},
    status_code=202,
    responses=problems(*WRITES),
    operation_class=spec.takes(*_PUBLISH_HEADERS),
)
async def publish_event(request: Call, org: FromPath[str], data: JSONBody[EventIn]) -> AcceptedOut:
    """Publish an event: 202 means that it and its deliveries are stored."""
    raise RouteNotFound()  # the front answers before the framework is asked


@post(
    "/organizations/{org:str}/events/batch",
    opt={"operation": "event.publish", "in_front": True},
    status_code=202,
    responses=problems(*WRITES),
)
async def publish_batch(request: Call, org: FromPath[str], data: JSONBody[BatchIn]) -> BatchOut:
    """Publish up to 1000 events; one that is refused does not spoil the others."""
    raise RouteNotFound()  # the front answers before the framework is asked


@get(
    "/organizations/{org:str}/events",
    opt={"operation": "event.list"},
    responses=problems(*READS),
    operation_class=spec.takes(
        *PAGING,
        spec.text("type", "only this event type"),
        spec.text("project", "only of this project (id or slug)"),
        *PERIOD,
    ),
)
async def list_events(request: Call, org: FromPath[str]) -> ListOut[EventOut]:
    """The organization's events in sight."""
    place = {"list": "events", "organization": request.sight.organization_id}
    query = request.parameters()
    listing = await request.services.log.events(
        request.caller,
        request.sight,
        page_of(request, query, **place),
        type=query.text("type"),
        project=query.text("project"),
        after=query.time("after"),
        before=query.time("before"),
    )
    return answer(request, listing, views.event, **place)


@get(
    "/organizations/{org:str}/events/{id:str}",
    opt={"operation": "event.get"},
    responses=problems(*READS),
)
async def get_event(request: Call, org: FromPath[str], id: FromPath[str]) -> EventOut:
    """One event with its deliveries."""
    stored, deliveries = await request.services.log.event(request.caller, request.sight, id)
    return views.event(stored, deliveries)


@get(
    "/organizations/{org:str}/deliveries",
    opt={"operation": "delivery.list"},
    responses=problems(*READS),
    operation_class=spec.takes(
        *PAGING,
        spec.text("channel", "only to this channel"),
        spec.text("project", "only of this project (id or slug)"),
        spec.choice("status", "only in this state", _STATUSES),
        spec.text("event_type", "only of this event type"),
        *PERIOD,
    ),
)
async def list_deliveries(request: Call, org: FromPath[str]) -> ListOut[DeliveryOut]:
    """The organization's deliveries in sight."""
    place = {"list": "deliveries", "organization": request.sight.organization_id}
    query = request.parameters()
    status = query.one_of("status", _STATUSES)
    listing = await request.services.log.deliveries(
        request.caller,
        request.sight,
        page_of(request, query, **place),
        channel=query.text("channel"),
        project=query.text("project"),
        status=None if status is None else Status(status),
        event_type=query.text("event_type"),
        after=query.time("after"),
        before=query.time("before"),
    )
    return answer(request, listing, views.delivery, **place)


@get(
    "/organizations/{org:str}/deliveries/{id:str}",
    opt={"operation": "delivery.get"},
    responses=problems(*READS),
)
async def get_delivery(request: Call, org: FromPath[str], id: FromPath[str]) -> DeliveryOut:
    """One delivery with its attempts."""
    found, attempts = await request.services.log.delivery(request.caller, request.sight, id)
    return views.delivery(found, attempts)


@post(
    "/organizations/{org:str}/deliveries/{id:str}/retry",
    opt={"operation": "delivery.retry"},
    status_code=202,
    responses=problems(*READS, 409),
)
async def retry_delivery(request: Call, org: FromPath[str], id: FromPath[str]) -> DeliveryOut:
    """Open a finished delivery again: due now, its schedule from the first step."""
    return views.delivery(await request.services.log.retry(request.caller, request.sight, id))


HANDLERS: tuple[Any, ...] = (
    publish_event,
    publish_batch,
    list_events,
    get_event,
    list_deliveries,
    get_delivery,
    retry_delivery,
)

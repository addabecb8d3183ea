"""The attempts of many deliveries at once, for whoever copies the whole log."""

from litestar import get
from litestar.params import FromPath
from msgspec import Struct

from tocsin.domain.model import Attempt, DeliveryId
from tocsin.domain.text import iso
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native.errors import READS, problems
from tocsin.web.native.listing import PAGING, answer, page_of
from tocsin.web.native.views import ListOut


class DeliveryAttemptOut(Struct, kw_only=True):
    """One try of a delivery, with the delivery it belongs to."""

    delivery_id: str
    number: int
    started_at: str
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None
    superseded: bool


@get(
    "/organizations/{org:str}/attempts",
    opt={"operation": "delivery.get"},
    responses=problems(*READS),
    operation_class=spec.takes(*PAGING),
)
async def list_attempts(request: Call, org: FromPath[str]) -> ListOut[DeliveryAttemptOut]:
    """Attempts of the deliveries in sight, newest delivery first; `limit` counts deliveries."""
    place = {"list": "attempts", "organization": request.sight.organization_id}
    page = page_of(request, request.parameters(), **place)
    listing = await request.services.log.attempts(request.caller, request.sight, page)
    return answer(request, listing, _shown, **place)


def _shown(one: tuple[DeliveryId, Attempt]) -> DeliveryAttemptOut:
    delivery_id, attempt = one
    return DeliveryAttemptOut(
        delivery_id=delivery_id,
        number=attempt.number,
        started_at=iso(attempt.started_at),
        duration_ms=attempt.duration_ms,
        outcome=attempt.outcome,
        status_code=attempt.status_code,
        error=attempt.error,
        response_body=attempt.response_body,
        superseded=attempt.superseded,
    )


HANDLERS = (list_attempts,)

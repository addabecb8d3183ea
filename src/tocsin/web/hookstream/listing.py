"""What every list of this dialect reads from its query string, and how it goes on."""

from typing import Any

from tocsin.service.sight import Listing, Page, Sight
from tocsin.web import spec
from tocsin.web.calls import Call

LIMIT_DEFAULT = 20
LIMIT_MAX = 100

PAGING = (
    spec.number("limit", "how many", least=1, most=LIMIT_MAX, default=LIMIT_DEFAULT),
    spec.text("cursor", "`cursor` of the page before"),
)


def page_of(call: Call, sight: Sight, name: str) -> Page:
    """Which page of the list of this name is asked for."""
    query = call.parameters()
    limit = query.integer("limit", default=LIMIT_DEFAULT, least=1, most=LIMIT_MAX)
    cursor = query.text("cursor")
    if cursor is None:
        return Page(limit)
    place = _place(sight, name)
    return Page(limit, call.edge.cursors.read(cursor, **place))


def cursor_of(call: Call, sight: Sight, name: str, listing: Listing[Any]) -> str | None:
    """What continues the list; None at its end."""
    return call.edge.cursors.make(listing.next, **_place(sight, name))


def _place(sight: Sight, name: str) -> dict[str, str]:
    return {"list": f"hookstream {name}", "organization": sight.organization_id}

"""What every list of the native dialect reads from its query string, and how it answers."""

from collections.abc import Callable
from typing import Any, TypeVar

from tocsin.service.sight import Listing, Page
from tocsin.web import spec
from tocsin.web.calls import Call
from tocsin.web.native import views
from tocsin.web.query import Query

T = TypeVar("T")
Out = TypeVar("Out")

LIMIT_DEFAULT = 50
LIMIT_MAX = 200

PAGING = (
    spec.number("limit", "how many", least=1, most=LIMIT_MAX, default=LIMIT_DEFAULT),
    spec.text("cursor", "`next_cursor` of the page before"),
)
PERIOD = (
    spec.text("after", "created at or after this time"),
    spec.text("before", "created before this time"),
)


def page_of(call: Call, query: Query, *, list: str, organization: str) -> Page:
    """Which page is asked for."""
    limit = query.integer("limit", default=LIMIT_DEFAULT, least=1, most=LIMIT_MAX)
    cursor = query.text("cursor")
    if cursor is None:
        return Page(limit)
    return Page(limit, call.edge.cursors.read(cursor, list=list, organization=organization))


def answer(
    call: Call,
    listing: Listing[T],
    show: Callable[[T], Out],
    *,
    list: str,
    organization: str,
) -> views.ListOut[Any]:
    """The page as it is shown, with the cursor of the next one."""
    cursor = call.edge.cursors.make(listing.next, list=list, organization=organization)
    return views.listed(listing, [show(item) for item in listing.items], cursor)

"""What the list commands have in common: how far to list, and how a list is printed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from tocsin.cli import output
from tocsin.cli.client import LIST_LIMIT_MAX, Api

GROUP = Group("List", sort_key=15)


@Parameter(name="*")
@dataclass(frozen=True)
class Listed:
    """How much of a list."""

    limit: Annotated[
        int,
        Parameter(
            group=GROUP,
            help=f"At most so many, 1..{LIST_LIMIT_MAX}, newest first.",
            validator=Number(gte=1, lte=LIST_LIMIT_MAX),
        ),
    ] = 50
    cursor: Annotated[
        str | None, Parameter(group=GROUP, help="Go on after a list that ended with this cursor.")
    ] = None
    all: Annotated[
        bool, Parameter(negative="", group=GROUP, help="Everything, however long the list.")
    ] = False


LISTED = Listed()


def print_list(
    api: Api,
    path: str,
    listed: Listed,
    columns: Mapping[str, str],
    *,
    json: bool,
    empty: str,
    filters: Mapping[str, Any] | None = None,
) -> None:
    """Fetch a list and print it; `empty` is the sentence for an empty one."""
    query: dict[str, Any] = {**(filters or {}), "cursor": listed.cursor}
    if listed.all:
        rows = [row for page in api.pages(path, query) for row in page["data"]]
        page: dict[str, Any] = {"data": rows, "next_cursor": None}
    else:
        page = api.call("GET", path, query={**query, "limit": listed.limit})
    if json:
        output.print_json(page)
        return
    output.print_table(page["data"], columns, empty)
    if page["next_cursor"] is not None:
        output.print_hint(f"there are more: --cursor {page['next_cursor']}, or --all")

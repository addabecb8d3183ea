"""How lists walk their table: newest first, a bounded number of rows, then they report so."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select

from tocsin.domain.ids import floor, id_time_ms
from tocsin.domain.model import OrganizationId, ProjectId

ROWS_SCANNED_MAX = 20_000

CLOCK_STEP_MS_MAX = 3_600_000
"""An id is never made below its row's time, and runs ahead of it when a clock was set back. By
more than this it is not looked for."""

AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

T = TypeVar("T")
U = TypeVar("U")


class Sight(Protocol):
    """What a call may see: one organization, and where `project_id` is set only that project."""

    @property
    def organization_id(self) -> OrganizationId: ...

    @property
    def project_id(self) -> ProjectId | None: ...


class Walked(Struct, Generic[T], frozen=True):
    """A page of rows; `next` is the id to continue below, None at the end.

    `scanned_to` is the time of the last row looked at when the walk stopped at its limit.
    """

    items: list[T]
    next: str | None = None
    scanned_to: int | None = None


Keep = Callable[[FromClause], Sequence[ColumnElement[bool]]]


def newest(
    connection: Connection,
    rows: AnySelect,
    id: ColumnElement[str],
    *,
    keep: Keep | None = None,
    limit: int,
    below: str | None,
) -> Walked[str]:
    """The ids of a page, newest first.

    `rows` selects everything in sight by an index that ends in `id`, first column `id`, and the
    columns that `keep` filters by. Those filters are applied after at most `ROWS_SCANNED_MAX`
    rows, so a filter that fits nothing can't walk a whole table.
    """
    if below is not None:
        rows = rows.where(id < below)
    rows = rows.order_by(id.desc())
    scan = rows.limit(ROWS_SCANNED_MAX).subquery("scan")
    conditions = [] if keep is None else list(keep(scan))
    found = list(
        connection.scalars(
            sa.select(scan.c.id).where(*conditions).order_by(scan.c.id.desc()).limit(limit + 1)
        )
    )
    if len(found) > limit:
        return Walked(items=found[:limit], next=found[limit - 1])
    if not conditions:
        return Walked(items=found)
    last = connection.scalar(rows.offset(ROWS_SCANNED_MAX - 1).limit(1))
    if last is None:
        return Walked(items=found)
    return Walked(items=found, next=last, scanned_to=id_time_ms(last))


def put(walked: Walked[str], items: list[U]) -> Walked[U]:
    """The same page with the rows themselves in the place of their ids."""
    return Walked(items=items, next=walked.next, scanned_to=walked.scanned_to)


def made_between(
    id: ColumnElement[str], created_at: ColumnElement[int], after: int | None, before: int | None
) -> list[ColumnElement[bool]]:
    """`after` ≤ created_at < `before`, with bounds on the id that an index can use."""
    conditions: list[ColumnElement[bool]] = []
    if after is not None:
        # The time itself is read only near the bound: in `events` it lies behind the payload.
        conditions += [
            id >= floor(after),
            sa.or_(id >= floor(after + CLOCK_STEP_MS_MAX), created_at >= after),
        ]
    if before is not None:
        conditions += [
            id < floor(before + CLOCK_STEP_MS_MAX),
            sa.or_(id < floor(before), created_at < before),
        ]
    return conditions

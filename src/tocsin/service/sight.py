"""What a call may see, and how lists are paged."""

from typing import Generic, TypeVar

from msgspec import Struct

from tocsin.domain.model import OrganizationId, ProjectId

T = TypeVar("T")


class Sight(Struct, frozen=True):
    """One organization, and where `project_id` is set only that project of it.

    Made once from the path and the credential; only this is used from there on.
    """

    organization_id: OrganizationId
    project_id: ProjectId | None = None


class Page(Struct, frozen=True):
    """Newest first: at most `limit` rows with an id below `below` (None: from the newest)."""

    limit: int = 50
    below: str | None = None


class Listing(Struct, Generic[T], frozen=True):
    """A page of rows; `next` continues it, None at the end.

    `scanned_to` (wall ms) is set when the walk stopped at its row limit before the page was full.
    """

    items: list[T]
    next: str | None = None
    scanned_to: int | None = None

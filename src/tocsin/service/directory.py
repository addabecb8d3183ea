"""Organizations and projects, and what a call may see of them."""

from msgspec import UNSET, UnsetType

from tocsin.domain.model import AuditEntry, Organization, Project
from tocsin.domain.permissions import Caller
from tocsin.service.sight import Listing, Page, Sight


class Directory:
    async def sight(
        self, caller: Caller, organization: str | None, project: str | None = None
    ) -> Sight:
        raise NotImplementedError

    async def project_in(self, sight: Sight, ref: str) -> Project:
        raise NotImplementedError

    async def create_organization(
        self, caller: Caller, *, name: str, slug: str | None = None
    ) -> Organization:
        raise NotImplementedError

    async def list_organizations(self, caller: Caller, page: Page) -> Listing[Organization]:
        raise NotImplementedError

    async def organization(self, caller: Caller, sight: Sight) -> Organization:
        raise NotImplementedError

    async def update_organization(
        self,
        caller: Caller,
        sight: Sight,
        *,
        name: str | UnsetType = UNSET,
        slug: str | UnsetType = UNSET,
    ) -> Organization:
        raise NotImplementedError

    async def delete_organization(
        self, caller: Caller, sight: Sight, *, confirm: str | None
    ) -> None:
        raise NotImplementedError

    async def create_project(
        self, caller: Caller, sight: Sight, *, name: str, slug: str | None = None
    ) -> Project:
        raise NotImplementedError

    async def list_projects(self, caller: Caller, sight: Sight, page: Page) -> Listing[Project]:
        raise NotImplementedError

    async def project(self, caller: Caller, sight: Sight, ref: str) -> Project:
        raise NotImplementedError

    async def update_project(
        self,
        caller: Caller,
        sight: Sight,
        ref: str,
        *,
        name: str | UnsetType = UNSET,
        slug: str | UnsetType = UNSET,
    ) -> Project:
        raise NotImplementedError

    async def delete_project(self, caller: Caller, sight: Sight, ref: str) -> None:
        raise NotImplementedError

    async def audit(self, caller: Caller, sight: Sight, page: Page) -> Listing[AuditEntry]:
        raise NotImplementedError

"""Keys: bearer credentials of an organization, optionally of one project."""

from typing import Literal

from tocsin.domain.model import Key, Role
from tocsin.domain.permissions import Caller
from tocsin.service.sight import Listing, Page, Sight


class Keys:
    async def create(
        self,
        caller: Caller,
        sight: Sight,
        *,
        name: str,
        role: Role | None = None,
        permissions: "list[str] | None" = None,
        project: str | None = None,
        expires_at: int | None = None,
        style: Literal["native", "hookstream"] = "native",
        scopes: str | None = None,
        live: bool = True,
    ) -> tuple[Key, str]:
        raise NotImplementedError

    async def delete(self, caller: Caller, sight: Sight, key_id: str) -> None:
        raise NotImplementedError

    async def list(self, caller: Caller, sight: Sight, page: Page) -> Listing[Key]:
        raise NotImplementedError

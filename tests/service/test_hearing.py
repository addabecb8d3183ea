"""What one node changes, another one hears of."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.storage.stores import ORGANIZATION, make_organization, open_store

from tocsin.domain.model import OrganizationId
from tocsin.service.hearing import Hearing
from tocsin.storage.tables import organizations

pytestmark = pytest.mark.anyio

OTHER = OrganizationId("b" * 24)


@pytest.mark.parametrize("driver", ["sqlite", "postgres"])
async def test_only_what_has_moved_on_is_told(driver: str, tmp_path: Path) -> None:
    told: list[OrganizationId] = []
    async with open_store(driver, tmp_path) as store:
        await make_organization(store)
        hearing = Hearing(store, told.append)
        await hearing.look()
        assert told == []
        await make_organization(store, OTHER)
        await hearing.look()
        await hearing.look()
        assert told == [OTHER]
        moved = (
            sa.update(organizations)
            .where(organizations.c.id == ORGANIZATION)
            .values(version=organizations.c.version + 1)
        )
        await store.write(lambda c: c.execute(moved).rowcount)
        await hearing.look()
        await hearing.look()
        assert told == [OTHER, ORGANIZATION]

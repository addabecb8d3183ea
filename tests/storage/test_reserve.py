"""Below the disk reserve nothing is added; what is held is settled all the same."""

from pathlib import Path

import pytest
from tests.storage.stores import (
    make_channel,
    make_organization,
    new_event,
    one,
    open_store,
    settlement,
)

from tocsin.domain.errors import Unavailable

pytestmark = pytest.mark.anyio

EVERYTHING = 1 << 62


async def test_only_what_grows_is_refused(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        event = new_event(channel)
        (added,) = await store.add([event])
        assert not isinstance(added, Exception)
    async with open_store("sqlite", tmp_path, reserve_bytes=EVERYTHING) as store:
        with pytest.raises(Unavailable, match="disk"):
            await store.add([new_event(channel)])
        claims = await store.claim(
            now_ms=1 << 45, room=10, bytes_max=1 << 20, lane_room=10, full=[]
        )
        (held,) = claims.held
        await store.settle([settlement(held)])
        assert await one(store, "SELECT status FROM deliveries") == {"status": "delivered"}

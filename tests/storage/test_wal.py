"""The write-ahead log stays small, whatever is read beside it."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.storage.stores import make_channel, make_organization, new_event, open_store

from tocsin.domain.errors import Unavailable

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.alone]

MIB = 1 << 20
BYTES_MAX = 256 * MIB
WRITTEN_BYTES = 700 * MIB
EVENT = b'"' + b"x" * 250_000 + b'"'
ADD_SECONDS_MAX = 20.0
"""Without an end to the reads it would be for ever; disks stall for seconds by themselves."""


LONG = """
    WITH RECURSIVE n(i) AS (SELECT count(*) FROM lanes UNION ALL SELECT i + 1 FROM n)
    SELECT max(i) FROM n
"""


def long_read(connection: sa.Connection) -> None:
    connection.execute(sa.text(LONG)).scalar()


async def test_the_log_is_bounded_under_overlapping_long_reads(tmp_path: Path) -> None:
    async with open_store("sqlite", tmp_path) as store:
        await make_organization(store)
        channel = await make_channel(store)
        done = False

        async def read(after_seconds: float) -> None:
            await asyncio.sleep(after_seconds)
            while not done:
                with suppress(Unavailable):
                    await store.read(long_read)

        readers = [asyncio.create_task(read(after)) for after in (0.0, 2.2)]
        top, slowest = 0, 0.0
        for _ in range(WRITTEN_BYTES // len(EVENT) // 20):
            began = time.monotonic()
            await store.add([new_event(channel, claim=False, data=EVENT) for _ in range(20)])
            slowest = max(slowest, time.monotonic() - began)
            top = max(top, os.stat(tmp_path / "tocsin.db-wal").st_size)
        done = True
        await asyncio.gather(*readers)
    assert top <= BYTES_MAX
    assert slowest < ADD_SECONDS_MAX

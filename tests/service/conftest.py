from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.service.parts import Parts, open_parts


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path) as opened:
        yield opened

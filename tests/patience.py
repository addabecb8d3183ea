"""Time for a busy machine: what a store in this process may take for a transaction is a minute.

Use the fixture `patience` where something else than these limits is tested.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tocsin.storage.postgres import core, session
from tocsin.storage.sqlite import readers

SECONDS = 60
LIMITS: tuple[tuple[Any, str, int], ...] = (
    (core, "READ_SECONDS_MAX", SECONDS),
    (core, "WRITE_SECONDS_MAX", SECONDS),
    (session, "CONNECT_SECONDS_MAX", SECONDS),
    (session, "ANSWER_SECONDS_MAX", SECONDS),
    (session, "STATEMENT_MS_MAX", SECONDS * 1000),
    (session, "CONTROL_STATEMENT_MS_MAX", SECONDS * 1000),
    (readers, "READ_SECONDS_MAX", SECONDS),
    (readers, "CROWDED_SECONDS_MAX", SECONDS),
)


@contextmanager
def patient() -> Iterator[pytest.MonkeyPatch]:
    """With this patience, and with whatever else is to be patched as long."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, limit in LIMITS:
            patch.setattr(module, name, limit)
        yield patch

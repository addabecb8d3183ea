"""That fairness is measured at all: one small pair. What it says is for `make bench`."""

import os
from pathlib import Path

import pytest
from bench.fairness import Asked, measure

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        "TOCSIN_TEST_EVERYTHING" not in os.environ, reason="TOCSIN_TEST_EVERYTHING is not set"
    ),
]


def test_one_pair_is_measured(tmp_path: Path) -> None:
    asked = Asked(
        folder=tmp_path,
        seconds=2.0,
        rounds=1,
        only=("one",),
        rate=20,
        waiting=200,
        channels_each=1,
    )
    found = measure(asked)
    (pair,) = found.pairs
    assert (pair.without.events, pair.with_it.events) == (40, 40)
    assert pair.stuck >= 1
    assert [verdict.scene for verdict in found.verdicts] == ["one"]
    assert not found.left_out

"""The journal of sends begun: what it says after any death, and whatever lies in its place."""

import os
import stat
from pathlib import Path

from tocsin.domain.model import DeliveryId
from tocsin.engine.journal import BYTES_READ_MAX, SendJournal

IDS = [DeliveryId(f"{n:024x}") for n in range(5)]


def test_it_knows_what_began_and_did_not_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with SendJournal(path, 4) as journal:
        journal.start()
        slots = [journal.begin(IDS[n], n + 1) for n in range(4)]
        assert not journal.free
        journal.end(slots[1])
        assert len(journal.free) == 1
    for slots_now in (1, 100):
        # A start that fails takes nothing away, with fewer slots neither.
        with SendJournal(path, slots_now) as journal:
            assert journal.began == {IDS[0]: 1, IDS[2]: 3, IDS[3]: 4}
    with SendJournal(path, 4) as journal:
        journal.start()
    with SendJournal(path, 4) as journal:
        assert journal.began == {}


def test_the_last_claim_of_a_delivery_counts(tmp_path: Path) -> None:
    """Its earlier slot may be emptied a moment after the next claim begins."""
    for order in ((7, 8), (8, 7)):
        with SendJournal(tmp_path / "journal", 4) as journal:
            journal.start()
            for claim in order:
                journal.begin(IDS[0], claim)
        with SendJournal(tmp_path / "journal", 4) as journal:
            assert journal.began == {IDS[0]: 8}


def test_a_foreign_file_does_not_stop_the_start(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for content in (b"", b"x", b"\xff" * 1_001, os.urandom(100_000)):
        path.write_bytes(content)
        path.chmod(0o644)
        with SendJournal(path, 10) as journal:
            journal.start()
            journal.begin(IDS[0], 3)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with SendJournal(path, 10) as journal:
            assert journal.began == {IDS[0]: 3}


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with SendJournal(path, 10) as journal:
        journal.start()
        journal.begin(IDS[0], 1)
        assert len(journal._map) == BYTES_READ_MAX

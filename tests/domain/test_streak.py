"""When a channel fails, when it has recovered, and what kind of trouble an error is."""

import pytest

from tocsin.domain import issues
from tocsin.domain.model import DeliveryId
from tocsin.domain.outcome import Reason
from tocsin.domain.streak import FAILING, FAILING_AFTER, RECOVERED, Streak, after


def failing(streak: Streak, *names: str, ended: bool = False) -> tuple[Streak, list[str]]:
    failed = [DeliveryId(name) for name in names]
    return after(streak, ended=ended, failed=failed, counted=len(set(names)))


def test_five_different_deliveries_in_a_row_are_told_once() -> None:
    streak, told = failing(Streak(), "a", "b", "c", "d")
    assert (streak.count, told) == (4, [])
    streak, told = failing(streak, "a", "b", "c", "d", "a")
    assert (streak.count, told) == (4, [])
    streak, told = failing(streak, "e")
    assert (streak.count, streak.told, told) == (5, True, [FAILING])
    streak, told = failing(streak, "f", "g")
    assert (streak.count, told) == (7, [])
    assert len(streak.deliveries) == FAILING_AFTER


def test_a_success_begins_anew() -> None:
    streak, _ = failing(Streak(), "a", "b", "c", "d")
    streak, told = failing(streak, "e", ended=True)
    assert (streak.deliveries, streak.count, told) == (("e",), 1, [])


def test_the_first_success_after_it_was_told_is_told() -> None:
    streak, _ = failing(Streak(), *"abcde")
    streak, told = failing(streak, ended=True)
    assert (streak, told) == (Streak(), [RECOVERED])
    assert failing(streak, ended=True) == (Streak(), [])


def test_both_in_one_batch_come_in_order() -> None:
    streak, _ = failing(Streak(), *"abcde")
    assert failing(streak, *"fghij", ended=True)[1] == [RECOVERED, FAILING]


def test_a_change_of_settings_is_no_recovery() -> None:
    reset = Streak((), 0, told=True)
    streak, told = failing(reset, *"abcde")
    assert (streak.told, told) == (True, [])
    assert failing(reset, ended=True)[1] == [RECOVERED]


def test_a_streak_from_before_its_deliveries_were_kept_goes_on() -> None:
    streak, told = failing(Streak((), 7), "a")
    assert (streak.count, told) == (8, [])


@pytest.mark.parametrize(
    ("error", "status_code", "kind"),
    [
        ("http_status: 500", 500, "http_500"),
        ("http_status: 404", 404, "http_404"),
        ("http_status", None, "http_status"),
        ("timeout", None, "timeout"),
        ("timeout: 15 s", None, "timeout"),
        ("name_not_resolved: no such name", None, "name_not_resolved"),
        ("target_refused: channel_is_archived", 200, "target_refused"),
        ("resent (sent again)", 503, "http_503"),
        (None, 502, "http_502"),
        (None, None, "unknown"),
    ],
)
def test_the_kind_of_an_error(error: str | None, status_code: int | None, kind: str) -> None:
    assert issues.fingerprint(error, status_code) == kind


def test_every_kind_has_a_title() -> None:
    titles = [issues.title(kind) for kind in (*Reason, issues.BREAKER_OPEN, "http_503", "unknown")]
    assert all(titles)
    assert issues.title("http_503") == "The target answers HTTP 503"

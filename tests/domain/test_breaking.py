"""When a breaker moves: by whom, and after how many different deliveries."""

import pytest

from tocsin.domain.breaking import OPEN, PROBING, BreakerState, Effect, Told, effect_of, moved
from tocsin.domain.model import Breaker, DeliveryId, Origin
from tocsin.domain.outcome import BREAKER_REASONS, Reason

CLOSED = BreakerState()
THREE = Breaker(failures=3, cooldown_seconds=10)


def ids(*names: str) -> list[DeliveryId]:
    return [DeliveryId(name) for name in names]


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 408, 410, 425, 451])
def test_any_reply_but_429_and_5xx_closes(status: int) -> None:
    delivered = status < 300
    effect = effect_of(Origin.EVENT, delivered=delivered, status_code=status, error=None)
    assert effect is Effect.CLOSES


@pytest.mark.parametrize("status", [429, 500, 502, 503, 599])
def test_too_many_and_server_errors_fail(status: int) -> None:
    effect = effect_of(Origin.EVENT, delivered=False, status_code=status, error="http_status")
    assert effect is Effect.FAILS


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("text", ["{}", "{}: more", "{} (a note)"])
def test_without_a_reply_the_reason_decides(reason: Reason, text: str) -> None:
    error = text.format(reason)
    effect = effect_of(Origin.EVENT, delivered=False, status_code=None, error=error)
    assert effect is (Effect.FAILS if reason in BREAKER_REASONS else Effect.LEAVES)


@pytest.mark.parametrize("origin", [Origin.TEST, Origin.ALERT, Origin.OPERATIONAL])
@pytest.mark.parametrize("delivered", [True, False])
def test_other_origins_leave_it(origin: Origin, delivered: bool) -> None:
    status = 204 if delivered else 500
    effect = effect_of(origin, delivered=delivered, status_code=status, error=None)
    assert effect is Effect.LEAVES


def test_it_opens_after_as_many_different_deliveries() -> None:
    state = moved(CLOSED, Told(ids("a", "b", "a", "a"), []), THREE, 1_000)
    assert state == BreakerState(None, 0, None, ("a", "b"))
    state = moved(state, Told(ids("c"), []), THREE, 1_000)
    assert (state.state, state.until_ms) == (OPEN, 11_000)


def test_off_counts_nothing() -> None:
    assert moved(CLOSED, Told(ids("a", "b", "c"), []), None, 1_000) == CLOSED


def test_while_it_is_open_only_its_probe_counts() -> None:
    probing = BreakerState(PROBING, 61_000, "p", ("a", "b", "c"))
    assert moved(probing, Told(ids("a", "x"), []), THREE, 5_000) == probing
    for told in (Told(ids("p"), []), Told([], ids("p"))):
        after = moved(probing, told, THREE, 5_000)
        assert (after.state, after.until_ms, after.probe) == (OPEN, 15_000, None)
    waiting = BreakerState(OPEN, 11_000, None, ("a", "b", "c"))
    assert moved(waiting, Told(ids("x"), []), THREE, 9_000) == waiting

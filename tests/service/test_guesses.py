"""How often a password may be guessed, and what the audit says of it."""

import pytest
from tests.service.parts import OPERATOR, MovableClock, Parts
from tests.web.people import new_id, new_user

from tocsin.domain.errors import RateLimited, Unavailable
from tocsin.domain.model import Role
from tocsin.domain.people import MemberId, UserId, Visitor
from tocsin.domain.permissions import Caller
from tocsin.limits import Failures
from tocsin.service.guesses import WINDOW_SECONDS, Guesses
from tocsin.service.sight import Page
from tocsin.storage.control import members, users

pytestmark = pytest.mark.anyio


async def no() -> bool:
    return False


async def yes() -> bool:
    return True


async def away() -> bool:
    raise Unavailable


def at(bucket: str) -> Visitor:
    return Visitor(address=bucket, bucket=bucket)


def test_failures_leave_the_window_one_by_one() -> None:
    time = [1.0]
    failures = Failures(2, 10.0, lambda: time[0])
    failures.begin("a")
    time[0] = 5.0
    assert failures.wait("a") == 0
    failures.begin("a")
    assert failures.wait("a") == 6
    assert failures.wait("b") == 0
    time[0] = 11.5
    assert failures.wait("a") == 0
    failures.begin("a")
    assert failures.wait("a") == 4
    failures.succeeded("a")
    assert failures.wait("a") == 0
    failures.begin("a")
    failures.succeeded("a", wholly=True)
    failures.begin("a")
    assert failures.wait("a") == 0


def test_failures_take_bounded_memory() -> None:
    failures = Failures(1, 10.0, lambda: 0.0, names_max=3)
    for name in "abcd":
        failures.begin(name)
    assert [failures.wait(name) > 0 for name in "abcd"] == [False, True, True, True]
    off = Failures(0, 10.0, lambda: 0.0)
    off.begin("a")
    assert off.wait("a") == 0


async def test_an_account_refuses_strangers_but_not_its_owners_devices(parts: Parts) -> None:
    guesses = Guesses(changes=parts.changes)
    for number in range(10):
        visitor = at(f"network {number % 3}")
        assert not await guesses.check("a@b", visitor, no, known_place=False)
    for visitor in (at("network 1"), at("another")):
        with pytest.raises(RateLimited) as refused:
            await guesses.check("a@b", visitor, yes, known_place=False)
        assert 0 < refused.value.retry_after_seconds <= WINDOW_SECONDS
    assert await guesses.check("a@b", at("home"), yes, known_place=True)
    assert await guesses.check("c@d", at("another"), yes, known_place=False)
    assert isinstance(parts.clock, MovableClock)
    parts.clock.ahead_ms += int(WINDOW_SECONDS * 1000) + 1
    assert await guesses.check("a@b", at("network 1"), yes, known_place=False)


async def test_an_address_can_try_no_more_than_thirty_accounts(parts: Parts) -> None:
    guesses = Guesses(changes=parts.changes)
    for number in range(30):
        assert not await guesses.check(f"{number}@b", at("here"), no, known_place=False)
    with pytest.raises(RateLimited):
        await guesses.check("31@b", at("here"), yes, known_place=False)
    assert await guesses.check("31@b", at("there"), yes, known_place=False)


async def test_success_clears_and_what_nobody_looked_at_does_not_count(parts: Parts) -> None:
    guesses = Guesses(changes=parts.changes)
    for _ in range(3):
        for _ in range(9):
            assert not await guesses.check("a@b", at("here"), no, known_place=False)
        assert await guesses.check("a@b", at("here"), yes, known_place=False)
    for _ in range(40):
        with pytest.raises(Unavailable):
            await guesses.check("a@b", at("here"), away, known_place=False)
    assert await guesses.check("a@b", at("here"), yes, known_place=False)


async def test_failures_reach_the_audit_of_the_users_organizations_once(parts: Parts) -> None:
    sights = [await parts.organization("One"), await parts.organization("Two")]
    user = new_user()

    def make(connection: object) -> None:
        users.create(connection, user, password_hash=None)  # type: ignore[arg-type]
        for sight in sights:
            members.create(
                connection,  # type: ignore[arg-type]
                sight,
                id=MemberId(new_id()),
                user_id=user.id,
                role=Role.VIEWER,
                now_ms=1,
            )

    await parts.store.write(make)
    guesses = Guesses(changes=parts.changes)
    stranger = Caller(kind="stranger", address="203.0.113.9")
    for _ in range(500):
        guesses.failed(stranger, user.id, at("203.0.113.9"))
    for number in range(5000):
        guesses.failed(stranger, UserId(f"{number:024x}"), at("203.0.113.9"))
    for _ in range(11):
        await guesses.flush()
    for sight in sights:
        entries = (await parts.directory.audit(OPERATOR, sight, Page())).items
        found = [one for one in entries if one.action == "user.sign_in_failed"]
        assert [(one.target_id, one.changes, one.actor_kind) for one in found] == [
            (user.id, {"tries": 500}, "stranger")
        ]

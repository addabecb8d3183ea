"""Sessions in time: they slide, they end, and what is kept of them is never too old."""

import pytest
from tests.service.parts import OPERATOR, MovableClock, Parts
from tests.web.people import new_id, new_user

from tocsin.domain.errors import ExpiredToken, InvalidToken
from tocsin.domain.model import Role
from tocsin.domain.people import MemberId, User, Visitor
from tocsin.domain.permissions import Caller
from tocsin.service.sessions import DAY_MS, SESSIONS_PER_USER_MAX, SLIDE_MS
from tocsin.service.sight import Page, Sight
from tocsin.storage.control import members, sessions, users

pytestmark = pytest.mark.anyio


class Somebody:
    """A user with a role in a new organization."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.user: User = new_user()
        assert isinstance(parts.clock, MovableClock)
        self.clock = parts.clock

    async def set_up(self) -> "Somebody":
        self.sight: Sight = await self.parts.organization("Acme")
        await self.parts.store.write(lambda c: users.create(c, self.user, password_hash=None))
        await self.parts.store.write(
            lambda c: members.create(
                c,
                self.sight,
                id=MemberId(new_id()),
                user_id=self.user.id,
                role=Role.VIEWER,
                now_ms=1,
            )
        )
        return self

    async def open(self) -> str:
        opened = self.parts.sessions.open(self.user.id, Visitor(), self.sight.organization_id)
        await self.parts.store.write(opened.store)
        return opened.token

    async def enter(self, token: str) -> Caller:
        return await self.parts.sessions.authenticate(token, dialect="native", address=None)

    async def days_later(self, days: float) -> None:
        self.clock.ahead_ms += int(days * DAY_MS)


@pytest.fixture
async def ann(parts: Parts) -> Somebody:
    return await Somebody(parts).set_up()


async def test_a_session_slides_with_use_and_ends_in_any_case(ann: Somebody) -> None:
    used, idle = await ann.open(), await ann.open()
    for _ in range(3):
        await ann.days_later(29)
        assert (await ann.enter(used)).id == ann.user.id
    with pytest.raises(ExpiredToken):
        await ann.enter(idle)
    await ann.days_later(3.01)
    with pytest.raises(ExpiredToken):
        await ann.enter(used)


async def test_its_use_is_written_at_most_once_an_hour(ann: Somebody) -> None:
    token = await ann.open()
    caller = await ann.enter(token)

    async def seen_at() -> int:
        (one,) = (await ann.parts.sessions.list(caller, Page())).items
        return one.seen_at

    first = await seen_at()
    ann.clock.ahead_ms += SLIDE_MS // 2
    await ann.enter(token)
    assert await seen_at() == first
    ann.clock.ahead_ms += SLIDE_MS
    await ann.enter(token)
    assert await seen_at() > first


async def test_what_is_kept_is_a_second_old_at_most(ann: Somebody) -> None:
    """Another node may have ended it: this one is not told."""
    token = await ann.open()
    caller = await ann.enter(token)
    known = ann.parts.sessions.cached(token, dialect="hookstream", address="203.0.113.9")
    assert known is not None
    assert (known.id, known.dialect, known.address) == (caller.id, "hookstream", "203.0.113.9")
    await ann.parts.store.write(
        lambda c: sessions.end_all(c, ann.user.id, now_ms=ann.clock.wall_ms())
    )
    ann.clock.ahead_ms += 1_001
    assert ann.parts.sessions.cached(token, dialect="native", address=None) is None
    with pytest.raises(InvalidToken):
        await ann.enter(token)


async def test_what_ends_here_is_void_here_at_once(ann: Somebody) -> None:
    token, other = await ann.open(), await ann.open()
    caller, second = await ann.enter(token), await ann.enter(other)
    await ann.parts.sessions.end(second, caller.session_id)
    with pytest.raises(InvalidToken):
        await ann.enter(token)
    assert (await ann.enter(other)).id == ann.user.id
    # A change that was let in before it ended is not made any more.
    with pytest.raises(InvalidToken):
        await ann.parts.directory.create_project(
            Caller(
                kind="session",
                organization_id=ann.sight.organization_id,
                grants=("*",),
                id=caller.id,
                session_id=caller.session_id,
            ),
            ann.sight,
            name="late",
        )


async def test_one_person_has_a_bounded_number_of_them(ann: Somebody) -> None:
    first = await ann.open()
    last = [await ann.open() for _ in range(SESSIONS_PER_USER_MAX)][-1]
    with pytest.raises(InvalidToken):
        await ann.enter(first)
    caller = await ann.enter(last)
    listed = await ann.parts.sessions.list(caller, Page(200))
    assert len(listed.items) == SESSIONS_PER_USER_MAX


async def test_tidying_removes_what_is_too_old_and_no_more(ann: Somebody) -> None:
    token = await ann.open()
    people = ann.parts.people
    made = await ann.parts.members.invite(
        OPERATOR, ann.sight, email="x@y.example", role=Role.VIEWER
    )
    assert await people.tidy(audit_days=1) == 0
    await ann.days_later(29)
    assert await people.tidy(audit_days=400) == 1  # the link
    assert (await ann.enter(token)).id == ann.user.id
    entries = (await ann.parts.directory.audit(OPERATOR, ann.sight, Page())).items
    assert [one.action for one in entries] == ["member.create", "organization.create"]
    assert made.link.email in str(entries)
    assert await people.tidy(audit_days=28) == 2
    await ann.days_later(62)
    assert await people.tidy(audit_days=400) == 1

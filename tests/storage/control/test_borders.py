"""Nothing crosses the border of an organization, nor of a project: every function of the control
plane that takes a sight is called with somebody else's ids, on both databases."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import asdict, replace
from sqlalchemy import Connection
from tests.storage.control.databases import Database

from tocsin.domain.alerts import AlertRule, Trigger
from tocsin.domain.errors import NotFound
from tocsin.domain.model import (
    AuditEntry,
    Breaker,
    Channel,
    ChannelId,
    Condition,
    Delivery,
    DeliveryId,
    Event,
    EventId,
    Format,
    IssueId,
    IssueStatus,
    JobId,
    Key,
    KeyId,
    Organization,
    OrganizationId,
    Project,
    ProjectId,
    RateLimit,
    Role,
)
from tocsin.domain.people import (
    Link,
    LinkId,
    LinkKind,
    MemberId,
    Session,
    SessionId,
    User,
    UserId,
)
from tocsin.storage.control import (
    alert_rules,
    alerting,
    audit,
    channels,
    deliveries,
    events,
    issues,
    jobs,
    keys,
    lanes,
    links,
    members,
    organizations,
    outbox,
    projects,
    sessions,
    statistics,
    users,
    work,
)
from tocsin.storage.migrations import migrate
from tocsin.storage.tables import metadata

pytestmark = pytest.mark.anyio

MODULES = (
    *(
        audit,
        channels,
        deliveries,
        events,
        issues,
        jobs,
        keys,
        lanes,
        members,
        organizations,
        statistics,
    ),
    *(alert_rules, alerting, outbox, projects),
)


class Sight(Struct, frozen=True):
    organization_id: OrganizationId
    project_id: ProjectId | None = None


def id_of(letter: str, number: int) -> str:
    return letter * 20 + f"{number:04x}"


class World:
    """One organization with one of everything."""

    def __init__(self, letter: str) -> None:
        self.letter = letter
        self.organization_id = OrganizationId(id_of(letter, 1))
        self.project_id = ProjectId(id_of(letter, 2))
        self.key_id = KeyId(id_of(letter, 3))
        self.channel_id = ChannelId(id_of(letter, 4))
        self.event_id = EventId(id_of(letter, 5))
        self.delivery_id = DeliveryId(id_of(letter, 6))
        self.job_id = JobId(id_of(letter, 7))
        self.audit_id = id_of(letter, 8)
        self.member_id = MemberId(id_of(letter, 9))
        self.user_id = UserId(id_of(letter, 10))
        self.issue_id = IssueId(id_of(letter, 11))
        self.rule_id = id_of(letter, 13)
        self.sight = Sight(self.organization_id)

    def channel(self) -> Channel:
        return Channel(
            id=self.channel_id,
            organization_id=self.organization_id,
            project_id=self.project_id,
            type="webhook",
            name="hook",
            description=None,
            event_types=("a.*",),
            filter=(Condition("a", "eq", True),),
            format=Format.TOCSIN,
            schedule=("5s",),
            timeout_seconds=2.5,
            rate_limit=RateLimit(1, 2),
            max_in_flight=3,
            ordered=False,
            breaker=Breaker(4, 5),
            enabled=True,
            disabled_reason=None,
            sealed=b"sealed",
            version=1,
            created_at=1,
            updated_at=2,
        )

    def make(self, connection: Connection) -> None:
        sight = self.sight
        organizations.create(
            connection,
            Organization(
                id=self.organization_id,
                name=self.letter,
                slug=self.letter,
                created_at=1,
                updated_at=1,
            ),
        )
        projects.create(connection, sight, self.project())
        keys.create(connection, sight, self.key(), token_hash=self.letter)
        channels.create(connection, sight, self.channel())
        lanes.create(connection, sight, self.channel_id, version=1, enabled=True)
        deliveries.insert_test(
            connection,
            sight,
            self.event(),
            delivery_id=self.delivery_id,
            channel_id=self.channel_id,
            node=1,
            due_ms=1,
        )
        row = {
            "delivery_id": self.delivery_id,
            "claim": 1,
            "organization_id": self.organization_id,
            "number": 1,
            "started_at": 1,
            "duration_ms": 1,
            "outcome": "delivered",
            "superseded": False,
            "response_body": "secret",
        }
        connection.execute(sa.insert(metadata.tables["attempts"]).values(row))
        jobs.create(
            connection,
            sight,
            id=self.job_id,
            kind=work.CANCEL_BACKLOG,
            channel_id=self.channel_id,
            internal=False,
            arguments={"through": "f"},
            now_ms=1,
        )
        audit.record(connection, sight, self.entry())
        users.create(connection, self.user(), password_hash=None)
        self.join(connection, sight)
        self.count(connection)
        connection.execute(sa.insert(metadata.tables["issues"]).values(self.issue()))
        alert_rules.create(connection, sight, self.rule())
        connection.execute(sa.insert(metadata.tables["alert_history"]).values(asdict(self.told())))

    def count(self, connection: Connection) -> None:
        """Statistics of the channel and the project, one row of each age."""
        place = {"minute": 60, "organization_id": self.organization_id}
        tried = dict.fromkeys(("attempts", "failed", "delivered", "exhausted"), 1)
        accepted = {"accepted": 1, "unmatched": 0}
        for age in ("minutes", "hours", "days"):
            node = {"node": 1} if age == "minutes" else {}
            of_channel = {"channel_id": self.channel_id, **place, **node, **tried}
            connection.execute(sa.insert(metadata.tables[f"channel_{age}"]).values(of_channel))
            of_project = {"project_id": self.project_id, **place, **node, **accepted}
            connection.execute(sa.insert(metadata.tables[f"project_{age}"]).values(of_project))

    def rule(self) -> AlertRule:
        return AlertRule(
            id=self.rule_id,
            organization_id=self.organization_id,
            project_id=self.project_id,
            name="rule",
            description=None,
            rule_type="dlq",
            rule_config='{"threshold":1}',
            source_id=self.project_id,
            destination_id=self.channel_id,
            channel_ids=(self.channel_id,),
            cooldown_minutes=1,
            enabled=True,
            version=1,
            evaluated_minute=1,
            created_at=1,
            updated_at=1,
        )

    def told(self) -> Trigger:
        return Trigger(
            id=id_of(self.letter, 14),
            organization_id=self.organization_id,
            project_id=self.project_id,
            alert_rule_id=self.rule_id,
            trigger_reason="so it is",
            trigger_data="{}",
            channels_notified="[]",
            created_at=1,
        )

    def issue(self, **values: Any) -> dict[str, Any]:
        """A row of the channel."""
        times = ("first_seen_at", "last_seen_at", "opened_at", "created_at", "updated_at")
        return {
            "id": self.issue_id,
            "organization_id": self.organization_id,
            "project_id": self.project_id,
            "channel_id": self.channel_id,
            "fingerprint": "timeout",
            "title": "The target did not answer in time",
            "status": "open",
            "occurrence_count": 1,
            **dict.fromkeys(times, 1),
            **values,
        }

    def user(self) -> User:
        return User(
            id=self.user_id,
            email=f"{self.letter}@example.com",
            name=self.letter,
            has_password=False,
            created_at=1,
            updated_at=1,
        )

    def join(self, connection: Connection, sight: Any) -> None:
        members.create(
            connection,
            sight,
            id=self.member_id,
            user_id=self.user_id,
            role=Role.DEVELOPER,
            now_ms=1,
        )

    def project(self) -> Project:
        return Project(
            id=self.project_id,
            organization_id=self.organization_id,
            name="App",
            slug="app",
            created_at=1,
            updated_at=1,
        )

    def key(self) -> Key:
        return Key(
            id=self.key_id,
            organization_id=self.organization_id,
            project_id=self.project_id,
            name="k",
            role=Role.VIEWER,
            permissions=("a.b",),
            scopes=None,
            token_prefix="toc_",
            expires_at=None,
            last_used_at=None,
            request_count=0,
            created_at=1,
        )

    def event(self) -> Event:
        return Event(
            id=self.event_id,
            organization_id=self.organization_id,
            project_id=self.project_id,
            type="tocsin.test",
            data=b"{}",
            occurred_at=1,
            created_at=1,
        )

    def entry(self) -> AuditEntry:
        return AuditEntry(
            id=self.audit_id,
            organization_id=self.organization_id,
            at=1,
            actor_kind="key",
            actor_id=None,
            actor_name="k",
            dialect="native",
            address=None,
            action="channel.create",
            target_kind="channel",
            target_id=self.channel_id,
            changes={"name": "x"},
        )

    def task(self) -> jobs.Task:
        return jobs.Task(
            id=self.job_id,
            organization_id=self.organization_id,
            kind=work.CANCEL_BACKLOG,
            channel_id=self.channel_id,
            arguments={"through": "f" * 24},
            position="",
            created_at=1,
        )


A, B = World("a"), World("b")
NOW = deliveries.Now(storage_ms=10, wall_ms=10, nodes=(1,))
PAGE: dict[str, Any] = {"limit": 50, "below": None}
MINUTES: dict[str, Any] = {"since_minute": 0, "until_minute": 1_440, "size": 60}
NUMBERED: dict[str, Any] = {"sort": "updatedAt", "descending": False, "offset": 0, "limit": 10}


def delivery_of(connection: Connection, world: World) -> Delivery:
    return deliveries.get(connection, world.sight, NOW, world.delivery_id)


# Each calls one function with the sight of somebody and the ids of A. `HIDES` are the answers that
# mean "there is no such thing"; None of them may change anything of A.
Call = Callable[[Connection, Sight], Any]
BORDERS: dict[str, Call] = {
    "alert_rules.get": lambda c, s: alert_rules.get(c, s, A.rule_id),
    "alert_rules.walk": lambda c, s: alert_rules.walk(c, s, **PAGE).items,
    "alert_rules.walk of a project": lambda c, s: (
        alert_rules.walk(c, s, project_id=A.project_id, **PAGE).items
    ),
    "alert_rules.count": lambda c, s: alert_rules.count(c, s),
    "alert_rules.replace": lambda c, s: alert_rules.replace(
        c, s, replace(A.rule(), name="taken", version=9)
    ),
    "alert_rules.delete": lambda c, s: alert_rules.delete(c, s, A.rule_id),
    "alert_rules.channels_gone": lambda c, s: alert_rules.channels_gone(
        c, s, [A.channel_id], now_ms=5
    ),
    "alert_rules.project_gone": lambda c, s: alert_rules.project_gone(c, s, A.project_id, now_ms=5),
    "alert_rules.history": lambda c, s: alert_rules.history(c, s, A.rule_id, limit=9),
    "alerting.conclude": lambda c, s: alerting.conclude(c, s, A.rule(), minute=9, trigger=A.told()),
    "audit.walk": lambda c, s: audit.walk(c, s, **PAGE).items,
    "channels.get": lambda c, s: channels.get(c, s, A.channel_id),
    "channels.walk": lambda c, s: channels.walk(c, s, **PAGE).items,
    "channels.walk of projects": lambda c, s: (
        channels.walk(c, s, level=channels.PROJECTS, **PAGE).items
    ),
    "channels.page": lambda c, s: channels.page(c, s, **NUMBERED)[0],
    "channels.count": lambda c, s: channels.count(c, s),
    "channels.replace": lambda c, s: channels.replace(
        c, s, replace(A.channel(), name="taken", version=9), expected_version=1
    ),
    "channels.delete": lambda c, s: channels.delete(c, s, A.channel_id, now_ms=5),
    "deliveries.walk": lambda c, s: deliveries.walk(c, s, NOW, **PAGE).items,
    "deliveries.walk by channel": lambda c, s: (
        deliveries.walk(c, s, NOW, channel_id=A.channel_id, **PAGE).items
    ),
    "deliveries.of_event": lambda c, s: deliveries.of_event(c, s, NOW, A.event_id, limit=9),
    "deliveries.get": lambda c, s: deliveries.get(c, s, NOW, A.delivery_id),
    "deliveries.attempts_of": lambda c, s: [
        attempt
        for attempt in deliveries.attempts_of(c, s, delivery_of(c, A), limit=9)
        if attempt.response_body is not None
    ],
    "deliveries.reopen": lambda c, s: deliveries.reopen(c, s, NOW, A.delivery_id),
    "events.walk": lambda c, s: events.walk(c, s, **PAGE).items,
    "events.get": lambda c, s: events.get(c, s, A.event_id),
    "events.exists": lambda c, s: events.exists(c, s, A.event_id),
    "issues.page": lambda c, s: issues.page(c, s, offset=0, limit=9)[0],
    "issues.summary": lambda c, s: list(issues.summary(c, s)),
    "issues.get": lambda c, s: issues.get(c, s, A.issue_id),
    "issues.change": lambda c, s: issues.change(
        c, s, A.issue_id, status=IssueStatus.RESOLVED, snoozed_until=9, resolved_at=9, now_ms=9
    ),
    "jobs.walk": lambda c, s: jobs.walk(c, s, **PAGE).items,
    "jobs.get": lambda c, s: jobs.get(c, s, A.job_id),
    "jobs.cancel": lambda c, s: jobs.cancel(c, s, A.job_id, now_ms=5),
    "jobs.count": lambda c, s: jobs.count(c, s),
    "jobs.task": lambda c, s: jobs.task(c, s, A.job_id),
    "jobs.advance": lambda c, s: jobs.advance(c, s, A.task(), position="x", rows=1, finished_at=5),
    "jobs.fail": lambda c, s: jobs.fail(c, s, A.job_id, now_ms=5),
    "keys.get": lambda c, s: keys.get(c, s, A.key_id),
    "keys.walk": lambda c, s: keys.walk(c, s, **PAGE).items,
    "keys.walk with revoked ones": lambda c, s: keys.walk(c, s, revoked=True, **PAGE).items,
    "keys.revoke_of_project": lambda c, s: keys.revoke_of_project(c, s, A.project_id, now_ms=5),
    "keys.count": lambda c, s: keys.count(c, s),
    "keys.revoke": lambda c, s: keys.revoke(c, s, A.key_id, now_ms=5),
    "lanes.change": lambda c, s: lanes.change(c, s, A.channel_id, version=9, reset=True),
    "lanes.describe": lambda c, s: lanes.describe(
        c, s, replace(A.channel(), ordered=True, breaker=None)
    ),
    "lanes.close_breaker": lambda c, s: lanes.close_breaker(c, s, A.channel_id),
    "lanes.park": lambda c, s: lanes.park(c, s, A.channel_id, version=9),
    "lanes.open": lambda c, s: lanes.open(
        c, s, A.channel_id, version=9, backlog_through="f", now_ms=1
    ),
    "lanes.cancel_backlog": lambda c, s: lanes.cancel_backlog(c, s, A.channel_id, through=None),
    "lanes.backlog_cancelled": lambda c, s: lanes.backlog_cancelled(
        c, s, A.channel_id, through="f"
    ),
    "lanes.close": lambda c, s: lanes.close(c, s, [A.channel_id]),
    "members.get": lambda c, s: members.get(c, s, A.member_id),
    "members.walk": lambda c, s: members.walk(c, s, **PAGE).items,
    "members.count": lambda c, s: members.count(c, s),
    "members.set_role": lambda c, s: members.set_role(c, s, A.member_id, role=Role.ADMIN, now_ms=5),
    "members.delete": lambda c, s: members.delete(c, s, A.member_id),
    "organizations.get": lambda c, s: organizations.get(c, s).id == A.organization_id,
    "organizations.touch": lambda c, s: organizations.touch(c, s),
    "organizations.version": lambda c, s: organizations.version(c, s),
    "organizations.update": lambda c, s: organizations.update(
        c, s, name="taken", slug="taken", now_ms=5
    ),
    "organizations.delete": lambda c, s: organizations.delete(c, s, now_ms=5),
    "projects.find": lambda c, s: projects.find(c, s, id=A.project_id),
    "projects.get": lambda c, s: projects.get(c, s, A.project_id),
    "projects.walk": lambda c, s: projects.walk(c, s, **PAGE).items,
    "projects.count": lambda c, s: projects.count(c, s),
    "projects.free_slug": lambda c, s: (
        None if projects.free_slug(c, s, ["app"]) else "taken here too"
    ),
    "projects.update": lambda c, s: projects.update(
        c, s, A.project_id, name="taken", slug="taken", now_ms=5
    ),
    "projects.delete": lambda c, s: projects.delete(c, s, A.project_id, now_ms=5),
    "statistics.channels_of": lambda c, s: statistics.channels_of(
        c, s, project_id=None, above="", limit=9
    ),
    "statistics.channel_series": lambda c, s: list(
        statistics.channel_series(c, s, [A.channel_id], **MINUTES)
    ),
    "statistics.project_series": lambda c, s: list(
        statistics.project_series(c, s, project_id=None, **MINUTES)
    ),
    "statistics.project_series of a project": lambda c, s: list(
        statistics.project_series(c, s, project_id=A.project_id, **MINUTES)
    ),
}
INSERTS = {
    "alert_rules.create",
    "audit.record",
    "channels.create",
    "deliveries.insert_test",
    "events.insert",
    "jobs.create",
    "keys.create",
    "lanes.create",
    "members.create",
    "outbox.put",
    "projects.create",
}
"""They write the organization in sight into their row, whatever the value says; tested below."""

OF_THE_WHOLE = {"audit.walk", "members.get", "members.walk"}
"""With a project in sight there is nothing of it to see."""

WHOLE = {
    "alert_rules.count",
    "members.count",
    "projects.count",
    "keys.count",
    "channels.count",
    "jobs.count",
} | {"projects.free_slug"}
"""They answer for the whole organization, whatever project is in sight: quotas and slugs do."""


def functions_with_a_sight() -> set[str]:
    def named(module: ModuleType) -> set[str]:
        short = module.__name__.rpartition(".")[2]
        return {
            f"{short}.{name}"
            for name, function in inspect.getmembers(module, inspect.isfunction)
            if function.__module__ == module.__name__
            and not name.startswith("_")
            and "sight" in inspect.signature(function).parameters
        }

    return set().union(*map(named, MODULES))


def test_every_function_that_takes_a_sight_is_listed_here() -> None:
    listed = {name.partition(" ")[0] for name in BORDERS} | INSERTS
    assert functions_with_a_sight() == listed


def test_the_sight_comes_right_after_the_connection() -> None:
    for name in functions_with_a_sight():
        module, _, function = name.partition(".")
        by_name = {m.__name__.rpartition(".")[2]: m for m in MODULES}
        parameters = list(inspect.signature(getattr(by_name[module], function)).parameters)
        assert parameters[:2] == ["connection", "sight"], name


@pytest.fixture
async def filled(database: Database) -> Database:
    """Everything of A; of a third organization only itself."""

    def fill(connection: Connection) -> None:
        migrate(connection)
        A.make(connection)
        organizations.create(
            connection,
            Organization(id=B.organization_id, name="b", slug="b", created_at=1, updated_at=1),
        )

    await database.run(fill)
    return database


def everything(connection: Connection) -> list[Any]:
    """All rows of all tables that belong to A."""
    found: list[Any] = []
    for table in metadata.sorted_tables:
        column = "id" if table.name == "organizations" else "organization_id"
        if column in table.c:
            rows = connection.execute(sa.select(table).where(table.c[column] == A.organization_id))
            found += [(table.name, *row) for row in rows]
    return found


def hidden(answer: Any) -> bool:
    return answer is None or answer is False or answer == [] or answer == 0


async def check(database: Database, sight: Sight, name: str) -> None:
    before = await database.run(everything)
    assert len(before) >= 9

    def call(connection: Connection) -> Any:
        try:
            return BORDERS[name](connection, sight)
        except NotFound:
            return None

    answer = await database.run(call)
    if sight.organization_id != B.organization_id or name not in (
        "organizations.touch",
        "organizations.version",
    ):
        assert hidden(answer), name
    assert await database.run(everything) == before


async def test_another_organization_sees_and_changes_nothing(filled: Database) -> None:
    for name in BORDERS:
        await check(filled, B.sight, name)


async def test_another_project_sees_and_changes_nothing(filled: Database) -> None:
    elsewhere = Sight(A.organization_id, ProjectId("0" * 24))
    for name in BORDERS:
        if name.startswith(("organizations.", "lanes.")) or name in WHOLE:
            continue  # of the organization; the channel of a lane has been looked up before
        if name in ("jobs.task", "jobs.advance", "jobs.fail", "events.exists"):
            continue  # of a job or a delivery that has been looked up before
        if name in ("alert_rules.channels_gone", "alert_rules.project_gone"):
            continue  # of a channel or project that has just been deleted
        await check(filled, elsewhere, name)


async def test_the_owner_sees_all_of_it(filled: Database) -> None:
    """Else the two tests above would prove nothing."""
    seen = [n for n in BORDERS if n.endswith((".get", ".walk", ".find", ".exists", ".page"))]
    for name in [*seen, "deliveries.attempts_of", "deliveries.of_event", "jobs.task"]:
        for sight in (A.sight, Sight(A.organization_id, A.project_id)):
            if name in OF_THE_WHOLE and sight.project_id is not None:
                continue
            answer = await filled.run(lambda c, n=name, s=sight: BORDERS[n](c, s))  # type: ignore[misc]
            assert not hidden(answer), name


async def test_inserts_belong_to_the_organization_in_sight(filled: Database) -> None:
    """A value that says otherwise changes nothing."""

    def work(connection: Connection) -> None:
        World("c").make(connection)
        stray = World("d")
        sight = Sight(OrganizationId(id_of("c", 1)))
        projects.create(connection, sight, replace(stray.project(), slug="other"))
        keys.create(connection, sight, stray.key(), token_hash="d")
        channels.create(connection, sight, stray.channel())
        lanes.create(connection, sight, stray.channel_id, version=1, enabled=True)
        audit.record(connection, sight, stray.entry())
        said: dict[str, Any] = {"channel_id": stray.channel_id, "at": 1, "body": {}}
        outbox.put(connection, sight, id=id_of("d", 12), kind="alert", **said)
        alert_rules.create(connection, sight, stray.rule())
        users.create(connection, stray.user(), password_hash=None)
        stray.join(connection, sight)
        deliveries.insert_test(
            connection,
            sight,
            stray.event(),
            delivery_id=stray.delivery_id,
            channel_id=stray.channel_id,
            node=1,
            due_ms=1,
        )

    await filled.run(work)
    stray_id = id_of("d", 1)
    for table in metadata.sorted_tables:
        if "organization_id" in table.c:
            rows = await filled.run(
                lambda c, t=table: c.execute(  # type: ignore[misc]
                    sa.select(t).where(t.c.organization_id == stray_id)
                ).all()
            )
            assert rows == []


async def test_a_channel_reads_back_as_it_was_stored(filled: Database) -> None:
    found = await filled.run(lambda c: channels.get(c, A.sight, A.channel_id))
    assert found.channel == A.channel()
    changed = replace(
        A.channel(),
        filter=(Condition("x", "in", ["\0", None, 1.5]),),
        rate_limit=None,
        breaker=None,
        version=2,
    )
    assert await filled.run(lambda c: channels.replace(c, A.sight, changed, expected_version=1))
    again = await filled.run(lambda c: channels.get(c, A.sight, A.channel_id))
    assert again.channel == changed
    assert not await filled.run(lambda c: channels.replace(c, A.sight, changed, expected_version=1))


NOW_MS = 1_000


def session_of(world: World, number: int) -> Session:
    return Session(
        id=SessionId(id_of(world.letter, 100 + number)),
        user_id=world.user_id,
        organization_id=world.organization_id,
        project_id=world.project_id,
        address=None,
        user_agent="",
        created_at=1,
        seen_at=1,
        ends_at=NOW_MS + number,
        expires_at=NOW_MS + number,
    )


async def test_a_session_stands_for_what_its_user_may_see_now(filled: Database) -> None:
    def open_two(connection: Connection) -> None:
        for number in (1, 2):
            sessions.create(
                connection,
                session_of(A, number),
                token_hash=f"hash {number}",
                bucket="home",
                keep_max=2,
            )

    await filled.run(open_two)
    held = await filled.run(lambda c: sessions.by_token_hash(c, "hash 1"))
    assert held is not None
    assert (held.role, held.session) == (Role.DEVELOPER, session_of(A, 1))
    assert held.user == A.user()
    assert (await filled.run(lambda c: users.signing_in(c, "a@example.com", "home"))).known_place
    for email, bucket in (("a@example.com", "away"), ("b@example.com", "home")):
        found = await filled.run(lambda c, e=email, b=bucket: users.signing_in(c, e, b))  # type: ignore[misc]
        assert not found.known_place
    await filled.run(lambda c: projects.delete(c, A.sight, A.project_id, now_ms=5))
    held = await filled.run(lambda c: sessions.get(c, A.user_id, session_of(A, 1).id))
    assert (held.session.organization_id, held.session.project_id) == (A.organization_id, None)
    assert await filled.run(lambda c: users.memberships(c, A.user_id))
    await filled.run(lambda c: members.delete(c, A.sight, A.member_id))
    held = await filled.run(lambda c: sessions.get(c, A.user_id, session_of(A, 1).id))
    assert (held.role, held.session.organization_id) == (None, None)
    assert await filled.run(lambda c: users.memberships(c, A.user_id)) == []


async def test_sessions_end_for_good(filled: Database) -> None:
    def work(connection: Connection) -> None:
        for number in (1, 2, 3):
            sessions.create(
                connection,
                session_of(A, number),
                token_hash=f"hash {number}",
                bucket="home",
                keep_max=2,
            )
        first, second, third = (session_of(A, number).id for number in (1, 2, 3))
        walked = sessions.walk(connection, A.user_id, now_ms=500, **PAGE)
        assert [one.id for one in walked.items] == [third, second]
        with pytest.raises(NotFound):
            sessions.get(connection, A.user_id, first)
        for user_id, session_id in ((B.user_id, third), (A.user_id, first)):
            with pytest.raises(NotFound):
                sessions.end(connection, user_id, session_id, now_ms=500)
        sessions.end(connection, A.user_id, third, now_ms=500)
        assert sessions.by_token_hash(connection, "hash 3") is None
        assert not sessions.is_live(connection, third, now_ms=500)
        with pytest.raises(NotFound):
            sessions.end(connection, A.user_id, third, now_ms=500)
        # A use that comes too late brings nothing back.
        sessions.slide(connection, third, seen_at=600, ends_at=9_000)
        assert not sessions.is_live(connection, third, now_ms=600)
        sessions.slide(connection, second, seen_at=600, ends_at=9_000)
        assert sessions.is_live(connection, second, now_ms=8_000)
        sessions.end_all(connection, A.user_id, now_ms=700, organization_id=B.organization_id)
        assert sessions.by_token_hash(connection, "hash 2") is not None
        sessions.end_all(connection, A.user_id, now_ms=700, organization_id=A.organization_id)
        assert sessions.by_token_hash(connection, "hash 2") is None
        assert sessions.purge(connection, before_ms=600, rows_max=9) == 1
        assert sessions.purge(connection, before_ms=701, rows_max=9) == 1

    await filled.run(work)


async def test_a_link_is_used_by_one(filled: Database) -> None:
    link = Link(
        id=LinkId(id_of("a", 200)),
        kind=LinkKind.INVITE,
        email="x@example.com",
        user_id=None,
        organization_id=A.organization_id,
        role=Role.VIEWER,
        created_at=1,
        expires_at=NOW_MS,
    )

    def work(connection: Connection) -> None:
        links.create(connection, link, token_hash="one")
        assert links.find(connection, "one", now_ms=NOW_MS - 1) == link
        assert links.find(connection, "one", now_ms=NOW_MS) is None
        assert links.find(connection, "two", now_ms=1) is None
        later = replace(link, id=LinkId(id_of("a", 201)))
        links.create(connection, later, token_hash="two")
        assert links.find(connection, "one", now_ms=1) is None
        assert links.count(connection, A.organization_id, now_ms=1) == 1
        assert links.count(connection, B.organization_id, now_ms=1) == 0
        assert links.use(connection, later.id)
        assert not links.use(connection, later.id)
        first = replace(link, organization_id=None, role=None, kind=LinkKind.FIRST, email="")
        links.create(connection, first, token_hash="three")
        links.create(connection, replace(first, id=LinkId(id_of("a", 202))), token_hash="four")
        assert links.find(connection, "three", now_ms=1) is None
        assert links.purge(connection, now_ms=NOW_MS, rows_max=9) == 1

    await filled.run(work)


async def test_the_audit_is_searched_and_removed_by_age(filled: Database) -> None:
    def at(ms: int, **more: Any) -> AuditEntry:
        return replace(A.entry(), id=f"{ms:012x}{'a' * 12}", at=ms, **more)

    user = id_of("a", 10)

    def work(connection: Connection) -> None:
        audit.record(connection, A.sight, at(100, action="key.create", actor_id=user))
        audit.record(connection, A.sight, at(200, target_kind="key", target_id=user))
        audit.record(connection, A.sight, at(300, actor_kind="operator"))

        def found(**filters: Any) -> list[int]:
            entries = audit.walk(connection, A.sight, **PAGE, **filters).items
            return [one.at for one in entries if one.at > 1]

        assert found() == [300, 200, 100]
        assert found(action="key.create") == [100]
        assert found(actor=user) == [100]
        assert found(actor="operator") == [300]
        assert found(target=user) == found(target="key") == [200]
        assert found(after=100, before=300) == [200, 100]
        assert found(after=201) == [300]
        assert audit.purge(connection, before_ms=200, rows_max=9) == 1
        assert found() == [300, 200]
        assert audit.purge(connection, before_ms=1_000, rows_max=1) == 1
        assert found() == [300]

    await filled.run(work)

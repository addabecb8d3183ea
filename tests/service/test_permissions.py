"""The one rule: each call checks one name. Who may call what, as a table, against real calls."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.service.parts import OPERATOR, Parts, caller, draft
from tests.service.test_issues import issue
from tests.storage.stores import new_event

from tocsin.domain.errors import Forbidden, NotFound, TocsinError
from tocsin.domain.model import ChannelId, Role
from tocsin.domain.permissions import ALL, OPERATIONS, ROLES, Caller
from tocsin.service.channels import ChannelPatch
from tocsin.service.issues import IssuePatch
from tocsin.service.recover import RecoverDraft
from tocsin.service.sight import Page, Sight
from tocsin.storage.control import organizations

pytestmark = pytest.mark.anyio

ID = "0" * 24


class Scene:
    """An organization with a project, a channel of it, a key of it and a delivery."""

    def __init__(self, parts: Parts, who: Caller, sight: Sight) -> None:
        self.parts, self.who, self.sight = parts, who, sight
        self.channel_id = ChannelId(ID)
        self.key_id = self.event_id = self.delivery_id = self.member_id = self.user_id = ID
        self.issue_id = ID


Call = Callable[[Scene], Awaitable[Any]]
CALLS: dict[str, Call] = {
    "organization.create": lambda s: s.parts.directory.create_organization(s.who, name="New"),
    "organization.list": lambda s: s.parts.directory.list_organizations(s.who, Page()),
    "organization.get": lambda s: s.parts.directory.organization(s.who, s.sight),
    "organization.update": lambda s: s.parts.directory.update_organization(
        s.who, s.sight, name="x"
    ),
    "organization.delete": lambda s: s.parts.directory.delete_organization(
        s.who, s.sight, confirm="acme"
    ),
    "project.create": lambda s: s.parts.directory.create_project(s.who, s.sight, name="New"),
    "project.list": lambda s: s.parts.directory.list_projects(s.who, s.sight, Page()),
    "project.get": lambda s: s.parts.directory.project(s.who, s.sight, "app"),
    "project.update": lambda s: s.parts.directory.update_project(s.who, s.sight, "app", name="x"),
    "project.delete": lambda s: s.parts.directory.delete_project(s.who, s.sight, "app"),
    "key.create": lambda s: s.parts.keys.create(s.who, s.sight, name="k", permissions=["a.b"]),
    "key.list": lambda s: s.parts.keys.list(s.who, s.sight, Page()),
    "key.delete": lambda s: s.parts.keys.delete(s.who, s.sight, s.key_id),
    "channel.create": lambda s: s.parts.channels.create(s.who, s.sight, draft()),
    "channel.list": lambda s: s.parts.channels.list(s.who, s.sight, Page()),
    "channel.get": lambda s: s.parts.channels.get(s.who, s.sight, s.channel_id),
    "channel.update": lambda s: s.parts.channels.update(
        s.who, s.sight, s.channel_id, ChannelPatch(name="x")
    ),
    "channel.delete": lambda s: s.parts.channels.delete(s.who, s.sight, s.channel_id),
    "channel.secret": lambda s: s.parts.channels.secret(s.who, s.sight, s.channel_id),
    "channel.test": lambda s: s.parts.channels.test(s.who, s.sight, s.channel_id),
    "job.create": lambda s: s.parts.log.recover(
        s.who, s.sight, s.channel_id, RecoverDraft(since="2026-01-01T00:00:00Z")
    ),
    "job.list": lambda s: s.parts.log.jobs(s.who, s.sight, Page()),
    "event.list": lambda s: s.parts.log.events(s.who, s.sight, Page()),
    "event.get": lambda s: s.parts.log.event(s.who, s.sight, s.event_id),
    "delivery.list": lambda s: s.parts.log.deliveries(s.who, s.sight, Page()),
    "delivery.get": lambda s: s.parts.log.delivery(s.who, s.sight, s.delivery_id),
    "delivery.retry": lambda s: s.parts.log.retry(s.who, s.sight, s.delivery_id),
    "member.create": lambda s: s.parts.members.invite(
        s.who, s.sight, email="x@y.example", role=Role.VIEWER
    ),
    "member.list": lambda s: s.parts.members.list(s.who, s.sight, Page()),
    "member.update": lambda s: s.parts.members.change(
        s.who, s.sight, s.member_id, role=Role.VIEWER
    ),
    "member.delete": lambda s: s.parts.members.remove(s.who, s.sight, s.member_id),
    "user.create": lambda s: s.parts.people.create(s.who, email="x@y.example"),
    "user.list": lambda s: s.parts.people.list(s.who, Page()),
    "user.reset": lambda s: s.parts.people.reset(s.who, s.user_id),
    "user.delete": lambda s: s.parts.people.delete(s.who, s.user_id),
    "audit.list": lambda s: s.parts.directory.audit(s.who, s.sight, Page()),
    "issue.list": lambda s: s.parts.issues.page(s.who, s.sight, offset=0, limit=1),
    "issue.get": lambda s: s.parts.issues.get(s.who, s.sight, s.issue_id),
    "issue.update": lambda s: s.parts.issues.update(s.who, s.sight, s.issue_id, IssuePatch()),
    "issue.retry": lambda s: s.parts.issues.retry(s.who, s.sight, s.issue_id),
}

A, D, V, B, X = "admin", "developer", "viewer", "bound admin", "other project"
# operation: who may; everybody else who sees the thing is Forbidden.
MAY: dict[str, set[str]] = {
    "organization.create": set(),
    "organization.list": set(),
    "organization.get": {A, V, B, X},
    "organization.update": {A},
    "organization.delete": {A},
    "project.create": {A},
    "project.list": {A, D, V, B, X},
    "project.get": {A, D, V, B},
    "project.update": {A, B},
    "project.delete": {A, B},
    "key.create": {A, B, X},
    "key.list": {A, V, B, X},
    "key.delete": {A, B},
    "channel.create": {A, D, B, X},
    "channel.list": {A, D, V, B, X},
    "channel.get": {A, D, V, B},
    "channel.update": {A, D, B},
    "channel.delete": {A, D, B},
    "channel.secret": {A, D, B},
    "channel.test": {A, D, B},
    "job.create": {A, D, B},
    "job.list": {A, D, V, B, X},
    "event.list": {A, D, V, B, X},
    "event.get": {A, D, V, B},
    "delivery.list": {A, D, V, B, X},
    "delivery.get": {A, D, V, B},
    "delivery.retry": {A, D, B},
    "member.create": {A},
    "member.list": {A, V},
    "member.update": {A},
    "member.delete": {A},
    "user.create": set(),
    "user.list": set(),
    "user.reset": set(),
    "user.delete": set(),
    "audit.list": {A, V},
    "issue.list": {A, D, V, B, X},
    "issue.get": {A, D, V, B},
    "issue.update": {A, D, B},
    "issue.retry": {A, D, B},
}
UNSEEN = {
    (operation, X)
    for operation in MAY
    if operation not in ("project.create", "member.create")
    and not operation.startswith(("organization.", "user."))
} | {
    ("member.list", B),
    ("member.update", B),
    ("member.delete", B),
    ("audit.list", B),
    ("audit.list", X),
}
"""Where sight ends: NotFound rather than Forbidden."""


def test_the_table_knows_every_call() -> None:
    assert MAY.keys() == CALLS.keys()
    assert MAY.keys() <= set(OPERATIONS)


@pytest.fixture
async def scene(parts: Parts) -> Scene:
    sight = await parts.organization("Acme")
    project = await parts.project(sight, "App")
    await parts.project(sight, "Other")
    made = Scene(parts, OPERATOR, sight)
    made.channel_id = (await parts.channel(sight, project="app")).channel.id
    made.key_id = (await parts.keys.create(OPERATOR, sight, name="k", project="app"))[0].id
    version = await parts.store.read(lambda c: organizations.version(c, sight))
    event = new_event(
        made.channel_id,
        organization_id=sight.organization_id,
        project_id=project.id,
        version=version,
    )
    await parts.store.add([event])
    made.event_id, made.delivery_id = event.event.id, event.deliveries[0].id
    made.issue_id = await issue(parts, sight, made.channel_id, project.id)
    user, _ = await parts.people.create(
        OPERATOR, email="a@b.example", organization="acme", role=Role.VIEWER
    )
    (member,) = (await parts.members.list(OPERATOR, sight, Page())).items
    made.user_id, made.member_id = user.id, member.id
    return made


async def answer(scene: Scene, operation: str, who: Caller, sight: Sight) -> str:
    seen = Scene(scene.parts, who, sight)
    seen.channel_id, seen.key_id = scene.channel_id, scene.key_id
    seen.event_id, seen.delivery_id = scene.event_id, scene.delivery_id
    seen.user_id, seen.member_id = scene.user_id, scene.member_id
    seen.issue_id = scene.issue_id
    try:
        await CALLS[operation](seen)
    except Forbidden:
        return "forbidden"
    except NotFound:
        return "not found"
    except TocsinError:
        pass  # it was let in, and refused for another reason
    return "yes"


@pytest.mark.parametrize("operation", MAY)
async def test_who_may_call_it(scene: Scene, operation: str) -> None:
    whole = scene.sight
    parts = scene.parts
    app = (await parts.directory.project_in(whole, "app")).id
    other = (await parts.directory.project_in(whole, "other")).id
    callers = {
        V: (caller(whole, Role.VIEWER), whole),
        D: (caller(whole, Role.DEVELOPER), whole),
        X: (caller(whole, project_id=other), Sight(whole.organization_id, other)),
        B: (caller(whole, project_id=app), Sight(whole.organization_id, app)),
        A: (caller(whole), whole),
    }
    nobody = Caller(kind="key", organization_id=whole.organization_id, id=ID)
    assert await answer(scene, operation, nobody, whole) == "forbidden"
    for name, (who, sight) in callers.items():
        if name in MAY[operation]:
            continue
        expected = "not found" if (operation, name) in UNSEEN else "forbidden"
        assert await answer(scene, operation, who, sight) == expected, name
    for name, (who, sight) in callers.items():
        if name in MAY[operation]:
            found = await answer(scene, operation, who, sight)
            if "delete" not in operation:
                assert found == "yes", name
                continue
            # The first who may has deleted it; for the others there is nothing left.
            assert found in ("yes", "not found"), name
            if found == "yes":
                break
            pytest.fail(name)


@pytest.mark.parametrize("operation", MAY)
async def test_the_operator_may_do_everything(scene: Scene, operation: str) -> None:
    assert await answer(scene, operation, OPERATOR, scene.sight) == "yes"


@pytest.mark.parametrize("operation", sorted(MAY.keys() - {"organization.create"}))
async def test_exactly_the_one_name_is_checked(scene: Scene, operation: str) -> None:
    if operation == "organization.list" or operation.startswith("user."):
        return  # for the operator only, whatever a key is granted
    # Nobody gives or takes what they may not do themselves.
    more = ROLES[Role.VIEWER] if operation.startswith("member.") else ()
    only = Caller(
        kind="key",
        organization_id=scene.sight.organization_id,
        grants=(operation, "a.b", *more),
        id=ID,
    )
    assert await answer(scene, operation, only, scene.sight) == "yes"


@pytest.mark.parametrize("name", ["get", "list", "create", "update", "remove"])
async def test_applivery_calls_check_the_name_of_their_own(scene: Scene, name: str) -> None:
    operation = f"mad.application.notification.{name}"
    channels = scene.parts.channels

    def run(who: Caller) -> Awaitable[Any]:
        match name:
            case "get":
                return channels.get(who, scene.sight, scene.channel_id, operation=operation)
            case "list":
                return channels.page(who, scene.sight, offset=0, limit=1, operation=operation)
            case "create":
                return channels.create(who, scene.sight, draft(), operation=operation)
            case "update":
                patch = ChannelPatch(name="x")
                return channels.update(
                    who, scene.sight, scene.channel_id, patch, operation=operation
                )
        return channels.delete(who, scene.sight, scene.channel_id, operation=operation)

    organization_id = scene.sight.organization_id
    with pytest.raises(Forbidden):
        await run(Caller(kind="key", organization_id=organization_id, grants=("channel.*",), id=ID))
    await run(Caller(kind="key", organization_id=organization_id, grants=(operation,), id=ID))


def test_admin_is_everything() -> None:
    assert caller(Sight(ID)).grants == ALL  # type: ignore[arg-type]

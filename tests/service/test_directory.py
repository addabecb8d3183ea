"""Organizations and projects: references, slugs, deleting, and what the audit says."""

import pytest
from tests.service.parts import OPERATOR, Parts, caller, draft

from tocsin.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    InvalidToken,
    NotFound,
    QuotaExceeded,
)
from tocsin.domain.model import ProjectId, Role
from tocsin.domain.permissions import Caller
from tocsin.service.directory import Directory
from tocsin.service.sight import Page, Sight
from tocsin.storage.control import organizations

pytestmark = pytest.mark.anyio


async def test_a_slug_is_made_from_the_name_and_made_unique(parts: Parts) -> None:
    first = await parts.directory.create_organization(OPERATOR, name="Acmé & Co")
    second = await parts.directory.create_organization(OPERATOR, name="Acmé & Co")
    assert first.slug == "acme-co"
    assert second.slug == "acme-co-2"


async def test_a_given_slug_is_taken_or_refused(parts: Parts) -> None:
    await parts.directory.create_organization(OPERATOR, name="A", slug="acme")
    with pytest.raises(Conflict) as caught:
        await parts.directory.create_organization(OPERATOR, name="B", slug="acme")
    assert caught.value.field == "slug"
    sight = await parts.organization("C")
    await parts.directory.create_project(OPERATOR, sight, name="A", slug="acme")
    with pytest.raises(Conflict):
        await parts.directory.create_project(OPERATOR, sight, name="B", slug="acme")
    other = await parts.organization("D")
    await parts.directory.create_project(OPERATOR, other, name="A", slug="acme")


@pytest.mark.parametrize("slug", ["", "A", "a b", "a\n", "ä", "a" * 65, "0" * 24])
async def test_what_is_no_slug_is_refused(parts: Parts, slug: str) -> None:
    with pytest.raises(Invalid) as caught:
        await parts.directory.create_organization(OPERATOR, name="A", slug=slug)
    assert caught.value.problems[0].field == "slug"


@pytest.mark.parametrize("name", ["", "a\0b", "\x1b[1m", "a" * 129])
async def test_what_is_no_name_is_refused(parts: Parts, name: str) -> None:
    with pytest.raises(Invalid) as caught:
        await parts.directory.create_organization(OPERATOR, name=name)
    assert caught.value.problems[0].field == "name"


async def test_a_reference_is_an_id_or_a_slug_in_any_case(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    project = await parts.project(sight, "App")
    for ref in (sight.organization_id, sight.organization_id.upper(), "acme", "ACME"):
        assert await parts.directory.sight(OPERATOR, ref) == sight
        assert await parts.directory.sight(caller(sight), ref) == sight
    narrow = Sight(sight.organization_id, project.id)
    for ref in (project.id, project.id.upper(), "app", "APP"):
        assert await parts.directory.sight(OPERATOR, "acme", ref) == narrow
        assert (await parts.directory.project_in(sight, ref)).id == project.id


@pytest.mark.parametrize("ref", ["nobody", "0" * 24, "", "a\0b", "acme' OR 1=1", "é"])
async def test_an_unknown_reference_is_not_found(parts: Parts, ref: str) -> None:
    sight = await parts.organization("Acme")
    with pytest.raises(NotFound):
        await parts.directory.sight(OPERATOR, ref)
    with pytest.raises(NotFound):
        await parts.directory.sight(OPERATOR, "acme", ref)
    with pytest.raises(Invalid) as caught:
        await parts.directory.project_in(sight, ref)
    assert caught.value.problems[0].field == "project"


async def test_nobody_sees_another_organization_or_project(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    other = await parts.organization("Other")
    mine = await parts.project(sight, "Mine")
    theirs = await parts.project(sight, "Theirs")
    for ref in (other.organization_id, "other"):
        with pytest.raises(NotFound):
            await parts.directory.sight(caller(sight), ref)
    bound = caller(sight, project_id=mine.id)
    assert await parts.directory.sight(bound, "acme") == Sight(sight.organization_id, mine.id)
    assert await parts.directory.sight(bound, None) == Sight(sight.organization_id, mine.id)
    for ref in (theirs.id, "theirs"):
        with pytest.raises(NotFound):
            await parts.directory.sight(bound, "acme", ref)
    narrow = await parts.directory.sight(bound, None)
    listed = await parts.directory.list_projects(bound, narrow, Page())
    assert [project.id for project in listed.items] == [mine.id]
    with pytest.raises(NotFound):
        await parts.directory.project(bound, narrow, theirs.id)


async def test_a_project_is_found_by_its_id_alone(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    await parts.organization("Other")
    project = await parts.project(sight)
    bound = caller(sight, project_id=project.id)
    assert await parts.directory.project_sight(OPERATOR, project.id.upper()) == sight
    narrow = Sight(sight.organization_id, project.id)
    assert await parts.directory.project_sight(bound, project.id) == narrow
    await parts.directory.delete_project(OPERATOR, sight, project.id)
    for unknown in (project.id, "0" * 24, "app"):
        with pytest.raises(NotFound):
            await parts.directory.project_sight(OPERATOR, unknown)


async def test_the_operator_need_not_name_the_only_organization(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    assert await parts.directory.sight(OPERATOR, None) == sight
    await parts.organization("Other")
    with pytest.raises(Invalid):
        await parts.directory.sight(OPERATOR, None)


async def test_a_renamed_slug_is_known_at_once(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    await parts.project(sight, "App")
    await parts.directory.sight(OPERATOR, "acme", "app")
    await parts.directory.update_organization(OPERATOR, sight, slug="new")
    await parts.directory.update_project(OPERATOR, sight, "app", slug="newer", name="Newer")
    with pytest.raises(NotFound):
        await parts.directory.sight(OPERATOR, "acme")
    with pytest.raises(NotFound):
        await parts.directory.sight(OPERATOR, "new", "app")
    await parts.directory.sight(OPERATOR, "new", "newer")
    found = await parts.directory.project(OPERATOR, sight, "newer")
    assert (found.name, found.slug) == ("Newer", "newer")


async def test_only_the_operator_makes_and_lists_organizations(parts: Parts) -> None:
    sight = await parts.organization()
    with pytest.raises(Forbidden):
        await parts.directory.create_organization(caller(sight), name="Mine")
    with pytest.raises(Forbidden):
        await parts.directory.list_organizations(caller(sight), Page())


async def test_lists_are_paged_newest_first(parts: Parts) -> None:
    made = [(await parts.organization(f"Org {n}")).organization_id for n in range(5)]
    seen: list[str] = []
    below = None
    while True:
        page = await parts.directory.list_organizations(OPERATOR, Page(limit=2, below=below))
        seen += [organization.id for organization in page.items]
        below = page.next
        if below is None:
            break
    assert seen == made[::-1]


async def test_projects_have_a_quota(parts: Parts) -> None:
    sight = await parts.organization()
    small = Directory(changes=parts.changes, runner=parts.runner, projects_max=1)
    await small.create_project(OPERATOR, sight, name="One")
    with pytest.raises(QuotaExceeded):
        await small.create_project(OPERATOR, sight, name="Two")
    await small.delete_project(OPERATOR, sight, "one")
    await small.create_project(OPERATOR, sight, name="Two")


async def test_a_deleted_project_takes_its_channels_and_keys_along(parts: Parts) -> None:
    sight = await parts.organization()
    project = await parts.project(sight)
    kept = await parts.channel(sight)
    lost = await parts.channel(sight, project="app")
    key, token = await parts.keys.create(OPERATOR, sight, name="k", project="app")
    wide, _ = await parts.keys.create(OPERATOR, sight, name="wide")
    await parts.credentials.authenticate(token, dialect="native", address=None)
    await parts.directory.delete_project(OPERATOR, sight, project.id)
    with pytest.raises(InvalidToken):
        await parts.credentials.authenticate(token, dialect="native", address=None)
    with pytest.raises(NotFound):
        await parts.channels.get(OPERATOR, sight, lost.channel.id)
    assert (await parts.channels.get(OPERATOR, sight, kept.channel.id)) == kept
    with pytest.raises(NotFound):
        await parts.directory.project(OPERATOR, sight, project.id)
    routes = await parts.routing.load(sight.organization_id)
    assert list(routes.by_id) == [kept.channel.id]
    assert routes.keys == {wide.id}
    listed = (await parts.keys.list(OPERATOR, sight, Page(), revoked=True)).items
    assert [(one.id, one.revoked_at is None) for one in listed] == [
        (wide.id, True),
        (key.id, False),
    ]
    again = await parts.project(sight)
    assert again.slug == "app"


async def test_deleting_an_organization_needs_its_slug(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    for confirm in (None, "", "other", sight.organization_id):
        with pytest.raises(Invalid) as caught:
            await parts.directory.delete_organization(OPERATOR, sight, confirm=confirm)
        assert caught.value.problems[0].field == "confirm"
    await parts.directory.organization(OPERATOR, sight)


async def test_a_deleted_organization_is_gone_at_once_and_its_slug_free(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    await parts.channel(sight)
    _, token = await parts.keys.create(OPERATOR, sight, name="k")
    await parts.credentials.authenticate(token, dialect="native", address=None)
    await parts.directory.delete_organization(caller(sight), sight, confirm="acme")
    with pytest.raises(InvalidToken):
        await parts.credentials.authenticate(token, dialect="native", address=None)
    for ref in ("acme", sight.organization_id):
        with pytest.raises(NotFound):
            await parts.directory.sight(OPERATOR, ref)
    with pytest.raises(NotFound):
        await parts.directory.organization(OPERATOR, sight)
    with pytest.raises(NotFound):
        await parts.channels.create(OPERATOR, sight, draft())
    assert (await parts.directory.create_organization(OPERATOR, name="Acme")).slug == "acme"


async def test_a_bound_key_makes_no_organization_level_changes(parts: Parts) -> None:
    sight = await parts.organization()
    project = await parts.project(sight)
    bound = caller(sight, project_id=project.id)
    narrow = Sight(sight.organization_id, project.id)
    with pytest.raises(Forbidden):
        await parts.directory.update_organization(bound, narrow, name="x")
    with pytest.raises(Forbidden):
        await parts.directory.delete_organization(bound, narrow, confirm="acme")
    with pytest.raises(Forbidden):
        await parts.directory.create_project(bound, narrow, name="x")


async def test_the_audit_says_who_changed_what(parts: Parts) -> None:
    sight = await parts.organization("Acme")
    before = await parts.store.read(lambda c: organizations.version(c, sight))
    who = Caller(
        kind="key",
        organization_id=sight.organization_id,
        grants=("*",),
        id="e" * 24,
        name="ops",
        dialect="hookstream",
        address="192.0.2.1",
    )
    project = await parts.directory.create_project(who, sight, name="App")
    await parts.directory.update_project(who, sight, project.id, name="Better")
    entries = (await parts.directory.audit(who, sight, Page())).items
    assert [entry.action for entry in entries] == [
        "project.update",
        "project.create",
        "organization.create",
    ]
    latest = entries[0]
    assert latest.changes == {"name": {"from": "App", "to": "Better"}}
    assert (latest.target_kind, latest.target_id) == ("project", project.id)
    assert (latest.actor_kind, latest.actor_id, latest.actor_name) == ("key", "e" * 24, "ops")
    assert (latest.dialect, latest.address) == ("hookstream", "192.0.2.1")
    after = await parts.store.read(lambda c: organizations.version(c, sight))
    assert after == before + 2


async def test_a_bound_key_sees_no_audit(parts: Parts) -> None:
    sight = await parts.organization()
    bound = caller(sight, Role.VIEWER, project_id=ProjectId("b" * 24))
    with pytest.raises(NotFound):
        await parts.directory.audit(bound, Sight(sight.organization_id, bound.project_id), Page())
    seen = await parts.directory.audit(caller(sight, Role.VIEWER), sight, Page())
    assert len(seen.items) == 1

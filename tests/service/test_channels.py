"""Channels: the rules of every member, secrets and masks, what a change does to the lane."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from msgspec import UNSET
from tests.service.parts import OPERATOR, URL, Parts, caller, draft, open_parts
from tests.storage.stores import claim, new_event, one, rows, settlement

from tocsin.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from tocsin.domain.model import (
    DEFAULT_SCHEDULE,
    Breaker,
    Channel,
    ChannelId,
    Condition,
    Format,
    RateLimit,
    Role,
    Status,
)
from tocsin.domain.text import MASK
from tocsin.service.channels import PROJECTS, ChannelPatch
from tocsin.service.sight import Page, Sight
from tocsin.storage.control import organizations
from tocsin.storage.tables import channels as channels_table
from tocsin.storage.tables import lanes

pytestmark = pytest.mark.anyio


async def test_defaults(parts: Parts) -> None:
    sight = await parts.organization()
    state, secret = await parts.channels.create(OPERATOR, sight, draft())
    channel = state.channel
    assert secret is not None
    assert secret.startswith("whsec_")
    assert channel.event_types == ("*",)
    assert channel.filter == ()
    assert channel.description is None
    assert channel.format is Format.TOCSIN
    assert channel.schedule == DEFAULT_SCHEDULE
    assert channel.timeout_seconds == 15
    assert msgspec.json.encode(channel.timeout_seconds) == b"15"
    assert (channel.rate_limit, channel.max_in_flight, channel.ordered) == (None, None, False)
    assert channel.breaker == Breaker(failures=5, cooldown_seconds=60)
    assert (channel.enabled, channel.disabled_reason, channel.project_id) == (True, None, None)
    assert parts.channels.masked(state) == (
        {"url": URL, "send_token": False, "signing_secret": None},
        {},
    )
    assert parts.channels.clear_secret(state) == secret
    assert (await parts.channels.secret(OPERATOR, sight, channel.id)).secret == secret
    assert await parts.channels.get(OPERATOR, sight, channel.id.upper()) == state


GIVEN: dict[str, Any] = {
    "description": "says more",
    "event_types": ["build.*", "a.b"],
    "filter": [{"field": "a.0", "op": "in", "value": [1, None]}],
    "enabled": False,
    "headers": {"X-Key": "v"},
    "format": "cloudevents",
    "retry": {"schedule": ["1s", "7d"]},
    "timeout_seconds": 2.5,
    "rate_limit": {"count": 1, "per_seconds": 86400},
    "max_in_flight": 1000,
    "breaker": {"failures": 100},
}


async def test_everything_given_reads_back(parts: Parts) -> None:
    sight = await parts.organization()
    made = await parts.channel(sight, **GIVEN)
    state = await parts.channels.get(OPERATOR, sight, made.channel.id)
    assert state == made
    channel = state.channel
    assert channel.description == "says more"
    assert channel.event_types == ("build.*", "a.b")
    assert channel.filter == (Condition("a.0", "in", [1, None]),)
    assert channel.format is Format.CLOUDEVENTS
    assert channel.schedule == ("1s", "7d")
    assert channel.timeout_seconds == 2.5
    assert channel.rate_limit == RateLimit(1, 86400)
    assert channel.max_in_flight == 1000
    assert channel.breaker == Breaker(failures=100, cooldown_seconds=60)
    assert channel.enabled is False
    assert parts.channels.masked(state)[1] == {"X-Key": MASK}


async def test_null_is_the_default(parts: Parts) -> None:
    sight = await parts.organization()
    members: dict[str, Any] = dict.fromkeys(GIVEN) | {"ordered": None, "project": None}
    nulls = (await parts.channel(sight, **members)).channel
    plain = (await parts.channel(sight, breaker=None)).channel
    same = {"id": "", "sealed": b"", "created_at": 0, "updated_at": 0}
    assert msgspec.structs.replace(nulls, **same) == msgspec.structs.replace(plain, **same)
    assert nulls.breaker is None


def n_conditions(n: int) -> list[dict[str, Any]]:
    return [{"field": "a", "op": "eq", "value": 1}] * n


WRONG: list[tuple[str, Any, str]] = [
    ("name", "", "name"),
    ("name", "n" * 129, "name"),
    ("name", "a\0b", "name"),
    ("name", "a\x1b", "name"),
    ("type", "nothing", "type"),
    ("description", "d" * 1025, "description"),
    ("description", "\0", "description"),
    ("event_types", ["a"] * 101, "event_types"),
    ("event_types", ["a", "b", "c", "d.*.e"], "event_types[3]"),
    ("event_types", [""], "event_types[0]"),
    ("event_types", ["a.b\n"], "event_types[0]"),
    ("filter", n_conditions(21), "filter"),
    ("filter", [{"field": "a", "op": "is", "value": 1}], "filter[0].op"),
    ("filter", [{"field": "a", "op": "eq"}], "filter[0].value"),
    ("filter", [{"field": "a..b", "op": "eq", "value": 1}], "filter[0].field"),
    ("filter", [*n_conditions(1), {"op": "eq", "value": 1}], "filter[1].field"),
    ("filter", [{"field": "a", "op": "eq", "value": 1, "x": 1}], "filter[0].x"),
    ("format", "xml", "format"),
    ("format", "", "format"),
    ("retry", {}, "retry.schedule"),
    ("retry", {"schedule": "5s"}, "retry.schedule"),
    ("retry", {"schedule": ["5s", "5s", "0s"]}, "retry.schedule[2]"),
    ("retry", {"schedule": ["8d"]}, "retry.schedule[0]"),
    ("retry", {"schedule": [5]}, "retry.schedule[0]"),
    ("retry", {"schedule": ["1s"] * 21}, "retry.schedule"),
    ("retry", {"schedule": ["7d", "5d"]}, "retry.schedule"),
    ("retry", {"schedule": [], "max": 1}, "retry.max"),
    ("timeout_seconds", 0.5, "timeout_seconds"),
    ("timeout_seconds", 30.5, "timeout_seconds"),
    ("timeout_seconds", True, "timeout_seconds"),
    ("rate_limit", {"count": 0, "per_seconds": 1}, "rate_limit.count"),
    ("rate_limit", {"count": 10001, "per_seconds": 1}, "rate_limit.count"),
    ("rate_limit", {"count": 1, "per_seconds": 86401}, "rate_limit.per_seconds"),
    ("rate_limit", {"count": 1}, "rate_limit.per_seconds"),
    ("rate_limit", {"count": True, "per_seconds": 1}, "rate_limit.count"),
    ("rate_limit", {"count": 1, "per_seconds": 1, "burst": 1}, "rate_limit.burst"),
    ("max_in_flight", 0, "max_in_flight"),
    ("max_in_flight", 1001, "max_in_flight"),
    ("breaker", {"failures": 0}, "breaker.failures"),
    ("breaker", {"failures": 101}, "breaker.failures"),
    ("breaker", {"cooldown_seconds": 86401}, "breaker.cooldown_seconds"),
    ("breaker", {"cooldown_seconds": 1.5}, "breaker.cooldown_seconds"),
    ("breaker", {"errors": 1}, "breaker.errors"),
    ("headers", {"Host": "x"}, "headers.Host"),
    ("headers", {"X-Foo": "a\r\nb"}, "headers.X-Foo"),
    ("headers", {"X Foo": "a"}, "headers.X Foo"),
    ("headers", {"Webhook-Id": "a"}, "headers.Webhook-Id"),
    ("headers", {f"x-{n}": "v" for n in range(21)}, "headers"),
    ("headers", {"X-Foo": MASK}, "headers.X-Foo"),
    ("settings", {}, "settings.url"),
    ("settings", {"url": URL, "more": 1}, "settings.more"),
    ("settings", {"url": "ftp://example.com/"}, "settings.url"),
    ("settings", {"url": "https://user@example.com/"}, "settings.url"),
    ("settings", {"url": "https://example.com/\0"}, "settings.url"),
    ("settings", {"url": "https://refused.example/"}, "settings.url"),
    ("settings", {"url": "https://invalid.example/"}, "settings.url"),
    ("settings", {"url": URL, "send_token": "yes"}, "settings.send_token"),
    ("settings", {"url": URL, "signing_secret": ""}, "settings.signing_secret"),
    ("settings", {"url": URL, "signing_secret": MASK}, "settings.signing_secret"),
    ("project", "nothing", "project"),
    ("project", "0" * 24, "project"),
]


@pytest.mark.parametrize(("member", "value", "field"), WRONG)
async def test_what_is_wrong_is_named_and_nothing_stored(
    parts: Parts, member: str, value: Any, field: str
) -> None:
    sight = await parts.organization()
    with pytest.raises(Invalid) as caught:
        await parts.channel(sight, **{member: value})
    assert caught.value.problems[0].field == field
    assert (await parts.channels.list(OPERATOR, sight, Page())).items == []
    if member in ("type", "project"):
        return
    state = await parts.channel(sight)
    # Settings merge: only a null takes the URL away again.
    patch: dict[str, Any] = {
        member: {"url": None} if (member, value) == ("settings", {}) else value
    }
    with pytest.raises(Invalid) as caught:
        await parts.channels.update(OPERATOR, sight, state.channel.id, ChannelPatch(**patch))
    assert caught.value.problems[0].field == field
    assert await parts.channels.get(OPERATOR, sight, state.channel.id) == state


async def test_a_refusal_names_no_address(parts: Parts) -> None:
    sight = await parts.organization()
    with pytest.raises(Invalid) as caught:
        await parts.channel(sight, settings={"url": "https://refused.example/s3cret"})
    assert "refused.example" not in str(caught.value)


@pytest.mark.parametrize("breaker", [{}, {"failures": 3}])
async def test_an_ordered_channel_has_no_breaker(parts: Parts, breaker: dict[str, int]) -> None:
    sight = await parts.organization()
    with pytest.raises(Invalid) as caught:
        await parts.channel(sight, ordered=True, breaker=breaker)
    assert caught.value.problems[0].field == "breaker"
    assert (await parts.channel(sight, ordered=True, breaker=None)).channel.breaker is None
    ordered = await parts.channel(sight, ordered=True)
    assert ordered.channel.breaker is None
    with pytest.raises(Invalid):
        await parts.channels.update(
            OPERATOR, sight, ordered.channel.id, ChannelPatch(breaker=breaker)
        )
    plain = await parts.channel(sight)
    changed = await parts.channels.update(
        OPERATOR, sight, plain.channel.id, ChannelPatch(ordered=True)
    )
    assert (changed.channel.ordered, changed.channel.breaker) == (True, None)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ({"breaker": {"failures": 9}}, {"breaker": Breaker(9, 30)}),
        ({"breaker": None}, {"breaker": None}),
        ({"retry": {"schedule": []}}, {"schedule": ()}),
        ({"retry": None}, {"schedule": DEFAULT_SCHEDULE}),
        ({"event_types": ["a"]}, {"event_types": ("a",)}),
        ({"event_types": []}, {"event_types": ()}),
        ({"event_types": None}, {"event_types": ("*",)}),
        ({"filter": None}, {"filter": ()}),
        ({"description": None}, {"description": None}),
        ({"description": ""}, {"description": ""}),
        ({"rate_limit": None}, {"rate_limit": None}),
        ({"max_in_flight": None}, {"max_in_flight": None}),
        ({"timeout_seconds": None}, {"timeout_seconds": 15}),
        ({"format": None}, {"format": Format.TOCSIN}),
        ({"format": "hookstream"}, {"format": Format.HOOKSTREAM}),
        ({"name": "new"}, {"name": "new"}),
    ],
)
async def test_a_patch_changes_what_it_names_and_nothing_else(
    parts: Parts, patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    sight = await parts.organization()
    members = GIVEN | {"enabled": True, "breaker": {"failures": 2, "cooldown_seconds": 30}}
    before = (await parts.channel(sight, **members)).channel
    after = await parts.channels.update(OPERATOR, sight, before.id, ChannelPatch(**patch))
    assert after == await parts.channels.get(OPERATOR, sight, before.id)
    expected = expected | {"version": 2, "updated_at": after.channel.updated_at}
    assert after.channel == msgspec.structs.replace(before, **expected)
    assert (await one(parts.store, "SELECT version FROM lanes"))["version"] == 2
    entry = (await parts.directory.audit(OPERATOR, sight, Page())).items[0]
    assert entry.action == "channel.update"
    assert list(entry.changes) == [
        name for name in expected if name not in ("version", "updated_at")
    ]


async def test_a_patch_that_changes_nothing_does_nothing(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight, headers={"X-Key": "v"})
    before = await parts.store.read(lambda c: organizations.version(c, sight))
    for patch in (
        ChannelPatch(),
        ChannelPatch(name="hook", enabled=True, settings={"url": URL}),
        ChannelPatch(headers={"x-key": MASK}, settings={}),
    ):
        found = await parts.channels.update(OPERATOR, sight, state.channel.id, patch)
        assert found.channel.version == 1 or patch.headers is not UNSET
    assert await parts.store.read(lambda c: organizations.version(c, sight)) - before <= 1


async def test_settings_and_headers_merge_by_member(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(
        sight,
        settings={"url": URL, "signing_secret": "s3cret"},
        headers={"X-A": "1", "X-B": "2"},
    )
    assert parts.channels.masked(state)[0]["signing_secret"] == MASK
    updated = await parts.channels.update(
        OPERATOR,
        sight,
        state.channel.id,
        ChannelPatch(
            settings={"send_token": True, "signing_secret": MASK},
            headers={"x-a": MASK, "X-B": None, "X-C": "3"},
        ),
    )
    opened = parts.vault.open(updated.channel)
    assert opened.settings == {"url": URL, "send_token": True, "signing_secret": "s3cret"}
    assert opened.headers == {"X-A": "1", "X-C": "3"}
    assert opened.secret == parts.vault.open(state.channel).secret
    removed = await parts.channels.update(
        OPERATOR,
        sight,
        state.channel.id,
        ChannelPatch(settings={"signing_secret": None}, headers=None),
    )
    opened = parts.vault.open(removed.channel)
    assert opened.settings["signing_secret"] is None
    assert opened.headers == {}


async def test_headers_are_forgotten_when_the_origin_changes(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight, headers={"Authorization": "Bearer x"})
    elsewhere = {"url": "https://elsewhere.example/"}
    with pytest.raises(Invalid) as caught:
        await parts.channels.update(
            OPERATOR,
            sight,
            state.channel.id,
            ChannelPatch(settings=elsewhere, headers={"Authorization": MASK}),
        )
    assert caught.value.problems[0].field == "headers.Authorization"
    same = await parts.channels.update(
        OPERATOR, sight, state.channel.id, ChannelPatch(settings={"url": URL + "/2"})
    )
    assert parts.channels.masked(same)[1] == {"Authorization": MASK}
    moved = await parts.channels.update(
        OPERATOR, sight, state.channel.id, ChannelPatch(settings=elsewhere)
    )
    assert parts.channels.masked(moved)[1] == {}


async def test_there_is_one_authorization_whoever_comes_first(parts: Parts) -> None:
    sight = await parts.organization()
    auth = {"type": "bearer", "token": "t0ken"}
    header: dict[str, str | None] = {"Authorization": "Bearer x"}
    by_header = await parts.channel(sight, headers={"Authorization": "Bearer x"})
    by_setting = await parts.channel(sight, settings={"url": URL, "auth": auth})
    for state, patch in (
        (by_header, ChannelPatch(settings={"auth": auth})),
        (by_setting, ChannelPatch(headers=header)),
    ):
        with pytest.raises(Invalid) as caught:
            await parts.channels.update(OPERATOR, sight, state.channel.id, patch)
        assert caught.value.problems[0].field == "headers.Authorization"
    swapped = await parts.channels.update(
        OPERATOR,
        sight,
        by_header.channel.id,
        ChannelPatch(settings={"auth": auth}, headers={"authorization": None}),
    )
    assert parts.channels.masked(swapped) == (
        {"url": URL, "send_token": False, "signing_secret": None, "auth": auth | {"token": MASK}},
        {},
    )
    moved = await parts.channels.update(
        OPERATOR,
        sight,
        by_header.channel.id,
        ChannelPatch(settings={"url": "https://elsewhere.example/"}),
    )
    assert "auth" not in parts.vault.open(moved.channel).settings


async def test_nothing_secret_is_stored_in_clear(parts: Parts) -> None:
    sight = await parts.organization()
    state, secret = await parts.channels.create(
        OPERATOR,
        sight,
        draft(settings={"url": URL, "signing_secret": "canary-1"}, headers={"X": "canary-2"}),
    )
    await parts.channels.update(
        OPERATOR, sight, state.channel.id, ChannelPatch(headers={"X": "canary-3"})
    )
    stored = await parts.store.read(
        lambda c: str([tuple(row) for row in c.execute(sa.select(channels_table))])
    )
    audit = str((await parts.directory.audit(OPERATOR, sight, Page())).items)
    assert secret is not None
    for text in (stored, audit):
        assert "canary" not in text
        assert secret not in text
    assert "headers" in audit


async def test_only_changed_urls_are_vetted(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight)
    await parts.channels.update(OPERATOR, sight, state.channel.id, ChannelPatch(name="x"))
    assert parts.vetted == [URL]
    other = "https://other.example/"
    await parts.channels.update(
        OPERATOR, sight, state.channel.id, ChannelPatch(settings={"url": other})
    )
    assert parts.vetted == [URL, other]


async def test_channels_have_a_quota(tmp_path: Any) -> None:
    async with open_parts(tmp_path, channels_max=1) as parts:
        sight = await parts.organization()
        state = await parts.channel(sight)
        with pytest.raises(QuotaExceeded):
            await parts.channel(sight)
        await parts.channels.delete(OPERATOR, sight, state.channel.id)
        await parts.channel(sight)


async def test_the_secret_is_rotated_with_an_overlap(parts: Parts) -> None:
    sight = await parts.organization()
    state, old = await parts.channels.create(OPERATOR, sight, draft())
    channel_id = state.channel.id
    new = await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=60)
    assert new.secret != old
    assert new.public_key is None
    assert await parts.channels.secret(OPERATOR, sight, channel_id) == new
    state = await parts.channels.get(OPERATOR, sight, channel_id)
    assert [one.secret for one in parts.vault.open(state.channel).retiring] == [old]
    parts.clock.ahead_ms = 61_000
    newest = await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=0)
    state = await parts.channels.get(OPERATOR, sight, channel_id)
    opened = parts.vault.open(state.channel)
    assert (opened.secret, opened.retiring) == (newest.secret, ())
    for seconds in (-1, 7 * 86_400 + 1):
        with pytest.raises(Invalid) as caught:
            await parts.channels.rotate_secret(OPERATOR, sight, channel_id, overlap_seconds=seconds)
        assert caught.value.problems[0].field == "overlap_seconds"


# Levels, sight and lists


async def test_levels_and_lists(parts: Parts) -> None:
    sight = await parts.organization()
    app, web = await parts.project(sight, "App"), await parts.project(sight, "Web")
    wide = (await parts.channel(sight, name="wide", description="b")).channel
    first = (await parts.channel(sight, name="app", project="app", description="a")).channel
    second = (await parts.channel(sight, name="web", project=web.id)).channel
    narrow = Sight(sight.organization_id, app.id)
    bound = caller(sight, project_id=app.id)

    async def ids(who: Any, seen: Sight, **options: Any) -> list[str]:
        listed = await parts.channels.list(who, seen, Page(), **options)
        return [state.channel.id for state in listed.items]

    assert await ids(OPERATOR, sight) == [second.id, first.id, wide.id]
    assert await ids(OPERATOR, sight, level=None) == [wide.id]
    assert await ids(OPERATOR, sight, level=web.id) == [second.id]
    assert await ids(OPERATOR, sight, level=PROJECTS) == [second.id, first.id]
    assert await ids(bound, narrow, level=PROJECTS) == [first.id]
    assert await ids(OPERATOR, sight, types=("slack",)) == []
    assert await ids(bound, narrow) == [first.id]
    assert await ids(bound, narrow, level=None) == []
    for hidden in (wide.id, second.id):
        with pytest.raises(NotFound):
            await parts.channels.get(bound, narrow, hidden)
        with pytest.raises(NotFound):
            await parts.channels.delete(bound, narrow, hidden)
    assert await parts.channels.sight_of(bound, first.id) == narrow
    assert await parts.channels.sight_of(OPERATOR, first.id.upper()) == sight
    for unknown in ("0" * 24, "x"):
        with pytest.raises(NotFound):
            await parts.channels.sight_of(OPERATOR, unknown)
    for level, found in ((PROJECTS, first), (None, wide), (web.id, second)):
        assert (await parts.channels.get(OPERATOR, sight, found.id, level=level)).channel == found
    for other in (wide, second):
        with pytest.raises(NotFound):
            await parts.channels.test(bound, narrow, other.id, level=PROJECTS)
    with pytest.raises(NotFound):
        await parts.channels.get(OPERATOR, sight, wide.id, level=PROJECTS)
    with pytest.raises(NotFound):
        await parts.channels.get(OPERATOR, sight, first.id, level=None)
    own = (await parts.channels.create(bound, narrow, draft()))[0].channel
    assert own.project_id == app.id
    with pytest.raises(Invalid):
        await parts.channels.create(bound, narrow, draft(project="web"))
    await parts.channels.delete(OPERATOR, sight, own.id)

    async def numbered(**options: Any) -> tuple[list[str], int]:
        found, total = await parts.channels.page(
            OPERATOR, sight, **{"offset": 0, "limit": 10, **options}
        )
        return [state.channel.id for state in found], total

    assert await numbered() == ([second.id, first.id, wide.id], 3)
    assert await numbered(offset=1, limit=1) == ([first.id], 3)
    assert await numbered(sort=("createdAt", "asc")) == ([wide.id, first.id, second.id], 3)
    assert await numbered(sort=("description", "asc")) == ([second.id, first.id, wide.id], 3)
    assert await numbered(sort=("description", "desc")) == ([wide.id, first.id, second.id], 3)
    assert await numbered(level=None) == ([wide.id], 1)
    assert await numbered(offset=10) == ([], 3)
    with pytest.raises(Invalid):
        await numbered(sort=("name", "asc"))


async def test_an_organization_call_is_forbidden_to_a_bound_key(parts: Parts) -> None:
    sight = await parts.organization()
    project = await parts.project(sight)
    state = await parts.channel(sight)
    narrow = Sight(sight.organization_id, project.id)
    bound = caller(sight, project_id=project.id)
    prefix = "base.organization.notification."
    with pytest.raises(Forbidden):
        await parts.channels.get(
            bound, narrow, state.channel.id, level=None, operation=prefix + "get"
        )
    with pytest.raises(Forbidden):
        await parts.channels.create(bound, narrow, draft(), operation=prefix + "create")
    with pytest.raises(Forbidden):
        await parts.channels.page(
            bound, narrow, level=None, offset=0, limit=1, operation=prefix + "list"
        )


async def test_existence_comes_before_permission(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight)
    viewer = caller(sight, Role.VIEWER)
    for channel_id, error in ((state.channel.id, Forbidden), ("0" * 24, NotFound), ("x", NotFound)):
        with pytest.raises(error):
            await parts.channels.delete(viewer, sight, channel_id)
        with pytest.raises(error):
            await parts.channels.update(viewer, sight, channel_id, ChannelPatch(name=""))
        with pytest.raises(error):
            await parts.channels.secret(viewer, sight, channel_id)
        with pytest.raises(error):
            await parts.channels.test(viewer, sight, channel_id)


# Lanes


async def waiting(parts: Parts, sight: Sight, channel_id: ChannelId, count: int = 3) -> list[str]:
    """Publish past the use case: so many free deliveries."""
    version = await parts.store.read(lambda c: organizations.version(c, sight))
    events = [
        new_event(
            channel_id,
            claim=False,
            organization_id=sight.organization_id,
            version=version,
        )
        for _ in range(count)
    ]
    await parts.store.add(events)
    return [event.deliveries[0].id for event in events]


async def test_a_channel_made_disabled_is_parked(parts: Parts) -> None:
    sight = await parts.organization()
    state = await parts.channel(sight, enabled=False)
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert (lane["parked"], lane["next_due_ms"]) == ("disabled", None)
    await waiting(parts, sight, state.channel.id)
    assert await claim(parts.store) == []


async def test_disabling_parks_and_enabling_drains_slowly(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    ids = await waiting(parts, sight, channel_id)
    parts.hands.woken.clear()
    state = await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=False))
    assert state.channel.disabled_reason is None
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert (lane["parked"], lane["next_due_ms"], lane["version"]) == ("disabled", None, 2)
    assert parts.hands.woken == []
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    lane = await one(parts.store, "SELECT * FROM lanes")
    due = await one(parts.store, "SELECT min(due_ms) AS due FROM deliveries")
    assert lane["parked"] is None
    assert lane["next_due_ms"] == due["due"]
    assert lane["backlog_through"] > max(ids)
    assert len(parts.hands.woken) == 1
    assert [held.id for held in await claim(parts.store)] == ids


async def test_enabling_waits_for_a_hold_and_needs_no_backlog(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight, enabled=False)).channel.id
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert (lane["next_due_ms"], lane["backlog_through"]) == (None, None)
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=False))
    await waiting(parts, sight, channel_id)
    held_until = parts.clock.storage_ms() + 60_000
    await parts.store.write(
        lambda c: c.execute(sa.update(lanes).values(blocked_until_ms=held_until)).rowcount
    )
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    assert (await one(parts.store, "SELECT * FROM lanes"))["next_due_ms"] == held_until


async def test_an_ordered_channel_drains_unthrottled(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight, ordered=True, enabled=False)).channel.id
    await waiting(parts, sight, channel_id)
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert lane["backlog_through"] is None
    assert lane["next_due_ms"] is not None


FAILING = {
    "error_count": 7,
    "failing_streak": 6,
    "failing_since_ms": 5,
    "failing_deliveries": "c" * 24,
    "breaker_state": "open",
    "breaker_until_ms": 9,
}


@pytest.mark.parametrize(
    ("patch", "cleaned"),
    [
        ({"settings": {"url": URL + "/2"}}, True),
        ({"headers": {"X-A": "1"}}, True),
        ({"name": "x"}, False),
        ({"timeout_seconds": 3}, False),
    ],
)
async def test_new_settings_start_tracking_afresh(
    parts: Parts, patch: dict[str, Any], cleaned: bool
) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    await parts.store.write(lambda c: c.execute(sa.update(lanes).values(FAILING)).rowcount)
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(**patch))
    lane = await one(parts.store, "SELECT * FROM lanes")
    clean = dict.fromkeys(FAILING) | {"error_count": 0, "failing_streak": 0, "breaker_until_ms": 0}
    assert {name: lane[name] for name in FAILING} == (clean if cleaned else FAILING)


async def test_enabling_what_tocsin_disabled(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    await waiting(parts, sight, channel_id, 1)
    (held,) = await claim(parts.store)
    gone = settlement(held, Status.WAITING, park="gone", step=0)
    assert (await parts.store.settle([gone])).disabled
    state = await parts.channels.get(OPERATOR, sight, channel_id)
    assert (state.channel.enabled, state.channel.disabled_reason) == (False, "gone")
    state = await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(name="x"))
    assert state.channel.disabled_reason == "gone"
    state = await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    assert (state.channel.enabled, state.channel.disabled_reason) == (True, None)
    assert state.tracking.error_count == 0
    assert [h.id for h in await claim(parts.store)] == [held.id]


async def test_a_cancelled_backlog_is_ended_and_later_ones_are_not(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight, enabled=False)).channel.id
    await waiting(parts, sight, channel_id)
    patch = ChannelPatch(enabled=True, backlog="cancel")
    await parts.channels.update(OPERATOR, sight, channel_id, patch)
    found = (await parts.log.deliveries(OPERATOR, sight, Page())).items
    assert [(d.status, d.last_error) for d in found] == [("cancelled", "backlog_cancelled")] * 3
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert (lane["cancelled_through"], lane["next_due_ms"]) == (None, None)
    later = await waiting(parts, sight, channel_id, 1)
    assert [held.id for held in await claim(parts.store)] == later


@pytest.mark.parametrize("patch", [{}, {"enabled": False}, {"name": "x"}])
async def test_a_backlog_is_cancelled_only_with_enabling(
    parts: Parts, patch: dict[str, Any]
) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    with pytest.raises(Invalid) as caught:
        await parts.channels.update(
            OPERATOR, sight, channel_id, ChannelPatch(backlog="cancel", **patch)
        )
    assert caught.value.problems[0].field == "backlog"


async def test_cancelling_the_backlog_of_an_enabled_channel_spares_the_new(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight, enabled=False)).channel.id
    await waiting(parts, sight, channel_id)
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(enabled=True))
    new = await waiting(parts, sight, channel_id, 1)
    patch = ChannelPatch(enabled=True, backlog="cancel")
    await parts.channels.update(OPERATOR, sight, channel_id, patch)
    assert [held.id for held in await claim(parts.store)] == new
    states = await rows(parts.store, "SELECT status FROM deliveries ORDER BY id")
    assert [row["status"] for row in states] == ["cancelled"] * 3 + ["waiting"]


async def test_a_deleted_channel_is_gone_and_cancels_what_waits(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    await waiting(parts, sight, channel_id)
    await parts.channels.delete(OPERATOR, sight, channel_id)
    with pytest.raises(NotFound):
        await parts.channels.get(OPERATOR, sight, channel_id)
    with pytest.raises(NotFound):
        await parts.channels.delete(OPERATOR, sight, channel_id)
    lane = await one(parts.store, "SELECT * FROM lanes")
    assert (lane["parked"], lane["next_due_ms"]) == ("deleted", None)
    found = (await parts.log.deliveries(OPERATOR, sight, Page())).items
    assert [(d.status, d.last_error) for d in found] == [("cancelled", "channel_deleted")] * 3
    stored = await one(parts.store, "SELECT sealed FROM channels")
    assert stored["sealed"] == b""


async def test_a_change_between_read_and_write_is_not_lost(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    raced = parts.store.write
    count = 0

    async def racing(work: Any) -> Any:
        nonlocal count
        count += 1
        if count == 1:
            await raced(
                lambda c: c.execute(sa.update(channels_table).values(version=5, name="r")).rowcount
            )
        return await raced(work)

    parts.store.write = racing  # type: ignore[method-assign]
    state = await parts.channels.update(
        OPERATOR, sight, channel_id, ChannelPatch(description="mine")
    )
    assert (state.channel.name, state.channel.description, state.channel.version) == (
        "r",
        "mine",
        6,
    )
    entries = (await parts.directory.audit(OPERATOR, sight, Page())).items
    assert [e.action for e in entries].count("channel.update") == 1


async def test_an_endless_race_is_a_conflict(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    raced = parts.store.write

    async def racing(work: Any) -> Any:
        bump = sa.update(channels_table).values(version=channels_table.c.version + 1)
        await raced(lambda c: c.execute(bump).rowcount)
        return await raced(work)

    parts.store.write = racing  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await parts.channels.rotate_secret(OPERATOR, sight, channel_id)
    # An update is merged in the transaction that writes it, so that nothing can come between.
    state = await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(name="x"))
    assert state.channel.name == "x"


async def test_of_many_changes_at_once_none_is_lost(parts: Parts) -> None:
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    await parts.channels.update(OPERATOR, sight, channel_id, ChannelPatch(event_types=[]))

    def with_type(name: str) -> Callable[[Channel], ChannelPatch]:
        return lambda today: ChannelPatch(event_types=[*today.event_types, name])

    names = [f"type{number}" for number in range(50)]
    changed = await asyncio.gather(
        *(parts.channels.update(OPERATOR, sight, channel_id, with_type(name)) for name in names)
    )
    for name, state in zip(names, changed, strict=True):
        assert name in state.channel.event_types
    found = await parts.channels.get(OPERATOR, sight, channel_id)
    assert sorted(found.channel.event_types) == sorted(names)
    assert found.channel.version == 52


async def test_a_target_that_a_race_makes_new_is_vetted_too(parts: Parts) -> None:
    """The URL is today's, so there is nothing to vet; then it is not any more."""
    sight = await parts.organization()
    channel_id = (await parts.channel(sight)).channel.id
    raced = parts.store.write
    other = ChannelPatch(settings={"url": "https://other.example/"})
    same = ChannelPatch(settings={"url": URL}, description="mine")

    async def racing(work: Any) -> Any:
        parts.store.write = raced  # type: ignore[method-assign]
        await parts.channels.update(OPERATOR, sight, channel_id, other)
        parts.vetted.clear()
        return await raced(work)

    parts.store.write = racing  # type: ignore[method-assign]
    state = await parts.channels.update(OPERATOR, sight, channel_id, same)
    assert parts.vetted == [URL]
    assert parts.channels.masked(state)[0]["url"] == URL
    assert state.channel.description == "mine"
